#include "machine/vcpu_group.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/thread.h"

namespace tsvmm {

VcpuGroup::VcpuGroup(Vm& vm, ExitHandler on_exit) : vm_(vm), on_exit_(std::move(on_exit)) {}

VcpuGroup::~VcpuGroup() {
  stop();
  for (const auto& member : members_) {
    if (member->thread.joinable()) member->thread.join();
  }
}

void VcpuGroup::create(const std::vector<VcpuPlacement>& placements) {
  for (const VcpuPlacement& placement : placements) {
    members_.push_back(std::make_unique<Member>());
    members_.back()->placement = placement;
  }
  for (unsigned index = 0; index < members_.size(); ++index) {
    members_[index]->left = false;
    try {
      members_[index]->thread =
          spawn_thread("vcpu" + std::to_string(index), [this, index] { thread_body(index); });
    } catch (...) {
      members_[index]->left = true;
      throw;
    }
  }
}

void VcpuGroup::set_up(std::vector<std::shared_ptr<const VcpuSetup>> setups) {
  if (setups.size() != members_.size()) {
    throw Error("EINVAL", "not as many vCPU setups as vCPUs");
  }
  const std::lock_guard lock(mutex_);
  setups_ = std::move(setups);
  changed_.notify_all();
}

void VcpuGroup::start(AccessHandler& accesses, const Deadline& deadline, bool paused) {
  std::unique_lock lock(mutex_);
  accesses_ = &accesses;
  // A vCPU without others goes on to the guest by itself. Several wait for each other, so that none
  // runs in a machine of which a part is missing.
  if (members_.size() == 1 && goal_ == Goal::kPrepare && !paused) goal_ = Goal::kRun;
  changed_.notify_all();
  const bool ready = deadline.wait(lock, changed_, [this] {
    return failure_ || goal_ == Goal::kStop ||
           std::ranges::all_of(members_, [](const auto& member) { return member->set_up; });
  });
  if (failure_) std::rethrow_exception(failure_);
  if (!ready || goal_ != Goal::kPrepare) return;
  goal_ = paused ? Goal::kPause : Goal::kRun;
  changed_.notify_all();
}

void VcpuGroup::resume() {
  const std::lock_guard lock(mutex_);
  if (goal_ != Goal::kPause) return;
  goal_ = Goal::kRun;
  changed_.notify_all();
}

void VcpuGroup::begin_pause() {
  const std::lock_guard lock(mutex_);
  if (goal_ != Goal::kRun) return;
  goal_ = Goal::kPause;
  kick_all_locked();
}

std::optional<unsigned> VcpuGroup::wait_paused(const Deadline& deadline) {
  std::unique_lock lock(mutex_);
  return wait_locked(lock, deadline,
                     [](const Member& member) { return member.parked || member.left; });
}

std::optional<unsigned> VcpuGroup::wait_left(const Deadline& deadline) {
  std::unique_lock lock(mutex_);
  return wait_locked(lock, deadline, [](const Member& member) { return member.left; });
}

template <typename AtRest>
std::optional<unsigned> VcpuGroup::wait_locked(std::unique_lock<std::mutex>& lock,
                                               const Deadline& deadline, AtRest at_rest) {
  const auto busy = [&](const auto& member) { return !at_rest(*member); };
  if (deadline.wait(lock, changed_, [&] { return std::ranges::none_of(members_, busy); })) {
    return std::nullopt;
  }
  const auto found = std::ranges::find_if(members_, busy);
  return static_cast<unsigned>(found - members_.begin());
}

void VcpuGroup::stop() noexcept {
  const std::lock_guard lock(mutex_);
  goal_ = Goal::kStop;
  kick_all_locked();
  changed_.notify_all();
}

void VcpuGroup::inject_nmi() noexcept {
  const std::lock_guard lock(mutex_);
  for (const auto& member : members_) {
    if (member->vcpu) member->vcpu->inject_nmi();
  }
}

std::vector<VcpuStatistics> VcpuGroup::statistics() {
  const std::lock_guard lock(mutex_);
  std::vector<VcpuStatistics> all;
  for (const auto& member : members_) {
    if (member->vcpu) all.push_back(member->vcpu->statistics());
  }
  return all;
}

void VcpuGroup::hold() noexcept {
  const std::lock_guard lock(mutex_);
  for (const auto& member : members_) member->held = true;
  if (goal_ == Goal::kRun) kick_all_locked();
}

void VcpuGroup::release(const std::vector<DebugOrder>& orders, const DebugTraps& traps) {
  const std::lock_guard lock(mutex_);
  if (orders.size() != members_.size()) throw Error("EINVAL", "not as many orders as vCPUs");
  std::vector<Vcpu*> vcpus;
  for (unsigned index = 0; index < members_.size(); ++index) {
    vcpus.push_back(&parked_locked(index));
  }
  for (size_t i = 0; i < members_.size(); ++i) {
    vcpus[i]->debug().set_traps(traps, orders[i] == DebugOrder::kStep);
  }
  for (size_t i = 0; i < members_.size(); ++i) {
    members_[i]->held = members_[i]->ordered_to_hold = orders[i] == DebugOrder::kHold;
  }
  changed_.notify_all();
}

void VcpuGroup::unhold() noexcept {
  const std::lock_guard lock(mutex_);
  for (const auto& member : members_) member->held = member->ordered_to_hold;
  changed_.notify_all();
}

void VcpuGroup::with_debug(unsigned index, const std::function<void(VcpuDebug&)>& use) {
  const std::lock_guard lock(mutex_);
  use(parked_locked(index).debug());
}

Vcpu& VcpuGroup::parked_locked(unsigned index) const {
  if (index >= members_.size()) throw Error("EINVAL", "there is no such vCPU");
  const Member& member = *members_[index];
  if (!member.parked) throw Error("EBUSY", "vCPU " + std::to_string(index) + " runs");
  return *member.vcpu;
}

void VcpuGroup::kick_all_locked() noexcept {
  for (const auto& member : members_) {
    if (member->vcpu) member->vcpu->kick();
  }
}

void VcpuGroup::thread_body(unsigned index) {
  Member& member = *members_[index];
  if (prepare(member, index)) {
    bool resumed = false;
    while (wait_for_goal(member)) {
      if (resumed) member.vcpu->mark_paused();
      const VcpuExit exit = member.vcpu->run(*accesses_);
      const bool kicked = exit.reason == VcpuExit::Reason::kKicked;
      resumed = kicked || exit.reason == VcpuExit::Reason::kDebug;
      if (!kicked) on_exit_(index, exit);
    }
  }
  // Under the lock, because another thread may be about to kick it.
  const std::lock_guard lock(mutex_);
  member.vcpu.reset();
  member.left = true;
  changed_.notify_all();
}

bool VcpuGroup::prepare(Member& member, unsigned index) {
  try {
    pin_current_thread(member.placement.affinity);
    auto vcpu = vm_.create_vcpu(member.placement.id);
    std::unique_lock lock(mutex_);
    member.vcpu = std::move(vcpu);
    changed_.wait(lock, [this] { return !setups_.empty() || goal_ == Goal::kStop; });
    if (goal_ == Goal::kStop) return false;
    const std::shared_ptr<const VcpuSetup> setup = std::move(setups_[index]);
    lock.unlock();
    member.vcpu->set_up(*setup);
    lock.lock();
    member.set_up = true;
    changed_.notify_all();
    return true;
  } catch (...) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
    changed_.notify_all();
    return false;
  }
}

bool VcpuGroup::wait_for_goal(Member& member) {
  std::unique_lock lock(mutex_);
  if (may_run(member)) return true;
  member.parked = true;
  changed_.notify_all();
  changed_.wait(lock, [&] { return may_run(member) || goal_ == Goal::kStop; });
  member.parked = false;
  return goal_ == Goal::kRun;
}

}  // namespace tsvmm
