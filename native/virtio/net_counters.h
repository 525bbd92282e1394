#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "virtio/virtio_device.h"

namespace tsvmm {

/// What one pair of queues has moved. Written by the pair's thread, read by any.
struct NetCounters {
  struct Direction {
    std::atomic<uint64_t> bytes = 0;  ///< of frames, without virtio headers
    std::atomic<uint64_t> frames = 0;
    std::atomic<uint64_t> drops = 0;    ///< frames that were lost here
    std::atomic<uint64_t> batches = 0;  ///< what frames were moved in together

    /// A frame that went its way.
    void frame(uint64_t byte_count) noexcept;
    void drop() noexcept;
    void batch() noexcept;
  };
  Direction received;  ///< by the guest
  Direction sent;
};

/// The sum over a device's pairs under the names that `vm.counters` shows.
std::vector<Counter> summarize(const std::vector<std::unique_ptr<NetCounters>>& pairs);

}  // namespace tsvmm
