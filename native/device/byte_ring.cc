#include "device/byte_ring.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace tsvmm {

void ByteRing::append(std::span<const uint8_t> bytes) {
  // Not zeroed: pages of the ring that no byte has reached yet take no memory.
  if (!bytes_) bytes_.reset(new (std::nothrow) uint8_t[capacity_]);
  if (!bytes_) return;
  if (bytes.size() > capacity_) {
    end_ += bytes.size() - capacity_;
    bytes = bytes.last(capacity_);
  }
  while (!bytes.empty()) {
    const size_t at = end_ % capacity_;
    const size_t count = std::min(bytes.size(), capacity_ - at);
    std::memcpy(&bytes_[at], bytes.data(), count);
    bytes = bytes.subspan(count);
    end_ += count;
  }
  if (unread() > capacity_) rewind();
}

std::span<const uint8_t> ByteRing::at(uint64_t position) const {
  const auto left = static_cast<size_t>(end_ - position);
  if (left == 0) return {};
  const size_t index = position % capacity_;
  return {&bytes_[index], std::min(left, capacity_ - index)};
}

}  // namespace tsvmm
