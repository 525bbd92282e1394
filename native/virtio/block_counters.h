#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "disk/disk_queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What one block queue has done. Written by the queue's thread, read by any.
class BlockCounters {
 public:
  /// Latencies are counted in classes: up to 1, 2, 4 ... 2^20 microseconds, and beyond.
  static constexpr size_t kClasses = 22;

  struct Direction {
    std::atomic<uint64_t> bytes = 0;
    std::atomic<uint64_t> operations = 0;            ///< that ended well
    std::atomic<uint64_t> errors = 0;                ///< operations that the host failed
    std::atomic<uint64_t> latency_sum = 0;           ///< ns
    std::atomic<uint64_t> latency_min = UINT64_MAX;  ///< ns
    std::atomic<uint64_t> latency_max = 0;           ///< ns
    std::array<std::atomic<uint64_t>, kClasses> latency_classes{};

    void count(uint64_t byte_count, uint64_t latency_ns) noexcept;
  };

  void count(DiskOperation::Kind kind, uint64_t bytes, uint64_t latency_ns) noexcept;
  void count_error(DiskOperation::Kind kind) noexcept;

 private:
  friend std::vector<Counter> summarize(const std::vector<std::unique_ptr<BlockCounters>>& queues);
  [[nodiscard]] Direction& direction_of(DiskOperation::Kind kind) noexcept;

  /// Reads, writes, flushes, and what discards or zeroes.
  std::array<Direction, 4> directions_;
};

/// The sum over a device's queues under the names that `vm.counters` shows, latencies in
/// microseconds. `<direction>_latency_le_<n>` counts the operations that took at most n us, as
/// Prometheus' histograms do; `<direction>_ops` is its last bucket. `<direction>_errors` counts
/// what the host failed.
std::vector<Counter> summarize(const std::vector<std::unique_ptr<BlockCounters>>& queues);

}  // namespace tsvmm
