#include "machine/vcpu_group.h"

#include <algorithm>
#include <string>
#include <utility>

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

void VcpuGroup::create(const std::vector<VcpuSpec>& vcpus) {
  {
    const std::lock_guard lock(mutex_);
    for (const VcpuSpec& vcpu : vcpus) {
      Member& member = append_locked();
      assign(member, vcpu);
      member.present = true;
    }
  }
  // Without the lock, which the threads that there are already need.
  for (const auto& member : members_) start_thread(*member);
}

VcpuGroup::Member& VcpuGroup::append_locked() {
  auto member = std::make_unique<Member>();
  member->index = static_cast<unsigned>(members_.size());
  member->held = on_hold_;
  members_.push_back(std::move(member));
  return *members_.back();
}

void VcpuGroup::assign(Member& member, const VcpuSpec& vcpu) {
  member.id = vcpu.id;
  member.affinity = vcpu.affinity;
  member.setup = vcpu.setup;
}

void VcpuGroup::start_thread(Member& member) {
  member.left = false;
  try {
    member.thread = spawn_thread("vcpu" + std::to_string(member.index),
                                 [this, &member] { thread_body(member); });
  } catch (...) {
    member.left = true;
    throw;
  }
}

void VcpuGroup::enter(std::shared_ptr<const VcpuEntry> entry) {
  const std::lock_guard lock(mutex_);
  if (members_.empty()) throw Error("EINVAL", "there is no vCPU");
  Member& first = *members_.front();
  first.entry = std::move(entry);
  first.ready = false;
  changed_.notify_all();
}

std::optional<unsigned> VcpuGroup::start(AccessHandler& accesses, const Deadline& deadline,
                                         bool paused) {
  std::unique_lock lock(mutex_);
  accesses_ = &accesses;
  // A vCPU without others goes on to the guest by itself. Several wait for each other, so that none
  // runs in a machine of which a part is missing.
  if (members_.size() == 1 && goal_ == Goal::kPrepare && !paused) goal_ = Goal::kRun;
  changed_.notify_all();
  const auto failed = [](const auto& member) { return member->failure != nullptr; };
  const bool ready = deadline.wait(lock, changed_, [&] {
    return goal_ == Goal::kStop || std::ranges::any_of(members_, failed) ||
           std::ranges::all_of(members_, [](const auto& member) { return member->ready; });
  });
  const auto failure = std::ranges::find_if(members_, failed);
  if (failure != members_.end()) std::rethrow_exception((*failure)->failure);
  if (!ready) {
    // One alone would run as soon as it is set up.
    if (goal_ == Goal::kRun) goal_ = Goal::kPrepare;
    const auto late =
        std::ranges::find_if(members_, [](const auto& member) { return !member->ready; });
    return (*late)->index;
  }
  if (goal_ != Goal::kPrepare) return std::nullopt;
  goal_ = paused ? Goal::kPause : Goal::kRun;
  changed_.notify_all();
  return std::nullopt;
}

void VcpuGroup::resume() {
  const std::lock_guard lock(mutex_);
  if (goal_ != Goal::kPause) return;
  goal_ = Goal::kRun;
  changed_.notify_all();
}

bool VcpuGroup::begin_pause() {
  const std::lock_guard lock(mutex_);
  if (goal_ != Goal::kRun) return false;
  goal_ = Goal::kPause;
  kick_all_locked();
  return true;
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
    if (member->vcpu && member->present) member->vcpu->inject_nmi();
  }
}

void VcpuGroup::add(const std::vector<LateVcpu>& vcpus, const Deadline& deadline) {
  std::unique_lock lock(mutex_);
  const std::vector<Member*> members = find_room_locked(vcpus, lock, deadline);
  for (size_t i = 0; i < members.size(); ++i) prepare_locked(*members[i], vcpus[i].vcpu);
  await_ready_locked(members, lock, deadline);
  for (Member* const member : members) {
    member->present = member->start_awaited = true;
    member->held = on_hold_;
    member->ordered_to_hold = false;
  }
  changed_.notify_all();
}

/// Members for these vCPUs, which do nothing.
std::vector<VcpuGroup::Member*> VcpuGroup::find_room_locked(const std::vector<LateVcpu>& vcpus,
                                                            std::unique_lock<std::mutex>& lock,
                                                            const Deadline& deadline) {
  std::vector<Member*> found;
  const auto is_there = [&](unsigned index) {
    return index < members_.size() &&
           (members_[index]->present ||
            std::ranges::find(found, members_[index].get()) != found.end());
  };
  for (const LateVcpu& vcpu : vcpus) {
    if (vcpu.index == 0 || !is_there(vcpu.index - 1)) {
      throw Error("EINVAL", "vCPUs have no gaps between them");
    }
    if (is_there(vcpu.index)) {
      throw Error("EINVAL", "vCPU " + std::to_string(vcpu.index) + " is there already");
    }
    if (vcpu.index == members_.size()) append_locked();
    Member& member = *members_[vcpu.index];
    if (!deadline.wait(lock, changed_, [&] { return member.parked || member.left; })) {
      throw Error("ETIMEDOUT", "vCPU " + std::to_string(vcpu.index) + " does not leave the guest");
    }
    found.push_back(&member);
  }
  return found;
}

/// Has its thread set it up, which it begins as soon as the lock is free.
void VcpuGroup::prepare_locked(Member& member, const VcpuSpec& vcpu) {
  assign(member, vcpu);
  member.ready = false;
  member.failure = nullptr;
  changed_.notify_all();
  if (!member.left) return;
  if (member.thread.joinable()) member.thread.join();  // it is about to end
  start_thread(member);
}

void VcpuGroup::await_ready_locked(const std::vector<Member*>& members,
                                   std::unique_lock<std::mutex>& lock, const Deadline& deadline) {
  const auto decided = [](const Member* member) { return member->ready || member->failure; };
  const bool done = deadline.wait(lock, changed_, [&] {
    return goal_ == Goal::kStop || std::ranges::all_of(members, decided);
  });
  for (const Member* const member : members) {
    if (member->failure) std::rethrow_exception(member->failure);
  }
  if (!done) throw Error("ETIMEDOUT", "the host does not make the vCPUs in time");
  if (goal_ == Goal::kStop) throw Error("ERR_TSVMM_NO_MACHINE", "this machine does not run");
}

void VcpuGroup::remove(unsigned index) noexcept {
  const std::lock_guard lock(mutex_);
  if (index >= members_.size()) return;
  Member& member = *members_[index];
  member.present = member.start_awaited = false;
  if (member.vcpu) member.vcpu->kick();
}

std::vector<VcpuStatistics> VcpuGroup::statistics() {
  const std::lock_guard lock(mutex_);
  std::vector<VcpuStatistics> all;
  for (const auto& member : members_) {
    if (!member->vcpu || !member->present) continue;
    all.push_back(member->vcpu->statistics());
    all.back().index = member->index;
  }
  return all;
}

void VcpuGroup::hold() noexcept {
  const std::lock_guard lock(mutex_);
  on_hold_ = true;
  for (const auto& member : members_) member->held = true;
  if (goal_ == Goal::kRun) kick_all_locked();
}

void VcpuGroup::release(const std::vector<DebugOrder>& orders, const DebugTraps& traps) {
  const std::lock_guard lock(mutex_);
  if (orders.size() > members_.size()) throw Error("EINVAL", "more orders than vCPUs");
  const auto order_of = [&](const Member& member) {
    return member.index < orders.size() ? orders[member.index] : DebugOrder::kRun;
  };
  std::vector<Member*> present;
  for (const auto& member : members_) {
    if (!member->present) continue;
    (void)held_locked(member->index);
    present.push_back(member.get());
  }
  for (Member* const member : present) {
    member->vcpu->debug().set_traps(traps, order_of(*member) == DebugOrder::kStep);
  }
  for (Member* const member : present) {
    member->held = member->ordered_to_hold = order_of(*member) == DebugOrder::kHold;
  }
  traps_ = traps;
  on_hold_ = false;
  changed_.notify_all();
}

void VcpuGroup::unhold() noexcept {
  const std::lock_guard lock(mutex_);
  on_hold_ = false;
  for (const auto& member : members_) member->held = member->ordered_to_hold;
  changed_.notify_all();
}

void VcpuGroup::with_debug(unsigned index, const std::function<void(VcpuDebug&)>& use) {
  const std::lock_guard lock(mutex_);
  use(held_locked(index).debug());
}

Vcpu& VcpuGroup::held_locked(unsigned index) const {
  if (index >= members_.size() || !members_[index]->present) {
    throw Error("EINVAL", "there is no such vCPU");
  }
  const Member& member = *members_[index];
  // One that is parked without hold(), as in a pause, may run at any moment.
  if (!on_hold_ || !member.parked) {
    throw Error("EBUSY", "vCPU " + std::to_string(index) + " is not stopped for a debugger");
  }
  return *member.vcpu;
}

void VcpuGroup::kick_all_locked() noexcept {
  for (const auto& member : members_) {
    if (member->vcpu) member->vcpu->kick();
  }
}

void VcpuGroup::thread_body(Member& member) {
  if (make_vcpu(member)) {
    bool resumed = false;
    while (wait_for_goal(member)) {
      if (resumed) member.vcpu->mark_paused();
      const VcpuExit exit = member.vcpu->run(*accesses_);
      const bool kicked = exit.reason == VcpuExit::Reason::kKicked;
      resumed = kicked || exit.reason == VcpuExit::Reason::kDebug;
      if (!kicked) exited(member, exit);
    }
  }
  // Under the lock, because another thread may be about to kick it.
  const std::lock_guard lock(mutex_);
  member.vcpu.reset();
  member.left = true;
  changed_.notify_all();
}

void VcpuGroup::exited(Member& member, const VcpuExit& exit) {
  if (exit.reason == VcpuExit::Reason::kStarted) {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(member.start_awaited, false)) return;
  }
  on_exit_(member.index, exit);
}

bool VcpuGroup::make_vcpu(Member& member) {
  try {
    // What is made for the vCPU is near to where it runs.
    pin_current_thread(member.affinity);
    auto vcpu = vm_.create_vcpu(member.id);
    const std::lock_guard lock(mutex_);
    member.vcpu = std::move(vcpu);
    return true;
  } catch (...) {
    const std::lock_guard lock(mutex_);
    member.failure = std::current_exception();
    changed_.notify_all();
    return false;
  }
}

/// On its thread, of a new one, one that is added again, or one that gets its entry. One that fails
/// stays for the next attempt: the hypervisor makes no second vCPU of its id.
void VcpuGroup::set_up_locked(Member& member, std::unique_lock<std::mutex>& lock) {
  const std::shared_ptr<const VcpuSetup> setup = std::move(member.setup);
  const std::shared_ptr<const VcpuEntry> entry = std::move(member.entry);
  const DebugTraps traps = traps_;
  std::exception_ptr failure = setup ? nullptr : member.failure;
  member.parked = false;
  lock.unlock();
  try {
    if (setup) set_up_vcpu(member, *setup, traps);
    if (entry && !failure) member.vcpu->set_entry(*entry);
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  member.failure = failure;
  member.ready = !failure && !member.setup && !member.entry;
  member.parked = true;
  changed_.notify_all();
}

void VcpuGroup::set_up_vcpu(Member& member, const VcpuSetup& setup, const DebugTraps& traps) {
  pin_current_thread(member.affinity);  // it may be another one by now
  if (member.was_set_up) {
    member.vcpu->reset(setup);
  } else {
    member.vcpu->set_up(setup);
    member.was_set_up = true;
    if (traps.empty()) return;
  }
  member.vcpu->debug().set_traps(traps, false);
}

bool VcpuGroup::wait_for_goal(Member& member) {
  std::unique_lock lock(mutex_);
  if (may_run(member)) return true;
  member.parked = true;
  changed_.notify_all();
  for (;;) {
    const auto pending = [&] { return member.setup || member.entry; };
    changed_.wait(lock, [&] { return may_run(member) || pending() || goal_ == Goal::kStop; });
    if (goal_ == Goal::kStop || !pending()) break;
    set_up_locked(member, lock);
  }
  member.parked = false;
  return goal_ == Goal::kRun;
}

}  // namespace tsvmm
