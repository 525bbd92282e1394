#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "disk/disk_queue.h"
#include "virtio/block_protocol.h"
#include "virtio/queue.h"

namespace tsvmm {

/// The ranges of a discard or write-zeroes request, done one after the other.
struct BlockRanges {
  std::array<virtio_block::RangeSegment, virtio_block::kMaxSegments> segments;
  uint32_t count = 0;
  uint32_t next = 0;
  uint64_t size = 0;  ///< bytes of all of them
};

/// A block request while it is on the way. Slots are reused; a read or write of ordinary size
/// allocates nothing.
struct BlockRequest : DiskOperation {
  static constexpr size_t kInlineBuffers = 16;

  /// Takes a chain apart, wherever the driver cut it into buffers (virtio 1.2 §2.7.4): header, data
  /// and status. nullptr on success, else why the chain is no request and cannot even be answered.
  [[nodiscard]] const char* parse(const DescriptorChain& chain) noexcept;
  /// Buffers that parse() would have to allocate for this chain.
  [[nodiscard]] static size_t extra_buffers(const DescriptorChain& chain) noexcept;
  /// Writes the status byte and returns how many bytes the device has written in all.
  uint32_t answer(uint8_t status) noexcept;
  /// Replaces the last sector of a write's data by a copy, which the guest cannot change any more.
  /// nullptr if there is no memory for that.
  [[nodiscard]] const uint8_t* copy_last_sector() noexcept;
  /// The bytes that it moves between the disk and memory.
  [[nodiscard]] uint64_t transfer_size() const noexcept {
    const bool transfers =
        header.type == virtio_block::kRequestIn || header.type == virtio_block::kRequestOut;
    return transfers ? data_length : 0;
  }

  virtio_block::RequestHeader header{};
  uint16_t head = 0;
  uint64_t data_length = 0;   ///< bytes
  uint32_t data_written = 0;  ///< bytes that the device has put into data buffers
  size_t extra = 0;           ///< allocated buffers
  uint64_t started = 0;       ///< monotonic ns
  std::span<iovec> data;      ///< of the direction that `header.type` has
  std::unique_ptr<BlockRanges> ranges;

 private:
  [[nodiscard]] bool reserve(size_t count) noexcept;
  void add(uint8_t* bytes, size_t size) noexcept;

  uint8_t* status_ = nullptr;
  size_t used_ = 0;
  std::array<iovec, kInlineBuffers> inline_;
  std::unique_ptr<iovec[]> large_;
  std::unique_ptr<std::array<uint8_t, virtio_block::kSectorSize>> last_sector_;
  iovec* buffers_ = nullptr;
};

}  // namespace tsvmm
