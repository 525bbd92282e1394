#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hypervisor/vcpu_statistics.h"

namespace tsvmm {

/// How often a vCPU came back to this process, by what for. The vCPU's thread counts, and has these
/// cache lines to itself; anybody reads.
class alignas(64) ExitCounters {
 public:
  enum class Kind : uint8_t { kPort, kMmio, kInterruptEnd, kKick, kDebug, kOther };
  static constexpr std::array<const char*, 6> kNames{"port", "mmio",  "eoi",
                                                     "kick", "debug", "other"};

  /// By one thread: no read-modify-write that others could see is needed.
  void add(Kind kind) noexcept {
    std::atomic<uint64_t>& counter = counts_[static_cast<size_t>(kind)];
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  [[nodiscard]] std::vector<VcpuStatistics::Value> read() const {
    std::vector<VcpuStatistics::Value> values;
    for (size_t i = 0; i < kNames.size(); ++i) {
      values.push_back({.name = kNames[i], .value = counts_[i].load(std::memory_order_relaxed)});
    }
    return values;
  }

 private:
  std::array<std::atomic<uint64_t>, kNames.size()> counts_{};
};

}  // namespace tsvmm
