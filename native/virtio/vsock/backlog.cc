#include "virtio/vsock/backlog.h"

#include <algorithm>
#include <cstring>

namespace tsvmm::vsock {

void Backlog::append(std::span<const iovec> pieces) {
  if (!bytes_) bytes_ = std::make_unique_for_overwrite<uint8_t[]>(capacity_);
  for (const iovec& piece : pieces) {
    const auto* from = static_cast<const uint8_t*>(piece.iov_base);
    const auto length = static_cast<uint32_t>(piece.iov_len);
    const uint32_t end = (begin_ + size_) % capacity_;
    const uint32_t before_wrap = std::min(length, capacity_ - end);
    std::memcpy(bytes_.get() + end, from, before_wrap);
    std::memcpy(bytes_.get(), from + before_wrap, length - before_wrap);
    size_ += length;
  }
}

std::array<iovec, 2> Backlog::front() const noexcept {
  const uint32_t before_wrap = std::min(size_, capacity_ - begin_);
  return {iovec{bytes_.get() + begin_, before_wrap}, iovec{bytes_.get(), size_ - before_wrap}};
}

void Backlog::consume(uint32_t bytes) noexcept {
  size_ -= bytes;
  begin_ = (begin_ + bytes) % capacity_;
  if (size_ != 0) return;
  begin_ = 0;
  bytes_.reset();
}

}  // namespace tsvmm::vsock
