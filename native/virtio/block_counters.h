#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "virtio/virtio_device.h"

namespace tsvmm {

/// What one block queue has done. Written by the queue's thread, read by any.
struct BlockCounters {
  struct Direction {
    std::atomic<uint64_t> bytes = 0;
    std::atomic<uint64_t> operations = 0;
    std::atomic<uint64_t> latency_sum = 0;           ///< ns
    std::atomic<uint64_t> latency_min = UINT64_MAX;  ///< ns
    std::atomic<uint64_t> latency_max = 0;           ///< ns

    void count(uint64_t byte_count, uint64_t latency_ns) noexcept;
  };
  Direction reads;
  Direction writes;
};

/// The sum over a device's queues under the names that `vm.counters` shows; latencies in
/// microseconds.
std::vector<Counter> summarize(const std::vector<std::unique_ptr<BlockCounters>>& queues);

}  // namespace tsvmm
