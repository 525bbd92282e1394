#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "virtio/queue.h"

namespace tsvmm {

/// Copies the first bytes of a chain's readable buffers, however the driver split them, before any
/// of them is looked at. Returns how many there were, at most into.size().
inline size_t gather(std::span<const GuestBuffer> from, std::span<uint8_t> into) noexcept {
  size_t copied = 0;
  for (const GuestBuffer& buffer : from) {
    const size_t part = std::min<size_t>(buffer.length, into.size() - copied);
    if (part == 0) break;
    std::memcpy(into.data() + copied, buffer.host, part);
    copied += part;
  }
  // The copy is what is checked and used: keeps the compiler from reading guest memory once more.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return copied;
}

/// Copies `bytes` to a chain's writable buffers, as far as those reach. Returns how many went.
inline uint32_t scatter(std::span<const uint8_t> bytes, std::span<const GuestBuffer> to) noexcept {
  size_t copied = 0;
  for (const GuestBuffer& buffer : to) {
    const size_t part = std::min<size_t>(buffer.length, bytes.size() - copied);
    if (part == 0) break;
    std::memcpy(buffer.host, bytes.data() + copied, part);
    copied += part;
  }
  return static_cast<uint32_t>(copied);
}

/// The length of all buffers.
inline uint64_t total_length(std::span<const GuestBuffer> buffers) noexcept {
  uint64_t total = 0;
  for (const GuestBuffer& buffer : buffers) total += buffer.length;
  return total;
}

}  // namespace tsvmm
