#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <ctime>
#include <memory>
#include <span>
#include <vector>

#include "core/event_loop.h"
#include "virtio/loop_teardown.h"
#include "virtio/queue_server.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// A virtio clock, called rtc by its specification (device id 17, virtio 1.4 draft, "RTC device"):
/// the host's clocks for a guest to read. Without alarms and cross-timestamps.
class VirtioClock : public VirtioDevice {
 public:
  static constexpr VirtioType kType{.id = 17};

  /// Types of clocks, as the protocol numbers them.
  enum class Type : uint8_t { kUtc = 0, kTai = 1, kMonotonic = 2 };
  struct Clock {
    Type type;
    clockid_t id;
  };

  /// The host's; TAI only if the host knows how far that is from UTC.
  static std::vector<Clock> host_clocks();

  explicit VirtioClock(EventLoop& loop, std::vector<Clock> clocks = host_clocks());
  ~VirtioClock() override;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  [[nodiscard]] std::vector<Counter> counters() const override;

 private:
  /// Any request and any response fit; the rest of each is zero.
  using Message = std::array<uint8_t, 24>;
  struct Response {
    Message bytes{};
    size_t size;
  };

  uint32_t answer(const DescriptorChain& chain) noexcept;
  [[nodiscard]] Response carry_out(std::span<const uint8_t> request) noexcept;
  [[nodiscard]] Response read_clock(const Clock& clock) noexcept;

  EventLoop& loop_;
  const std::vector<Clock> clocks_;
  std::atomic<uint64_t> readings_ = 0;
  std::atomic<uint64_t> refused_ = 0;
  std::unique_ptr<QueueServer> server_;  ///< while active
  LoopTeardown teardown_;
};

}  // namespace tsvmm
