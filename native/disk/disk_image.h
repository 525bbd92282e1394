#pragma once

#include <cstdint>
#include <memory>

#include "disk/disk_queue.h"

namespace tsvmm {

/// What a disk wants of its users, in bytes.
struct DiskLimits {
  uint32_t logical_block_size = 512;   ///< a power of two, at least 512
  uint32_t physical_block_size = 512;  ///< the same; what to prefer
  uint32_t discard_granularity = 0;    ///< a multiple of logical_block_size; 0: no discarding
  bool can_write_zeroes = false;
};

/// An open disk image of any format: a size, and queues that move its bytes. Shared by the queues
/// of one device.
class DiskImage {
 public:
  virtual ~DiskImage() = default;
  DiskImage() = default;
  DiskImage(const DiskImage&) = delete;
  DiskImage& operator=(const DiskImage&) = delete;

  /// Bytes that the guest sees. Any thread; changes with resize().
  [[nodiscard]] virtual uint64_t size() const noexcept = 0;
  [[nodiscard]] virtual DiskLimits limits() const noexcept = 0;

  /// `depth` is how many operations may be on the way. The image outlives its queues, each of which
  /// belongs to one thread at a time. Throws Error.
  [[nodiscard]] virtual std::unique_ptr<DiskQueue> make_queue(uint16_t depth) = 0;

  /// Gives the image another size, a multiple of 512. Any thread, while queues are at work: what
  /// they have on the way beyond a new end fails. Throws Error, also if the format cannot do it.
  virtual void resize(uint64_t bytes) = 0;
};

}  // namespace tsvmm
