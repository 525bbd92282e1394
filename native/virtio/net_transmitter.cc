#include "virtio/net_transmitter.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "core/monotonic.h"
#include "net/io_vectors.h"
#include "virtio/chain_bytes.h"
#include "virtio/net_protocol.h"

namespace tsvmm {
NetTransmitter::NetTransmitter(const GuestMemory& memory, const VirtqueueSetup& setup,
                               uint64_t features, NetQueue& network, RateLimiter* limiter,
                               NetCounters::Direction& counters)
    : queue_(memory, setup, features),
      interrupt_(*setup.interrupt),
      network_(network),
      limiter_(limiter),
      counters_(counters) {}

NetTransmitter::Turn NetTransmitter::run(size_t max_bytes) noexcept {
  count_ = 0;
  bytes_ = 0;
  used_buffers_ = 0;
  Turn turn = collect(max_bytes);
  if (count_ != 0) {
    const size_t taken = network_.send(std::span(frames_).first(count_));
    finish(taken);
    if (taken < count_ && turn != Turn::kBroken) turn = Turn::kBlocked;
  }
  // Frames that were dropped show here as well.
  if (queue_.publish()) interrupt_.trigger();
  return turn;
}

NetTransmitter::Turn NetTransmitter::collect(size_t max_bytes) noexcept {
  DescriptorChain chain;
  // What is dropped counts as well: a turn has an end.
  for (size_t i = 0; i < NetQueue::kMaxBatch; ++i) {
    switch (queue_.pop(chain)) {
      case SplitQueue::Pop::kBroken:
        return Turn::kBroken;
      case SplitQueue::Pop::kEmpty:
        return count_ == 0 && i == 0 ? Turn::kEmpty : Turn::kMore;
      case SplitQueue::Pop::kChain:
        break;
    }
    const size_t before = count_;
    const Turn turn = add(chain);
    if (turn != Turn::kMore) return turn;
    if (count_ == before && count_ != 0) return Turn::kMore;
    if (bytes_ >= max_bytes) return Turn::kMore;
  }
  return Turn::kMore;
}

/// Adds a frame to the batch, or puts it back for the next one. Buffers that the device could write
/// to have no meaning here (§5.1.6.2) and are left alone.
NetTransmitter::Turn NetTransmitter::add(const DescriptorChain& chain) noexcept {
  const uint64_t size = total_length(chain.readable);
  const bool valid = size > virtio_net::kHeaderSize && size <= NetQueue::kMaxFrameSize;
  const bool fits = chain.readable.size() <= kMaxBuffers - used_buffers_;
  // Only the last chains that were taken can be put back, so what is not sent ends a batch.
  if (count_ != 0 && (!valid || !fits)) {
    queue_.undo_pop();
    return Turn::kMore;
  }
  if (!valid) {
    drop(chain);
    return Turn::kMore;
  }
  if (!admitted(size)) {
    queue_.undo_pop();
    return Turn::kLimited;
  }
  const std::span<const iovec> buffers = gather(chain, size);
  if (buffers.empty()) {
    drop(chain);
    return Turn::kMore;
  }
  frames_[count_] = {.buffers = buffers};
  heads_[count_] = chain.head;
  ++count_;
  bytes_ += size;
  return Turn::kMore;
}

std::span<const iovec> NetTransmitter::gather(const DescriptorChain& chain, size_t size) noexcept {
  if (chain.readable.size() > kMaxBuffers) {
    if (!flat_) flat_.reset(new (std::nothrow) uint8_t[NetQueue::kMaxFrameSize]);
    if (!flat_) return {};
    size_t done = 0;
    for (const GuestBuffer& buffer : chain.readable) {
      std::memcpy(flat_.get() + done, buffer.host, buffer.length);
      done += buffer.length;
    }
    buffers_[0] = {flat_.get(), size};
    used_buffers_ = kMaxBuffers;  // The batch ends here: there is only one such piece of memory.
    return std::span(buffers_).first(1);
  }
  const size_t first = used_buffers_;
  for (const GuestBuffer& buffer : chain.readable) {
    const iovec vector{buffer.host, buffer.length};
    if (used_buffers_ != first && extend_vector(buffers_[used_buffers_ - 1], vector)) continue;
    buffers_[used_buffers_++] = vector;
  }
  return std::span(buffers_).subspan(first, used_buffers_ - first);
}

void NetTransmitter::drop(const DescriptorChain& chain) noexcept {
  counters_.drop();
  queue_.push_used(chain.head, 0);
}

bool NetTransmitter::admitted(size_t size) noexcept {
  if (limiter_ == nullptr) return true;
  limited_ns_ = limiter_->admit(size - virtio_net::kHeaderSize, monotonic_ns());
  return limited_ns_ == 0;
}

void NetTransmitter::finish(size_t taken) noexcept {
  counters_.batch();
  for (size_t i = 0; i < taken; ++i) {
    const int32_t result = frames_[i].result;
    if (result > 0) {
      counters_.frame(static_cast<uint64_t>(result) - virtio_net::kHeaderSize);
    } else {
      counters_.drop();
    }
    queue_.push_used(heads_[i], 0);
  }
  for (size_t i = taken; i < count_; ++i) queue_.undo_pop();
}

}  // namespace tsvmm
