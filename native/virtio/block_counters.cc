#include "virtio/block_counters.h"

#include <algorithm>

namespace tsvmm {
namespace {

constexpr uint64_t kNsPerUs = 1000;
/// What an average shows before the first sample, as other monitors do.
constexpr uint64_t kNoAverage = UINT64_MAX / 10000;

struct Sum {
  uint64_t bytes = 0;
  uint64_t operations = 0;
  uint64_t latency_sum = 0;
  uint64_t latency_min = UINT64_MAX;
  uint64_t latency_max = 0;

  void add(const BlockCounters::Direction& direction) {
    bytes += direction.bytes.load(std::memory_order_relaxed);
    operations += direction.operations.load(std::memory_order_relaxed);
    latency_sum += direction.latency_sum.load(std::memory_order_relaxed);
    latency_min = std::min(latency_min, direction.latency_min.load(std::memory_order_relaxed));
    latency_max = std::max(latency_max, direction.latency_max.load(std::memory_order_relaxed));
  }
  [[nodiscard]] uint64_t min_us() const {
    return latency_min == UINT64_MAX ? UINT64_MAX : latency_min / kNsPerUs;
  }
  [[nodiscard]] uint64_t average_us() const {
    return operations == 0 ? kNoAverage : latency_sum / operations / kNsPerUs;
  }
};

/// For a field that only this thread writes.
void add_to(std::atomic<uint64_t>& field, uint64_t value) {
  field.store(field.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

}  // namespace

void BlockCounters::Direction::count(uint64_t byte_count, uint64_t latency_ns) noexcept {
  add_to(bytes, byte_count);
  add_to(operations, 1);
  add_to(latency_sum, latency_ns);
  if (latency_ns < latency_min.load(std::memory_order_relaxed)) latency_min = latency_ns;
  if (latency_ns > latency_max.load(std::memory_order_relaxed)) latency_max = latency_ns;
}

std::vector<Counter> summarize(const std::vector<std::unique_ptr<BlockCounters>>& queues) {
  Sum reads;
  Sum writes;
  for (const auto& queue : queues) {
    reads.add(queue->reads);
    writes.add(queue->writes);
  }
  return {{"read_bytes", reads.bytes},
          {"read_ops", reads.operations},
          {"read_latency_min", reads.min_us()},
          {"read_latency_max", reads.latency_max / kNsPerUs},
          {"read_latency_avg", reads.average_us()},
          {"write_bytes", writes.bytes},
          {"write_ops", writes.operations},
          {"write_latency_min", writes.min_us()},
          {"write_latency_max", writes.latency_max / kNsPerUs},
          {"write_latency_avg", writes.average_us()}};
}

}  // namespace tsvmm
