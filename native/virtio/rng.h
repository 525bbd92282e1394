#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "virtio/loop_teardown.h"
#include "virtio/queue_server.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// A virtio entropy device (virtio 1.2 §5.4) that reads its bytes from a descriptor such as
/// /dev/urandom.
class VirtioRng : public VirtioDevice {
 public:
  static constexpr VirtioType kType{.id = 4};

  /// `source_fd` is the caller's and duplicated. It is read on `loop` if it is the kernel's own
  /// generator, which never waits, and else on a thread of the device's own, named `id`. Throws
  /// Error.
  VirtioRng(int source_fd, EventLoop& loop, const std::string& id);
  ~VirtioRng() override;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  void begin_pause() noexcept override;
  [[nodiscard]] bool wait_paused(const Deadline& deadline) override;
  void resume() noexcept override;
  [[nodiscard]] const char* waits_for() const noexcept override {
    return "the source of random bytes does not answer";
  }
  [[nodiscard]] std::vector<Counter> counters() const override;

 private:
  [[nodiscard]] std::optional<uint32_t> fill(const DescriptorChain& chain) noexcept;

  [[nodiscard]] bool source_is_ready() noexcept;
  void watch_source() noexcept;

  UniqueFd source_;
  const std::unique_ptr<EventLoop> own_loop_;  ///< nullptr if the source never waits
  EventLoop& loop_;
  std::atomic<uint64_t> requests_ = 0;
  std::atomic<uint64_t> bytes_ = 0;
  std::unique_ptr<QueueServer> server_;  ///< while active
  bool watches_ = false;                 ///< the source, while active
  LoopTeardown teardown_;
};

}  // namespace tsvmm
