#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "disk/disk_queue.h"
#include "disk/sync_io.h"

namespace tsvmm {

/// Moves `bytes` to the operation's buffers.
inline void fill_from(DiskOperation& operation, std::span<const uint8_t> bytes) noexcept {
  while (!bytes.empty()) {
    const iovec& front = operation.buffers.front();
    const size_t size = std::min(front.iov_len, bytes.size());
    std::memcpy(front.iov_base, bytes.data(), size);
    bytes = bytes.subspan(size);
    advance(operation, size);
  }
}

/// Puts zeros into the operation's next `bytes` bytes.
inline void fill_with_zeros(DiskOperation& operation, uint64_t bytes) noexcept {
  while (bytes != 0) {
    const iovec& front = operation.buffers.front();
    const size_t size = std::min<uint64_t>(front.iov_len, bytes);
    std::memset(front.iov_base, 0, size);
    bytes -= size;
    advance(operation, size);
  }
}

/// Appends what covers the operation's next `bytes` bytes to `pieces`, with at most `most` of them
/// in all, without taking it off the operation. How many bytes that are.
inline uint64_t copy_front(const DiskOperation& operation, uint64_t bytes, size_t most,
                           std::vector<iovec>& pieces) {
  uint64_t covered = 0;
  for (const iovec& buffer : operation.buffers) {
    if (covered == bytes || pieces.size() >= most) break;
    const size_t size = std::min<uint64_t>(buffer.iov_len, bytes - covered);
    pieces.push_back({buffer.iov_base, size});
    covered += size;
  }
  return covered;
}

}  // namespace tsvmm
