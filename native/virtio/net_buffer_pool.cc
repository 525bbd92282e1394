#include "virtio/net_buffer_pool.h"

#include <algorithm>

#include "net/net_backend.h"
#include "virtio/net_protocol.h"

namespace tsvmm {
namespace {

/// More buffers than the largest batch has a use for.
constexpr size_t kMaxBuffers = 2048;
/// What of a chain is used: more than any driver puts into one, and few enough for readv.
constexpr size_t kMaxBuffersPerChain = 128;

}  // namespace

NetBufferPool::NetBufferPool(SplitQueue& queue)
    : queue_(queue),
      capacity_(std::min<size_t>(queue.size(), kMaxBuffers)),
      entries_(std::make_unique_for_overwrite<Entry[]>(capacity_)),
      buffers_(std::make_unique_for_overwrite<iovec[]>(kMaxBuffers)) {}

NetBufferPool::Take NetBufferPool::take() noexcept {
  if (!make_room()) return Take::kFull;
  DescriptorChain chain;
  switch (queue_.pop(chain)) {
    case SplitQueue::Pop::kEmpty:
      return Take::kEmpty;
    case SplitQueue::Pop::kBroken:
      error_ = queue_.error();
      return Take::kBroken;
    case SplitQueue::Pop::kChain:
      break;
  }
  Entry entry{
      .head = chain.head, .count = 0, .first = static_cast<uint32_t>(buffers_end_), .capacity = 0};
  for (const GuestBuffer& buffer : chain.writable) {
    if (entry.count == kMaxBuffersPerChain) break;
    const auto size = static_cast<uint32_t>(
        std::min<size_t>(buffer.length, NetQueue::kMaxFrameSize - entry.capacity));
    if (size == 0) break;
    buffers_[buffers_end_++] = {buffer.host, size};
    entry.capacity += size;
    ++entry.count;
  }
  if (entry.capacity < virtio_net::kHeaderSize) {
    error_ = "a receive buffer has no room for a header";
    return Take::kBroken;
  }
  entries_[end_++] = entry;
  return Take::kTaken;
}

NetBufferPool::Chain NetBufferPool::chain(size_t index) const noexcept {
  const Entry& entry = entries_[begin_ + index];
  return {entry.head, entry.capacity, std::span(&buffers_[entry.first], entry.count)};
}

std::span<const iovec> NetBufferPool::buffers(size_t index, size_t count) const noexcept {
  const Entry& first = entries_[begin_ + index];
  const Entry& last = entries_[begin_ + index + count - 1];
  return std::span(&buffers_[first.first], last.first + last.count - first.first);
}

void NetBufferPool::remove(size_t count) noexcept {
  begin_ += count;
  if (begin_ != end_) return;
  begin_ = 0;
  end_ = 0;
  buffers_end_ = 0;
}

bool NetBufferPool::make_room() noexcept {
  const auto has_room = [this] {
    return end_ < capacity_ && buffers_end_ + kMaxBuffersPerChain <= kMaxBuffers;
  };
  if (has_room()) return true;
  if (begin_ == 0) return false;
  // Everything moves to the front.
  const uint32_t gap = entries_[begin_].first;
  std::copy(&buffers_[gap], buffers_.get() + buffers_end_, buffers_.get());
  buffers_end_ -= gap;
  std::copy(&entries_[begin_], entries_.get() + end_, entries_.get());
  end_ -= begin_;
  begin_ = 0;
  for (size_t i = 0; i < end_; ++i) entries_[i].first -= gap;
  return has_room();
}

}  // namespace tsvmm
