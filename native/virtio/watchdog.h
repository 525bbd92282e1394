#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/event_loop.h"
#include "core/monotonic.h"
#include "core/timer.h"
#include "virtio/loop_teardown.h"
#include "virtio/queue_server.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What a guest sees of a watchdog.
struct WatchdogState {
  bool is_fed = false;  ///< the guest has begun, and must go on
};

/// A watchdog (virtio id 35): the guest posts one-byte buffers, the device returns them with the
/// value 1. From the first on, too long a time without one asks for a reset of the machine.
class VirtioWatchdog : public VirtioDevice {
 public:
  static constexpr VirtioType kType{.id = 35};

  struct Timing {
    std::chrono::milliseconds check_period{15'000};
    std::chrono::milliseconds timeout{20'000};
    uint64_t (*now_ns)() noexcept = monotonic_ns;
  };

  /// `expired` runs on the loop's thread, once per activation at most.
  VirtioWatchdog(EventLoop& loop, std::function<void()> expired, Timing timing);
  VirtioWatchdog(EventLoop& loop, std::function<void()> expired)
      : VirtioWatchdog(loop, std::move(expired), Timing{}) {}
  ~VirtioWatchdog() override;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  /// The time spent paused does not count.
  void resume() noexcept override;
  void save(CborWriter& state) const override;
  /// A guest that had begun to feed has the whole time again.
  void restore(Fields& state) override;

 private:
  void begin_watching() noexcept;
  [[nodiscard]] std::optional<uint32_t> feed(const DescriptorChain& chain) noexcept;
  void check() noexcept;

  EventLoop& loop_;
  const std::function<void()> expired_;
  const Timing timing_;
  std::optional<Timer> timer_;           ///< while active
  WatchdogState state_;                  ///< the loop's thread's while active
  std::atomic<uint64_t> last_fed_ = 0;   ///< monotonic ns
  std::unique_ptr<QueueServer> server_;  ///< while active
  LoopTeardown teardown_;
};

}  // namespace tsvmm
