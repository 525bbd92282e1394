#include "virtio/queue.h"

#include <bit>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/shared_member.h"
#include "virtio/iommu/queue.h"

namespace tsvmm {
namespace {

// virtio 1.2 §2.7.5, §2.7.6, §2.7.8.
constexpr uint16_t kDescriptorNext = 1;
constexpr uint16_t kDescriptorWrite = 2;
constexpr uint16_t kDescriptorIndirect = 4;
constexpr uint16_t kAvailableNoInterrupt = 1;
constexpr uint16_t kUsedNoNotify = 1;

constexpr uint32_t kDescriptorSize = 16;
constexpr uint32_t kUsedElementSize = 8;
constexpr uint16_t kMaxQueueSize = 32768;

/// Buffers of a chain beyond one for each descriptor, where mappings cut them.
constexpr size_t kMorePieces = 1024;

constexpr const char* kRingsGone = "the IOMMU does not lead to the rings any more";

// Both rings begin with 16-bit flags and index.
constexpr size_t kFlags = 0;
constexpr size_t kIndex = 1;
constexpr size_t kRing = 2;

std::shared_ptr<IommuQueue> behind(IommuEndpoint* iommu, const GuestMemory& memory, uint16_t size) {
  return iommu == nullptr ? nullptr : IommuQueue::make(*iommu, memory, size);
}

}  // namespace

/// The time in which the rings are used. False if they are gone.
class SplitQueue::RingAccess {
 public:
  explicit RingAccess(IommuQueue* iommu) noexcept : iommu_(iommu) {
    if (iommu_ == nullptr) [[likely]] {
      return;
    }
    if (!iommu_->enter()) {
      iommu_ = nullptr;
      gone_ = true;
    }
  }
  ~RingAccess() {
    if (iommu_ != nullptr) [[unlikely]] {
      iommu_->leave();
    }
  }
  RingAccess(const RingAccess&) = delete;
  RingAccess& operator=(const RingAccess&) = delete;
  explicit operator bool() const noexcept { return !gone_; }

 private:
  IommuQueue* iommu_;
  bool gone_ = false;
};

SplitQueue::SplitQueue(const GuestMemory& memory, const VirtqueueSetup& setup, uint64_t features)
    : memory_(memory),
      iommu_(behind(setup.iommu, memory, setup.rings.size)),
      size_(setup.rings.size),
      event_index_((features & virtio_feature::kEventIndex) != 0),
      indirect_((features & virtio_feature::kIndirectDescriptors) != 0),
      state_(*setup.state),
      seen_available_(state_.next_available),
      published_used_(state_.next_used) {
  if (!std::has_single_bit(size_) || size_ > kMaxQueueSize) {
    throw Error("EINVAL",
                "queue size " + std::to_string(size_) + " is not a power of two up to 32768");
  }
  // Alignment and sizes: §2.7. The last word of each ring is the other side's event index.
  const VirtqueueConfig& rings = setup.rings;
  descriptors_ = ring(rings.descriptor_table, uint64_t{kDescriptorSize} * size_, 16, false,
                      "descriptor table");
  available_ = ring(rings.available_ring, 6 + uint64_t{2} * size_, 2, false, "available ring");
  used_ = ring(rings.used_ring, 6 + uint64_t{8} * size_, 4, true, "used ring");
  buffers_.resize(iommu_ == nullptr ? size_ : size_ + kMorePieces);
  if (iommu_ != nullptr) indirect_copy_.resize(size_t{kDescriptorSize} * size_);
}

SplitQueue::~SplitQueue() = default;

RingBytes SplitQueue::ring(GuestAddress address, uint64_t length, uint64_t alignment,
                           bool device_writes, const char* name) const {
  const auto refuse = [name](const std::string& why) {
    throw Error("EINVAL", std::string(name) + " " + why);
  };
  if (address % alignment != 0) refuse("is misaligned or outside guest memory");
  if (iommu_ != nullptr) {
    auto bytes = iommu_->ring(address, length, device_writes);
    if (!bytes) refuse("is not mapped by the IOMMU, or outside guest memory");
    return *std::move(bytes);
  }
  const auto bytes = memory_.slice(address, length);
  if (!bytes) refuse("is misaligned or outside guest memory");
  return RingBytes(bytes->data());
}

bool SplitQueue::broken(const char* reason) noexcept {
  error_ = reason;
  return false;
}

bool SplitQueue::chains_available() noexcept {
  if (seen_available_ != state_.next_available) return true;
  // Acquire: the ring entries and descriptors that the index announces are read after it.
  seen_available_ = shared(available(kIndex)).load(std::memory_order_acquire);
  return seen_available_ != state_.next_available;
}

bool SplitQueue::has_available() noexcept {
  const RingAccess access(iommu_.get());
  return !access || chains_available();  // pop() reports the error.
}

SplitQueue::Pop SplitQueue::pop(DescriptorChain& chain) noexcept {
  if (error_ != nullptr) return Pop::kBroken;
  const RingAccess access(iommu_.get());
  if (!access) {
    (void)broken(kRingsGone);
    return Pop::kBroken;
  }
  if (!chains_available()) return Pop::kEmpty;
  const auto distance = static_cast<uint16_t>(seen_available_ - state_.next_available);
  if (distance > size_) {
    (void)broken("available index is more than the queue size ahead");
    return Pop::kBroken;
  }
  const size_t slot = state_.next_available & (size_ - 1);
  const uint16_t head = shared(available(kRing + slot)).load(std::memory_order_relaxed);
  const bool collected = collect(head, chain);
  if (iommu_ != nullptr) [[unlikely]] {
    if (!collected) {
      iommu_->drop();
    } else if (!iommu_->keep(slot, head)) {
      (void)broken("descriptor chain is available while the device has it");
      return Pop::kBroken;
    }
  }
  if (!collected) return Pop::kBroken;
  ++state_.next_available;
  return Pop::kChain;
}

void SplitQueue::undo_pop(uint16_t count) noexcept {
  for (; count != 0; --count) {
    --state_.next_available;
    if (iommu_ != nullptr) iommu_->give_back(state_.next_available & (size_ - 1));
  }
}

void SplitQueue::redo_pop(uint16_t count) noexcept {
  for (; count != 0; --count) {
    if (iommu_ != nullptr) iommu_->take_back(state_.next_available & (size_ - 1));
    ++state_.next_available;
  }
}

bool SplitQueue::collect(uint16_t head, DescriptorChain& chain) noexcept {
  Table table{nullptr, size_};
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

SplitQueue::Descriptor SplitQueue::copy_descriptor(const Table& table,
                                                   uint32_t index) const noexcept {
  Descriptor descriptor;
  static_assert(sizeof descriptor == kDescriptorSize);
  const uint64_t offset = uint64_t{index} * kDescriptorSize;
  const uint8_t* const host =
      table.host != nullptr ? table.host + offset : descriptors_.address(offset);
  std::memcpy(&descriptor, host, sizeof descriptor);
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
  table.entries = descriptor.length / kDescriptorSize;
  if (iommu_ != nullptr) [[unlikely]] {
    table.host = translate_table(descriptor);
    return table.host != nullptr || broken("indirect table is not mapped by the IOMMU");
  }
  const auto bytes = memory_.slice(descriptor.address, descriptor.length);
  if (!bytes) return broken("indirect table is outside guest memory");
  table.host = bytes->data();
  return true;
}

/// In one piece, which may be a copy; nullptr if it is not to be had.
const uint8_t* SplitQueue::translate_table(const Descriptor& descriptor) noexcept {
  const auto pieces = iommu_->find(descriptor.address, descriptor.length, false, kMorePieces);
  if (pieces.empty()) return nullptr;
  if (pieces.size() == 1) return pieces.front().data();
  uint8_t* to = indirect_copy_.data();
  for (const std::span<uint8_t> piece : pieces) {
    std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  }
  return indirect_copy_.data();
}

bool SplitQueue::add_buffer(const Descriptor& descriptor, uint32_t& readable,
                            uint32_t& writable) noexcept {
  const bool device_writes = (descriptor.flags & kDescriptorWrite) != 0;
  if (!device_writes && writable != 0) return broken("readable descriptor after a writable one");
  if (descriptor.length == 0) return true;  // Nothing in it to check or to use.
  if (iommu_ != nullptr) [[unlikely]] {
    return add_translated(descriptor, readable, writable);
  }
  const auto bytes = memory_.slice(descriptor.address, descriptor.length);
  if (!bytes) return broken("buffer is outside guest memory");
  buffers_[readable + writable] = {bytes->data(), descriptor.length};
  ++(device_writes ? writable : readable);
  return true;
}

bool SplitQueue::add_translated(const Descriptor& descriptor, uint32_t& readable,
                                uint32_t& writable) noexcept {
  const bool device_writes = (descriptor.flags & kDescriptorWrite) != 0;
  const size_t room = buffers_.size() - readable - writable;
  const auto pieces = iommu_->find(descriptor.address, descriptor.length, device_writes, room);
  if (pieces.empty()) return broken("buffer is not mapped by the IOMMU, or not for that");
  for (const std::span<uint8_t> piece : pieces) {
    buffers_[readable + writable] = {piece.data(), static_cast<uint32_t>(piece.size())};
    ++(device_writes ? writable : readable);
  }
  return true;
}

void SplitQueue::push_used(uint16_t head, uint32_t written) noexcept {
  if (iommu_ != nullptr) [[unlikely]] {
    iommu_->release(head);
  }
  const RingAccess access(iommu_.get());
  if (!access) return;
  const size_t element =
      sizeof(uint16_t) * kRing + kUsedElementSize * (state_.next_used & (size_ - 1));
  shared(used_.at<uint32_t>(element)).store(head, std::memory_order_relaxed);
  shared(used_.at<uint32_t>(element + sizeof(uint32_t))).store(written, std::memory_order_relaxed);
  ++state_.next_used;
}

bool SplitQueue::publish() noexcept {
  const uint16_t old = published_used_;
  const uint16_t now = state_.next_used;
  if (old == now) return false;
  const RingAccess access(iommu_.get());
  if (!access) return false;
  published_used_ = now;
  // Release: buffers and ring entries are visible before the index (§2.7.8.2).
  shared(used(kIndex)).store(now, std::memory_order_release);
  // The index must be visible before what the driver asks for is read, or both sides could miss
  // each other (§2.7.7.2).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!event_index_) {
    const uint16_t flags = shared(available(kFlags)).load(std::memory_order_relaxed);
    return (flags & kAvailableNoInterrupt) == 0;
  }
  const uint16_t used_event = shared(available(kRing + size_)).load(std::memory_order_relaxed);
  return static_cast<uint16_t>(now - used_event - 1) < static_cast<uint16_t>(now - old);
}

/// Behind the used ring (§2.7.8).
uint16_t& SplitQueue::avail_event() const noexcept { return used(kRing + size_t{4} * size_); }

bool SplitQueue::enable_notifications() noexcept {
  if (error_ != nullptr) return false;
  const RingAccess access(iommu_.get());
  if (!access) return true;  // As if something were available: pop() reports the error.
  if (event_index_) {
    shared(avail_event()).store(state_.next_available, std::memory_order_relaxed);
  } else {
    shared(used(kFlags)).store(uint16_t{0}, std::memory_order_relaxed);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return chains_available();
}

void SplitQueue::disable_notifications() noexcept {
  const RingAccess access(iommu_.get());
  if (!access) return;
  if (event_index_) {
    // The driver rings when its index passes avail_event, so the doorbell is off once that is a
    // step behind (§2.7.10).
    const auto passed = static_cast<uint16_t>(state_.next_available - 1);
    shared(avail_event()).store(passed, std::memory_order_relaxed);
  } else {
    shared(used(kFlags)).store(kUsedNoNotify, std::memory_order_relaxed);
  }
}

}  // namespace tsvmm
