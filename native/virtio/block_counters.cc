#include "virtio/block_counters.h"

#include <algorithm>
#include <bit>
#include <string>

namespace tsvmm {
namespace {

constexpr uint64_t kNsPerUs = 1000;

constexpr std::array<const char*, 4> kDirections{"read", "write", "flush", "discard"};

/// The first class whose bound, 2^class us, is not less than the latency.
size_t latency_class(uint64_t latency_ns) {
  const uint64_t us = (latency_ns + kNsPerUs - 1) / kNsPerUs;
  const auto number = us <= 1 ? 0 : static_cast<size_t>(std::bit_width(us - 1));
  return std::min(number, BlockCounters::kClasses - 1);
}

struct Sum {
  uint64_t bytes = 0;
  uint64_t operations = 0;
  uint64_t errors = 0;
  uint64_t latency_sum = 0;
  uint64_t latency_min = UINT64_MAX;
  uint64_t latency_max = 0;
  std::array<uint64_t, BlockCounters::kClasses> classes{};

  void add(const BlockCounters::Direction& direction) {
    bytes += direction.bytes.load(std::memory_order_relaxed);
    operations += direction.operations.load(std::memory_order_relaxed);
    errors += direction.errors.load(std::memory_order_relaxed);
    latency_sum += direction.latency_sum.load(std::memory_order_relaxed);
    latency_min = std::min(latency_min, direction.latency_min.load(std::memory_order_relaxed));
    latency_max = std::max(latency_max, direction.latency_max.load(std::memory_order_relaxed));
    for (size_t i = 0; i < classes.size(); ++i) {
      classes[i] += direction.latency_classes[i].load(std::memory_order_relaxed);
    }
  }
};

/// The names of one direction's counters, which live as long as the program.
struct Names {
  explicit Names(const std::string& direction)
      : bytes(direction + "_bytes"),
        operations(direction + "_ops"),
        errors(direction + "_errors"),
        latency_min(direction + "_latency_min"),
        latency_max(direction + "_latency_max"),
        latency_avg(direction + "_latency_avg"),
        latency_sum(direction + "_latency_sum") {
    for (size_t i = 0; i < latency_le.size(); ++i) {
      latency_le[i] = direction + "_latency_le_" + std::to_string(uint64_t{1} << i);
    }
  }
  std::string bytes;
  std::string operations;
  std::string errors;
  std::string latency_min;
  std::string latency_max;
  std::string latency_avg;
  std::string latency_sum;
  std::array<std::string, BlockCounters::kClasses - 1> latency_le;
};

void append(std::vector<Counter>& counters, const Names& names, const Sum& sum) {
  counters.insert(counters.end(), {{names.bytes.c_str(), sum.bytes},
                                   {names.operations.c_str(), sum.operations},
                                   {names.errors.c_str(), sum.errors},
                                   {names.latency_sum.c_str(), sum.latency_sum / kNsPerUs}});
  // Of nothing there is no least, largest and average. Another thread counts one after the other.
  if (sum.operations != 0 && sum.latency_min != UINT64_MAX) {
    counters.insert(counters.end(),
                    {{names.latency_min.c_str(), sum.latency_min / kNsPerUs},
                     {names.latency_max.c_str(), sum.latency_max / kNsPerUs},
                     {names.latency_avg.c_str(), sum.latency_sum / sum.operations / kNsPerUs}});
  }
  uint64_t up_to = 0;
  for (size_t i = 0; i < names.latency_le.size(); ++i) {
    up_to += sum.classes[i];
    counters.push_back({names.latency_le[i].c_str(), up_to});
  }
}

/// For a field that only this thread writes.
void add_to(std::atomic<uint64_t>& field, uint64_t value) {
  field.store(field.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

}  // namespace

void BlockCounters::Direction::count(uint64_t byte_count, uint64_t latency_ns) noexcept {
  add_to(bytes, byte_count);
  add_to(operations, 1);
  add_to(latency_sum, latency_ns);
  add_to(latency_classes[latency_class(latency_ns)], 1);
  if (latency_ns < latency_min.load(std::memory_order_relaxed)) latency_min = latency_ns;
  if (latency_ns > latency_max.load(std::memory_order_relaxed)) latency_max = latency_ns;
}

void BlockCounters::count(DiskOperation::Kind kind, uint64_t bytes, uint64_t latency_ns) noexcept {
  direction_of(kind).count(bytes, latency_ns);
}

void BlockCounters::count_error(DiskOperation::Kind kind) noexcept {
  add_to(direction_of(kind).errors, 1);
}

BlockCounters::Direction& BlockCounters::direction_of(DiskOperation::Kind kind) noexcept {
  // Discards and zeroes are one direction.
  return directions_[std::min(static_cast<size_t>(kind), directions_.size() - 1)];
}

std::vector<Counter> summarize(const std::vector<std::unique_ptr<BlockCounters>>& queues) {
  static const std::array<Names, kDirections.size()> kNames{
      Names(kDirections[0]), Names(kDirections[1]), Names(kDirections[2]), Names(kDirections[3])};
  std::vector<Counter> counters;
  for (size_t i = 0; i < kNames.size(); ++i) {
    Sum sum;
    for (const auto& queue : queues) sum.add(queue->directions_[i]);
    append(counters, kNames[i], sum);
  }
  return counters;
}

}  // namespace tsvmm
