#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/deadline.h"
#include "hypervisor/hypervisor.h"
#include "machine/machine_spec.h"

namespace tsvmm {

/// A machine's vCPUs, each on a thread of its own named `vcpuN`, and what all of them are to do.
///
/// They come and go while the guest runs. One that is removed stays with its thread, out of the
/// guest, for the time that it comes again: the hypervisor cannot destroy one alone.
class VcpuGroup {
 public:
  /// Called on the vCPU's thread when the guest cannot go on there. It should stop() the group. For
  /// kStarted, of vCPUs that were added, it should not.
  using ExitHandler = std::function<void(unsigned index, const VcpuExit& exit)>;

  /// `vm` outlives the group.
  VcpuGroup(Vm& vm, ExitHandler on_exit);
  ~VcpuGroup();
  VcpuGroup(const VcpuGroup&) = delete;
  VcpuGroup& operator=(const VcpuGroup&) = delete;

  /// Starts the threads, each of which makes its vCPU and sets it up. Does not wait for them.
  void create(const std::vector<VcpuSpec>& vcpus);
  /// Has vCPU 0 begin there. Does not wait for it. Once. Throws Error EINVAL if there is none.
  void enter(std::shared_ptr<const VcpuEntry> entry);
  /// Waits until all are set up and lets the guest run. Its accesses will go to `accesses`, which
  /// lives until after wait_left(). Throws the first Error of any vCPU. The first vCPU that is not
  /// set up at the deadline: the guest does not run then, and the group is to be stopped. A
  /// `paused` guest runs from resume() on.
  [[nodiscard]] std::optional<unsigned> start(AccessHandler& accesses, const Deadline& deadline,
                                              bool paused = false);
  /// Asks all vCPUs to leave the guest, until resume(). False if the guest did not run.
  bool begin_pause();
  /// Waits until none executes guest code, or code of ours on its behalf. The first one that still
  /// does at the deadline.
  [[nodiscard]] std::optional<unsigned> wait_paused(const Deadline& deadline);
  /// Lets the guest run again, or takes a begin_pause() back.
  void resume();
  /// Makes all vCPUs leave the guest for good; does not wait. From any thread, vCPU threads
  /// included.
  void stop() noexcept;
  /// After stop(), waits for the same. The first vCPU that has not left at the deadline.
  [[nodiscard]] std::optional<unsigned> wait_left(const Deadline& deadline);
  void inject_nmi() noexcept;
  /// Adds vCPUs while the guest runs or is paused, each behind those that there were ever, or one
  /// that was removed. They wait for the guest to start them. Throws Error; none is added then.
  void add(const std::vector<LateVcpu>& vcpus, const Deadline& deadline);
  /// Makes a vCPU leave the guest until it is added again; does not wait. From any thread, vCPU
  /// threads included, its own as well.
  void remove(unsigned index) noexcept;
  /// Of all vCPUs that there are, by index.
  [[nodiscard]] std::vector<VcpuStatistics> statistics();

  /// What a vCPU does when the debugger lets the machine go on.
  enum class DebugOrder : uint8_t { kHold, kRun, kStep };
  /// Asks all vCPUs to leave the guest until release(), whatever else lets them run; before
  /// start(), too. From any thread, vCPU threads included.
  void hold() noexcept;
  /// Takes hold() back, with an order for each vCPU by index; those without one run. After
  /// wait_paused(). Throws Error EBUSY without hold() or while any vCPU is in the guest, EINVAL for
  /// what it cannot do: nothing has changed then.
  void release(const std::vector<DebugOrder>& orders, const DebugTraps& traps);
  /// Takes hold() back: each vCPU is as it was told by the last release(), or runs.
  void unhold() noexcept;
  /// Calls `use` with a vCPU that is out of the guest and held there. Throws Error EBUSY if it is
  /// not, EINVAL if there is no such vCPU.
  void with_debug(unsigned index, const std::function<void(VcpuDebug&)>& use);

 private:
  enum class Goal { kPrepare, kRun, kPause, kStop };
  struct Member {
    unsigned index = 0;
    uint32_t id = 0;
    std::vector<int> affinity;
    // What its thread has not taken yet.
    std::shared_ptr<const VcpuSetup> setup;
    std::shared_ptr<const VcpuEntry> entry;
    std::unique_ptr<Vcpu> vcpu;
    std::thread thread;
    std::exception_ptr failure;    ///< why it is not ready
    bool was_set_up = false;       ///< its thread's: from now on it is reset
    bool ready = false;            ///< set up, or reset, for the guest to have it
    bool present = false;          ///< the guest has it
    bool start_awaited = false;    ///< kVcpuStarted is due when the guest starts it
    bool held = false;             ///< by the debugger
    bool ordered_to_hold = false;  ///< by the last release()
    bool parked = false;           ///< executes no guest code and will not before the goal changes
    bool left = true;              ///< its thread has ended or is about to, or was never made
  };

  Member& append_locked();
  void start_thread(Member& member);
  void thread_body(Member& member);
  bool make_vcpu(Member& member);
  void set_up_locked(Member& member, std::unique_lock<std::mutex>& lock);
  static void assign(Member& member, const VcpuSpec& vcpu);
  static void set_up_vcpu(Member& member, const VcpuSetup& setup, const DebugTraps& traps);
  bool wait_for_goal(Member& member);
  void exited(Member& member, const VcpuExit& exit);
  [[nodiscard]] bool may_run(const Member& member) const {
    return goal_ == Goal::kRun && member.present && member.ready && !member.held;
  }
  [[nodiscard]] std::vector<Member*> find_room_locked(const std::vector<LateVcpu>& vcpus,
                                                      std::unique_lock<std::mutex>& lock,
                                                      const Deadline& deadline);
  void prepare_locked(Member& member, const VcpuSpec& vcpu);
  void await_ready_locked(const std::vector<Member*>& members, std::unique_lock<std::mutex>& lock,
                          const Deadline& deadline);
  void kick_all_locked() noexcept;
  [[nodiscard]] Vcpu& held_locked(unsigned index) const;
  /// The first one of which `at_rest` is not true at the deadline.
  template <typename AtRest>
  [[nodiscard]] std::optional<unsigned> wait_locked(std::unique_lock<std::mutex>& lock,
                                                    const Deadline& deadline, AtRest at_rest);

  Vm& vm_;
  const ExitHandler on_exit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Member>> members_;
  AccessHandler* accesses_ = nullptr;
  DebugTraps traps_;      ///< of the last release()
  bool on_hold_ = false;  ///< since hold()
  Goal goal_ = Goal::kPrepare;
};

}  // namespace tsvmm
