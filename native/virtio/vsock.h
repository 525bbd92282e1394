#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "virtio/loop_teardown.h"
#include "virtio/virtio_device.h"
#include "virtio/vsock/counters.h"

namespace tsvmm {

namespace vsock {
class GuestLink;
}

/// A virtio socket device (virtio 1.2 §5.10) whose host end are UNIX stream sockets.
///
/// A client of the listening socket says "CONNECT <port>" and a line feed, and is connected to the
/// guest's listener at that port: it gets "OK <its own port>" and a line feed, or is closed. A
/// connection of the guest to the host's port P goes to the socket `path`_P if the user owns that.
///
/// Its thread is made at the first activation. While the guest has no driver for the device,
/// clients wait in the listener's queue.
class VirtioVsock final : public VirtioDevice {
 public:
  static constexpr VirtioType kType{.id = 19};

  struct Options {
    std::string id;
    uint32_t guest_cid = 0;
    int listener = -1;  ///< a listening UNIX stream socket, the caller's; duplicated
    std::string path;
    bool any_owner = false;  ///< connects to sockets `path`_P of other users, too
    /// How long a client may take with its line, the guest or a busy host program to accept, and
    /// one end of a closing stream to take notice.
    std::chrono::nanoseconds timeout = std::chrono::seconds(2);
  };

  /// Throws Error if `listener` cannot be listened on.
  explicit VirtioVsock(Options options);
  ~VirtioVsock() override;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  [[nodiscard]] uint32_t config_size() const noexcept override;
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  void begin_pause() noexcept override;
  [[nodiscard]] bool wait_paused(const Deadline& deadline) override;
  void resume() noexcept override;
  /// The streams' ends on the host cannot be kept: the guest that goes on is told by an event that
  /// its transport was reset (§5.10.6.7).
  void save(CborWriter& state) const override;
  void restore(Fields& state) override;
  [[nodiscard]] bool try_close(const Deadline& deadline) noexcept override;
  [[nodiscard]] std::vector<Counter> counters() const override;

  /// The guest goes on elsewhere or from a stored state: its streams are gone, which it is told by
  /// an event (§5.10.6.7).
  void reset_transport();

 private:
  const Options options_;
  UniqueFd listener_;  ///< until it is closed
  vsock::Counters counters_;
  std::unique_ptr<EventLoop> loop_;          ///< from the first activation on
  std::unique_ptr<vsock::GuestLink> link_;   ///< while active
  std::shared_ptr<EventLoop::Job> holding_;  ///< of a pause, until the end of it
  bool streams_lost_ = false;                ///< which is to be told at the next activation
  LoopTeardown teardown_;
};

}  // namespace tsvmm
