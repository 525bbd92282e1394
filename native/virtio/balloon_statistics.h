#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/event_loop.h"
#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What a guest last told of its memory (virtio 1.2 §5.5.6.3). Thread-safe.
class BalloonStatistics {
 public:
  static constexpr size_t kTags = 16;
  /// A tag and a value, packed.
  static constexpr size_t kEntrySize = 10;

  /// Takes over what the guest wrote, of any length and with any tags.
  void record(std::span<const uint8_t> entries, uint64_t now_ns) noexcept;
  /// What is known, as a guest would write it: record() takes it. Empty if nothing is.
  [[nodiscard]] std::vector<uint8_t> entries() const;
  /// How old that is; 0 if nothing is known.
  [[nodiscard]] uint64_t age_ns(uint64_t now_ns) const;
  /// Appends what is known, and how old it is.
  void append_to(std::vector<Counter>& counters, uint64_t now_ns) const;
  /// True if nothing is known, or nothing newer than `age_ns`.
  [[nodiscard]] bool older_than(uint64_t age_ns, uint64_t now_ns) const;

 private:
  mutable std::mutex mutex_;
  std::array<std::optional<uint64_t>, kTags> values_;
  std::optional<uint64_t> recorded_ns_;
};

/// Their queue: the guest fills a buffer, which the device keeps until somebody requests
/// newer values; then it goes back, and the guest fills it anew.
class BalloonStatisticsQueue {
 public:
  /// `held`: the head of the guest's buffer that is here, already perhaps; the loop's thread
  /// changes it. Throws Error.
  BalloonStatisticsQueue(EventLoop& loop, const Activation& activation, const VirtqueueSetup& setup,
                         VirtioTransport& transport, BalloonStatistics& statistics,
                         std::optional<uint16_t>& held);
  /// The loop must be running or stopped, not paused.
  ~BalloonStatisticsQueue();
  BalloonStatisticsQueue(const BalloonStatisticsQueue&) = delete;
  BalloonStatisticsQueue& operator=(const BalloonStatisticsQueue&) = delete;

  /// Asks the guest for new values, without waiting for them. Any thread.
  void request() noexcept;

 private:
  void serve() noexcept;
  void take_buffer() noexcept;

  EventLoop& loop_;
  VirtioTransport& transport_;
  BalloonStatistics& statistics_;
  const EventFd& doorbell_;
  VirtqueueInterrupt& interrupt_;
  SplitQueue queue_;
  std::optional<uint16_t>& held_;
  std::atomic<bool> wanted_ = false;
};

}  // namespace tsvmm
