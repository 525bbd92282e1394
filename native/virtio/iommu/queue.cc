#include "virtio/iommu/queue.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <thread>
#include <utility>

namespace tsvmm {
namespace {

/// Mappings that one chain may use on top of one for each descriptor: long buffers of small pages.
constexpr size_t kMoreUses = 4096;
/// Room for uses that a chain leaves to the next one with its head.
constexpr size_t kUsesKept = 64;
/// A queue is between enter() and leave() for microseconds, unless its thread is preempted or waits
/// for a page of guest memory: so many polls at once, and then one at each interval.
constexpr unsigned kFastPolls = 1000;
constexpr std::chrono::microseconds kPollInterval{50};
static_assert(RingBytes::kPageSize == IommuTables::kPageSize);

}  // namespace

std::shared_ptr<IommuQueue> IommuQueue::make(IommuEndpoint& endpoint, const GuestMemory& memory,
                                             uint16_t size) {
  auto queue = std::make_shared<IommuQueue>(endpoint, memory, size);
  const std::lock_guard lock(endpoint.tables_->mutex_);
  std::erase_if(endpoint.queues_, [](const auto& other) { return other.expired(); });
  endpoint.queues_.push_back(queue);
  ++endpoint.queues_made_;
  return queue;
}

IommuQueue::IommuQueue(IommuEndpoint& endpoint, const GuestMemory& memory, uint16_t size)
    : endpoint_(endpoint.shared_from_this()),
      tables_(*endpoint.tables_),
      memory_(memory),
      max_uses_(size + kMoreUses),
      chains_(size),
      order_(size) {}

IommuQueue::~IommuQueue() {
  drop();
  for (size_t head = 0; head < chains_.size(); ++head) release(static_cast<uint16_t>(head));
}

std::optional<RingBytes> IommuQueue::ring(GuestAddress address, uint64_t length,
                                          bool device_writes) {
  pieces_.clear();
  IommuTables::Found found{.pieces = pieces_,
                           .max_pieces = SIZE_MAX,
                           .uses = ring_uses_,
                           .max_uses = SIZE_MAX,
                           .ring = true};
  const uint32_t flags = device_writes ? virtio_iommu::kMapWrite : virtio_iommu::kMapRead;
  if (!tables_.translate(*endpoint_, memory_, {address, length, flags}, found)) return std::nullopt;
  if (pieces_.size() == 1) return RingBytes(pieces_.front().data());
  // Pieces end where pages do.
  const size_t skew = address % RingBytes::kPageSize;
  std::vector<uint8_t*> pages;
  size_t before = skew;
  for (const std::span<uint8_t> piece : pieces_) {
    uint8_t* const start = piece.data() - before;
    for (size_t at = 0; at < before + piece.size(); at += RingBytes::kPageSize) {
      pages.push_back(start + at);
    }
    before = 0;
  }
  return RingBytes(std::move(pages), skew);
}

bool IommuQueue::enter() noexcept {
  // Either this thread sees that the rings are revoked, or the revoking one sees that they are
  // busy.
  busy_.store(true);
  if (!revoked_.load()) return true;
  busy_.store(false, std::memory_order_release);
  return false;
}

bool IommuQueue::await_revoked(const Deadline& deadline) const noexcept {
  for (unsigned polls = 0; busy_.load(); ++polls) {
    if (polls < kFastPolls) {
      std::this_thread::yield();
    } else if (deadline.passed()) {
      return false;
    } else {
      std::this_thread::sleep_for(kPollInterval);
    }
  }
  return true;
}

bool IommuQueue::has_lost_ring(const IommuMappings& mappings) const noexcept {
  return std::ranges::any_of(ring_uses_, [&mappings](const LiveMappingRef& use) {
    const LiveMappingRef* const there = mappings.find(use->mapping.first);
    return there == nullptr || *there != use;
  });
}

std::span<const std::span<uint8_t>> IommuQueue::find(GuestAddress address, uint64_t length,
                                                     bool device_writes, size_t limit) noexcept {
  pieces_.clear();
  IommuTables::Found found{.pieces = pieces_,
                           .max_pieces = limit,
                           .uses = pending_,
                           .max_uses = max_uses_,
                           .ring = false};
  const uint32_t flags = device_writes ? virtio_iommu::kMapWrite : virtio_iommu::kMapRead;
  try {
    if (tables_.translate(*endpoint_, memory_, {address, length, flags}, found)) return pieces_;
  } catch (const std::bad_alloc&) {
    // As if it were not mapped.
  }
  return {};
}

bool IommuQueue::keep(size_t slot, uint16_t head) noexcept {
  Chain& chain = chains_[head];
  if (chain.taken && !chain.given_back) {
    drop();
    return false;
  }
  release(head);
  chain.taken = true;
  std::swap(chain.uses, pending_);
  order_[slot] = head;
  ++endpoint_->in_flight_;
  return true;
}

void IommuQueue::drop() noexcept {
  if (pending_.empty()) return;
  end_uses(pending_);
  tables_.released();
}

void IommuQueue::release(uint16_t head) noexcept {
  Chain& chain = chains_[head];
  if (!chain.taken) return;
  chain.taken = false;
  chain.given_back = false;
  end_uses(chain.uses);
  --endpoint_->in_flight_;
  tables_.released();
}

void IommuQueue::end_uses(std::vector<LiveMappingRef>& uses) noexcept {
  for (const LiveMappingRef& use : uses) --use->users;
  tables_.uses_ -= uses.size();
  if (uses.capacity() > kUsesKept) {
    uses = {};
  } else {
    uses.clear();
  }
}

}  // namespace tsvmm
