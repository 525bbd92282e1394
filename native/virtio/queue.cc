#include "virtio/queue.h"

#include <bit>
#include <cstring>
#include <string>

#include "core/error.h"

namespace tsvmm {
namespace {

// virtio 1.2 §2.7.5, §2.7.6, §2.7.8.
constexpr uint16_t kDescriptorNext = 1;
constexpr uint16_t kDescriptorWrite = 2;
constexpr uint16_t kDescriptorIndirect = 4;
constexpr uint16_t kAvailableNoInterrupt = 1;
constexpr uint16_t kUsedNoNotify = 1;

constexpr uint32_t kDescriptorSize = 16;
constexpr uint16_t kMaxQueueSize = 32768;

// Both rings begin with 16-bit flags and index.
constexpr size_t kFlags = 0;
constexpr size_t kIndex = 1;
constexpr size_t kRing = 2;

template <typename T>
std::atomic_ref<T> shared(T& field) {
  return std::atomic_ref<T>(field);
}

}  // namespace

SplitQueue::SplitQueue(const GuestMemory& memory, const VirtqueueConfig& config, uint64_t features,
                       SplitQueueState& state)
    : memory_(memory),
      size_(config.size),
      event_index_((features & virtio_feature::kEventIndex) != 0),
      indirect_((features & virtio_feature::kIndirectDescriptors) != 0),
      state_(state),
      seen_available_(state.next_available),
      published_used_(state.next_used) {
  if (!std::has_single_bit(size_) || size_ > kMaxQueueSize) {
    throw Error("EINVAL",
                "queue size " + std::to_string(size_) + " is not a power of two up to 32768");
  }
  // Alignment and sizes: §2.7. The last word of each ring is the other side's event index.
  descriptors_ =
      ring(config.descriptor_table, uint64_t{kDescriptorSize} * size_, 16, "descriptor table");
  available_ = reinterpret_cast<uint16_t*>(
      ring(config.available_ring, 6 + uint64_t{2} * size_, 2, "available ring"));
  used_ =
      reinterpret_cast<uint16_t*>(ring(config.used_ring, 6 + uint64_t{8} * size_, 4, "used ring"));
  buffers_.resize(size_);
}

uint8_t* SplitQueue::ring(GuestAddress address, uint64_t length, uint64_t alignment,
                          const char* name) const {
  const auto bytes = memory_.slice(address, length);
  if (!bytes || address % alignment != 0) {
    throw Error("EINVAL", std::string(name) + " is misaligned or outside guest memory");
  }
  return bytes->data();
}

bool SplitQueue::broken(const char* reason) noexcept {
  error_ = reason;
  return false;
}

bool SplitQueue::chains_available() noexcept {
  if (seen_available_ != state_.next_available) return true;
  // Acquire: the ring entries and descriptors that the index announces are read after it.
  seen_available_ = shared(available_[kIndex]).load(std::memory_order_acquire);
  return seen_available_ != state_.next_available;
}

SplitQueue::Pop SplitQueue::pop(DescriptorChain& chain) noexcept {
  if (error_ != nullptr) return Pop::kBroken;
  if (!chains_available()) return Pop::kEmpty;
  const auto distance = static_cast<uint16_t>(seen_available_ - state_.next_available);
  if (distance > size_) {
    (void)broken("available index is more than the queue size ahead");
    return Pop::kBroken;
  }
  const size_t slot = state_.next_available & (size_ - 1);
  const uint16_t head = shared(available_[kRing + slot]).load(std::memory_order_relaxed);
  if (!collect(head, chain)) return Pop::kBroken;
  ++state_.next_available;
  return Pop::kChain;
}

bool SplitQueue::collect(uint16_t head, DescriptorChain& chain) noexcept {
  Table table{descriptors_, size_};
  bool in_indirect = false;
  uint32_t index = head;
  uint32_t readable = 0;
  uint32_t writable = 0;
  // A chain, indirect descriptors included, has at most as many buffers as the queue has entries
  // (§2.7.5.3.1), so a loop in it ends here as well. The one descriptor that refers to an indirect
  // table comes on top.
  for (uint32_t seen = 0; seen < size_;) {
    if (index >= table.entries) return broken("descriptor index is out of range");
    const Descriptor descriptor = copy_descriptor(table, index);
    if ((descriptor.flags & kDescriptorIndirect) != 0) {
      if (in_indirect) return broken("indirect descriptor inside an indirect table");
      if (!enter_indirect(descriptor, table)) return false;
      in_indirect = true;
      index = 0;
      continue;
    }
    ++seen;
    if (!add_buffer(descriptor, readable, writable)) return false;
    if ((descriptor.flags & kDescriptorNext) == 0) {
      const std::span<const GuestBuffer> all(buffers_.data(), readable + writable);
      chain = {head, all.first(readable), all.subspan(readable)};
      return true;
    }
    index = descriptor.next;
  }
  return broken("descriptor chain is longer than the queue");
}

SplitQueue::Descriptor SplitQueue::copy_descriptor(const Table& table, uint32_t index) noexcept {
  Descriptor descriptor;
  static_assert(sizeof descriptor == kDescriptorSize);
  std::memcpy(&descriptor, table.host + uint64_t{index} * kDescriptorSize, sizeof descriptor);
  // The copy is what gets validated and used: keep the compiler from reading guest memory a second
  // time.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return descriptor;
}

bool SplitQueue::enter_indirect(const Descriptor& descriptor, Table& table) noexcept {
  if (!indirect_) return broken("indirect descriptor without the feature");
  // §2.7.5.3.1; the WRITE flag is ignored here (§2.7.5.3.2).
  if ((descriptor.flags & kDescriptorNext) != 0)
    return broken("indirect descriptor with a next one");
  if (descriptor.length == 0 || descriptor.length % kDescriptorSize != 0 ||
      descriptor.length / kDescriptorSize > size_) {
    return broken("indirect table has an invalid length");
  }
  const auto bytes = translate(descriptor.address, descriptor.length);
  if (!bytes) return broken("indirect table is outside guest memory");
  table = {bytes->data(), descriptor.length / kDescriptorSize};
  return true;
}

bool SplitQueue::add_buffer(const Descriptor& descriptor, uint32_t& readable,
                            uint32_t& writable) noexcept {
  const bool device_writes = (descriptor.flags & kDescriptorWrite) != 0;
  if (!device_writes && writable != 0) return broken("readable descriptor after a writable one");
  if (descriptor.length == 0) return true;  // Nothing in it to check or to use.
  const auto bytes = translate(descriptor.address, descriptor.length);
  if (!bytes) return broken("buffer is outside guest memory");
  buffers_[readable + writable] = {bytes->data(), descriptor.length};
  ++(device_writes ? writable : readable);
  return true;
}

std::optional<std::span<uint8_t>> SplitQueue::translate(GuestAddress address,
                                                        uint32_t length) const noexcept {
  return memory_.slice(address, length);
}

void SplitQueue::push_used(uint16_t head, uint32_t written) noexcept {
  const size_t slot = state_.next_used & (size_ - 1);
  auto* element = reinterpret_cast<uint32_t*>(used_ + kRing) + 2 * slot;
  shared(element[0]).store(head, std::memory_order_relaxed);
  shared(element[1]).store(written, std::memory_order_relaxed);
  ++state_.next_used;
}

bool SplitQueue::publish() noexcept {
  const uint16_t old = published_used_;
  const uint16_t now = state_.next_used;
  if (old == now) return false;
  published_used_ = now;
  // Release: buffers and ring entries are visible before the index (§2.7.8.2).
  shared(used_[kIndex]).store(now, std::memory_order_release);
  // The index must be visible before what the driver asks for is read, or both sides could miss
  // each other (§2.7.7.2).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!event_index_) {
    const uint16_t flags = shared(available_[kFlags]).load(std::memory_order_relaxed);
    return (flags & kAvailableNoInterrupt) == 0;
  }
  const uint16_t used_event = shared(available_[kRing + size_]).load(std::memory_order_relaxed);
  return static_cast<uint16_t>(now - used_event - 1) < static_cast<uint16_t>(now - old);
}

/// Behind the used ring (§2.7.8).
uint16_t& SplitQueue::avail_event() const noexcept { return used_[kRing + size_t{4} * size_]; }

bool SplitQueue::enable_notifications() noexcept {
  if (error_ != nullptr) return false;
  if (event_index_) {
    shared(avail_event()).store(state_.next_available, std::memory_order_relaxed);
  } else {
    shared(used_[kFlags]).store(uint16_t{0}, std::memory_order_relaxed);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return chains_available();
}

void SplitQueue::disable_notifications() noexcept {
  if (event_index_) {
    // The driver rings when its index passes avail_event, so the doorbell is off once that is a
    // step behind (§2.7.10).
    const auto passed = static_cast<uint16_t>(state_.next_available - 1);
    shared(avail_event()).store(passed, std::memory_order_relaxed);
  } else {
    shared(used_[kFlags]).store(kUsedNoNotify, std::memory_order_relaxed);
  }
}

}  // namespace tsvmm
