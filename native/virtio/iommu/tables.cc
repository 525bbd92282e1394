#include "virtio/iommu/tables.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"
#include "virtio/iommu/queue.h"

namespace tsvmm {
namespace {

/// Mappings that are removed with the lock held in one piece.
constexpr size_t kRemovedAtOnce = 1024;

}  // namespace

bool IommuTables::is_whole_pages(const IommuMapping& mapping) noexcept {
  const bool whole = mapping.first % kPageSize == 0 && mapping.last % kPageSize == kPageSize - 1 &&
                     mapping.address % kPageSize == 0;
  return whole && mapping.first <= mapping.last &&
         mapping.last - mapping.first <= UINT64_MAX - mapping.address;
}

// Endpoints.

IommuEndpoint::IommuEndpoint(std::shared_ptr<IommuTables> tables, uint32_t id)
    : tables_(std::move(tables)), id_(id) {}

IommuEndpoint::~IommuEndpoint() { tables_->removed(*this); }

/// Revokes all its queues, those with a ring that is not mapped any more, or none. Returns all of
/// them, for await(): a queue must not be destroyed with the lock held.
IommuTables::Queues IommuEndpoint::revoke(Revoke which) {
  IommuTables::Queues queues;
  std::erase_if(queues_, [](const auto& queue) { return queue.expired(); });
  for (const auto& weak : queues_) {
    std::shared_ptr<IommuQueue> queue = weak.lock();
    if (queue == nullptr) continue;
    const bool revokes = which == Revoke::kAll ||
                         (which == Revoke::kLostRing && queue->has_lost_ring(domain_->mappings));
    if (revokes) queue->revoke();
    queues.push_back(std::move(queue));
  }
  return queues;
}

// State.

IommuTables::IommuTables(const IommuState& state, size_t max_mappings)
    : max_mappings_(max_mappings) {
  restore(state);
}

void IommuTables::restore(const IommuState& state) {
  // Declared first: the last reference must not go with the lock held.
  std::vector<std::shared_ptr<IommuEndpoint>> present;
  const std::lock_guard lock(mutex_);
  bypass_ = state.bypass;
  for (const IommuState::Domain& from : state.domains) {
    Domain& to = domains_[from.id];
    to.bypass = from.bypass;
    for (const IommuMapping& mapping : from.mappings) {
      if (!is_whole_pages(mapping) || !to.mappings.add(mapping)) {
        throw Error("EINVAL", "mappings of a domain overlap or are no whole pages");
      }
    }
    mapping_count_ += to.mappings.size();
  }
  for (const IommuState::Attachment& one : state.attachments) {
    Domain* const to = domain(one.domain);
    if (to == nullptr || !attached_.emplace(one.endpoint, one.domain).second) {
      throw Error("EINVAL", "an endpoint is in no domain, or in two");
    }
    ++to->endpoints;
    if (auto there = endpoint(one.endpoint)) {
      there->domain_ = to;
      present.push_back(std::move(there));
    }
  }
  if (mapping_count_ > max_mappings_) throw Error("EINVAL", "there are too many mappings");
}

IommuTables::~IommuTables() = default;

IommuState IommuTables::state() const {
  const std::lock_guard lock(mutex_);
  IommuState state;
  state.bypass = bypass_;
  for (const auto& [id, domain] : domains_) {
    state.domains.push_back({id, domain.bypass, domain.mappings.all()});
  }
  for (const auto& [endpoint, domain] : attached_) state.attachments.push_back({endpoint, domain});
  return state;
}

std::shared_ptr<IommuEndpoint> IommuTables::add_endpoint(uint32_t id) {
  auto added = std::make_shared<IommuEndpoint>(shared_from_this(), id);
  Domains::node_type gone;
  const std::lock_guard lock(mutex_);
  const auto other = endpoints_.find(id);
  if (other != endpoints_.end() && !other->second.expired()) {
    throw Error("EINVAL", "the IOMMU has an endpoint " + std::to_string(id) + " already");
  }
  // Of one that is just coming to its end.
  if (other != endpoints_.end()) place(id, std::nullopt, false, gone);
  endpoints_[id] = added;
  const auto known = attached_.find(id);
  if (known != attached_.end()) added->domain_ = domain(known->second);
  return added;
}

void IommuTables::removed(IommuEndpoint& endpoint) noexcept {
  Domains::node_type gone;
  const std::lock_guard lock(mutex_);
  const auto known = endpoints_.find(endpoint.id_);
  if (known == endpoints_.end() || !known->second.expired()) return;
  endpoints_.erase(known);
  place(endpoint.id_, std::nullopt, false, gone);
}

IommuTables::Domain* IommuTables::domain(uint32_t id) noexcept {
  const auto found = domains_.find(id);
  return found == domains_.end() ? nullptr : &found->second;
}

std::shared_ptr<IommuEndpoint> IommuTables::endpoint(uint32_t id) const {
  const auto found = endpoints_.find(id);
  return found == endpoints_.end() ? nullptr : found->second.lock();
}

bool IommuTables::has_endpoint(uint32_t id) const {
  // Declared first: the last reference must not go with the lock held.
  std::shared_ptr<IommuEndpoint> found;
  const std::lock_guard lock(mutex_);
  found = endpoint(id);
  return found != nullptr;
}

/// Moves an endpoint to a domain, which is made if there is none, or to none. A domain goes with
/// its last endpoint (§5.13.6.4): `gone`, which may have very many mappings, ends without the lock.
IommuTables::Domain* IommuTables::place(uint32_t endpoint, std::optional<uint32_t> domain,
                                        bool bypass, Domains::node_type& gone) {
  Domain* next = nullptr;
  if (domain) {
    next = &domains_[*domain];
    if (next->endpoints++ == 0) next->bypass = bypass;
  }
  const auto before = attached_.find(endpoint);
  if (before != attached_.end()) {
    const auto left = domains_.find(before->second);
    if (--left->second.endpoints == 0) {
      mapping_count_ -= left->second.mappings.size();
      gone = domains_.extract(left);
    }
    attached_.erase(before);
  }
  if (domain) attached_.emplace(endpoint, *domain);
  return next;
}

// Requests.

IommuTables::Status IommuTables::attach(uint32_t domain_id, uint32_t endpoint_id, uint32_t flags,
                                        const Deadline& deadline) {
  if ((flags & ~virtio_iommu::kAttachBypass) != 0) return Status::kInvalid;
  const bool bypass = (flags & virtio_iommu::kAttachBypass) != 0;
  std::shared_ptr<IommuEndpoint> found;
  Domains::node_type gone;
  std::unique_lock lock(mutex_);
  found = endpoint(endpoint_id);
  if (found == nullptr) return Status::kNoEntry;
  const Domain* const there = domain(domain_id);
  if (there != nullptr && there->bypass != bypass) return Status::kInvalid;
  if (there != nullptr && found->domain_ == there) return Status::kOk;
  return move(lock, *found, domain_id, bypass, deadline, gone);
}

IommuTables::Status IommuTables::detach(uint32_t domain_id, uint32_t endpoint_id,
                                        const Deadline& deadline) {
  std::shared_ptr<IommuEndpoint> found;
  Domains::node_type gone;
  std::unique_lock lock(mutex_);
  found = endpoint(endpoint_id);
  if (found == nullptr) return Status::kNoEntry;
  if (found->domain_ == nullptr || found->domain_ != domain(domain_id)) return Status::kInvalid;
  return move(lock, *found, std::nullopt, false, deadline, gone);
}

/// What the endpoint's device has begun by its old domain has ended when this returns kOk.
IommuTables::Status IommuTables::move(std::unique_lock<std::mutex>& lock, IommuEndpoint& endpoint,
                                      std::optional<uint32_t> domain, bool bypass,
                                      const Deadline& deadline, Domains::node_type& gone) {
  const auto ended = [&endpoint] { return endpoint.in_flight_ == 0; };
  // A queue that begins during a wait finds its rings by the old domain.
  for (uint64_t made = 0; made != endpoint.queues_made_;) {
    if (made != 0 && deadline.passed()) return Status::kDeviceError;
    made = endpoint.queues_made_;
    if (!await(lock, endpoint.revoke(IommuEndpoint::Revoke::kAll), deadline) ||
        !wait(lock, deadline, ended)) {
      return Status::kDeviceError;
    }
  }
  endpoint.domain_ = place(endpoint.id_, domain, bypass, gone);
  return Status::kOk;
}

IommuTables::Status IommuTables::map(uint32_t domain_id, const IommuMapping& mapping) {
  const std::lock_guard lock(mutex_);
  Domain* const there = domain(domain_id);
  if (there == nullptr) return Status::kNoEntry;
  if (there->bypass) return Status::kInvalid;
  if (mapping_count_ >= max_mappings_) return Status::kNoMemory;
  if (!there->mappings.add(mapping)) return Status::kInvalid;
  ++mapping_count_;
  return Status::kOk;
}

IommuTables::Status IommuTables::unmap(uint32_t domain_id, uint64_t first, uint64_t last,
                                       const Deadline& deadline) {
  if (last < first) return Status::kInvalid;
  std::unique_lock lock(mutex_);
  for (bool begun = false;; begun = true) {
    Domain* const there = domain(domain_id);
    if (there == nullptr) return begun ? Status::kOk : Status::kNoEntry;
    if (there->bypass) return Status::kInvalid;
    if (!begun && there->mappings.is_split_by(first, last)) return Status::kRange;
    const std::vector<LiveMappingRef> taken = there->mappings.take(first, last, kRemovedAtOnce);
    if (taken.empty()) return Status::kOk;
    mapping_count_ -= taken.size();
    if (!end_uses(lock, domain_id, taken, deadline)) return Status::kDeviceError;
    // Other threads get the lock in between.
    lock.unlock();
    lock.lock();
  }
}

/// Waits until mappings that were taken out of their domain are unused. False at the deadline; they
/// are put back then.
bool IommuTables::end_uses(std::unique_lock<std::mutex>& lock, uint32_t domain_id,
                           const std::vector<LiveMappingRef>& taken, const Deadline& deadline) {
  bool ended = true;
  if (std::ranges::any_of(taken, &LiveMapping::has_ring)) {
    std::vector<std::shared_ptr<IommuEndpoint>> inside;
    Queues queues;
    for (const auto& [id, weak] : endpoints_) {
      std::shared_ptr<IommuEndpoint> one = weak.lock();
      if (one == nullptr) continue;
      if (one->domain_ != nullptr && one->domain_ == domain(domain_id)) {
        std::ranges::move(one->revoke(IommuEndpoint::Revoke::kLostRing),
                          std::back_inserter(queues));
      }
      inside.push_back(std::move(one));
    }
    ended = await(lock, std::move(queues), deadline);
    lock.unlock();
    inside.clear();
    lock.lock();
  }
  const auto unused = [&taken] {
    return std::ranges::all_of(taken, [](const auto& one) { return one->users == 0; });
  };
  if (ended && wait(lock, deadline, unused)) return true;
  if (Domain* const there = domain(domain_id)) {
    there->mappings.restore(taken);
    mapping_count_ += taken.size();
  }
  return false;
}

/// True once none of the queues that are revoked touches its rings. One in the middle of them may
/// need the lock to come to an end there.
bool IommuTables::await(std::unique_lock<std::mutex>& lock, Queues queues,
                        const Deadline& deadline) {
  if (queues.empty()) return true;
  lock.unlock();
  const bool ended = std::ranges::all_of(queues, [&deadline](const auto& queue) {
    return !queue->is_revoked() || queue->await_revoked(deadline);
  });
  queues.clear();
  lock.lock();
  return ended;
}

template <typename Condition>
bool IommuTables::wait(std::unique_lock<std::mutex>& lock, const Deadline& deadline,
                       Condition condition) {
  // Counted before the condition is looked at: who changes it looks here afterwards (released()).
  ++waiting_;
  const bool holds = deadline.wait(lock, released_, condition);
  --waiting_;
  return holds;
}

void IommuTables::released() noexcept {
  if (waiting_ == 0) return;
  const std::lock_guard lock(mutex_);
  released_.notify_all();
}

bool IommuTables::bypass() const {
  const std::lock_guard lock(mutex_);
  return bypass_;
}

bool IommuTables::set_bypass(bool bypass, const Deadline& deadline) {
  std::vector<std::shared_ptr<IommuEndpoint>> found;
  std::unique_lock lock(mutex_);
  // If nothing changes, an earlier call may not have come to the end of its wait.
  const bool changes = std::exchange(bypass_, bypass) != bypass;
  const auto which = changes ? IommuEndpoint::Revoke::kAll : IommuEndpoint::Revoke::kNone;
  Queues queues;
  for (const auto& [id, weak] : endpoints_) {
    std::shared_ptr<IommuEndpoint> one = weak.lock();
    if (one == nullptr) continue;
    if (one->domain_ == nullptr) {
      std::ranges::move(one->revoke(which), std::back_inserter(queues));
    }
    found.push_back(std::move(one));
  }
  return await(lock, std::move(queues), deadline);
}

void IommuTables::clear() {
  Domains gone;
  std::vector<std::shared_ptr<IommuEndpoint>> found;
  std::unique_lock lock(mutex_);
  Queues queues;
  for (const auto& [id, weak] : endpoints_) {
    std::shared_ptr<IommuEndpoint> one = weak.lock();
    if (one == nullptr) continue;
    if (one->domain_ != nullptr && !(one->domain_->bypass && bypass_)) {
      std::ranges::move(one->revoke(IommuEndpoint::Revoke::kAll), std::back_inserter(queues));
    }
    one->domain_ = nullptr;
    found.push_back(std::move(one));
  }
  attached_.clear();
  gone = std::exchange(domains_, {});
  mapping_count_ = 0;
  faults_.clear();
  (void)await(lock, std::move(queues), Deadline::never());
}

// Translation.

bool IommuTables::translate(const IommuEndpoint& endpoint, const GuestMemory& memory,
                            const Access& access, Found& found) {
  const std::lock_guard lock(mutex_);
  Domain* const domain = endpoint.domain_;
  if (domain == nullptr && !bypass_) {
    return fault(virtio_iommu::FaultReason::kDomain, endpoint, access);
  }
  if (domain == nullptr || domain->bypass) {
    return add_piece(memory, access.address, access.length, found);
  }
  if (access.length - 1 > UINT64_MAX - access.address || !walk(*domain, memory, access, found)) {
    return fault(virtio_iommu::FaultReason::kMapping, endpoint, access);
  }
  return true;
}

/// From one mapping to the next. The length is not 0.
bool IommuTables::walk(Domain& domain, const GuestMemory& memory, const Access& access,
                       Found& found) {
  uint64_t at = access.address;
  uint64_t left = access.length;
  for (;;) {
    const LiveMappingRef* const live = domain.mappings.find(at);
    if (live == nullptr) return false;
    const IommuMapping& mapping = (*live)->mapping;
    if ((mapping.flags & access.flags) != access.flags) return false;
    const uint64_t part = std::min(left - 1, mapping.last - at) + 1;
    if (found.uses.empty() || found.uses.back() != *live) {
      if (found.uses.size() == found.max_uses || uses_ >= kMaxUses) return false;
      found.uses.push_back(*live);
      if (found.ring) {
        (*live)->has_ring = true;
      } else {
        ++(*live)->users;
        ++uses_;
      }
    }
    if (!add_piece(memory, mapping.address + (at - mapping.first), part, found)) return false;
    left -= part;
    if (left == 0) return true;
    at += part;
  }
}

/// Pieces that lie one behind the other are one.
bool IommuTables::add_piece(const GuestMemory& memory, GuestAddress address, uint64_t length,
                            Found& found) {
  const auto bytes = memory.slice(address, length);
  if (!bytes) return false;
  if (!found.pieces.empty()) {
    std::span<uint8_t>& last = found.pieces.back();
    if (last.data() + last.size() == bytes->data()) {
      last = {last.data(), last.size() + bytes->size()};
      return true;
    }
  }
  if (found.pieces.size() == found.max_pieces) return false;
  found.pieces.push_back(*bytes);
  return true;
}

// Faults.

bool IommuTables::fault(virtio_iommu::FaultReason reason, const IommuEndpoint& endpoint,
                        const Access& access) {
  ++faults_counted_;
  if (faults_.size() >= kMaxFaults) return false;
  const bool writes = (access.flags & virtio_iommu::kMapWrite) != 0;
  faults_.push_back({.reason = reason,
                     .reserved = {},
                     .flags = virtio_iommu::kFaultAddress |
                              (writes ? virtio_iommu::kFaultWrite : virtio_iommu::kFaultRead),
                     .endpoint = endpoint.id_,
                     .reserved2 = 0,
                     .address = access.address});
  if (fault_listener_) fault_listener_();
  return false;
}

void IommuTables::set_fault_listener(std::function<void()> listener) {
  const std::lock_guard lock(mutex_);
  fault_listener_ = std::move(listener);
}

std::optional<virtio_iommu::Fault> IommuTables::take_fault() {
  const std::lock_guard lock(mutex_);
  if (faults_.empty()) return std::nullopt;
  const virtio_iommu::Fault oldest = faults_.front();
  faults_.pop_front();
  return oldest;
}

size_t IommuTables::mappings() const {
  const std::lock_guard lock(mutex_);
  return mapping_count_;
}

}  // namespace tsvmm
