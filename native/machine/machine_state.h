#pragma once

#include <cstdint>
#include <mutex>

namespace tsvmm {

/// The one state of a machine: what it is, and what is being done to it. One operation at a time
/// takes it from one phase at rest to the next, by way of a phase of its own; an operation that
/// does not come to its end leads back.
class MachineState {
 public:
  enum class Phase : uint8_t {
    kNew,  ///< at rest: nothing is there
    kBuilding,
    kBuilt,  ///< at rest: memory and vCPUs, nothing that they could run
    kBooting,
    kRunning,  ///< at rest
    kPausing,
    kPaused,  ///< at rest
    kResuming,
    kChanging,  ///< of a machine that runs or is paused: devices, memory, vCPUs, debugging
    kFailed,    ///< at rest: building or booting failed, and it can only be ended
    kEnding,
    kEnded,  ///< for good
  };
  enum class Operation : uint8_t { kBuild, kBoot, kBootPaused, kPause, kResume, kChange, kEnd };

  /// An operation that has begun.
  class Transition {
   public:
    Transition(const Transition&) = delete;
    Transition& operator=(const Transition&) = delete;
    /// Aborts what was not committed.
    ~Transition() { state_.leave(target_); }
    /// The operation has come to its end.
    void commit() noexcept { target_ = success_; }

   private:
    friend class MachineState;
    Transition(MachineState& state, Phase failure, Phase success)
        : state_(state), success_(success), target_(failure) {}

    MachineState& state_;
    const Phase success_;
    Phase target_;
  };

  /// Throws Error: EBUSY while another operation is at work, ERR_TSVMM_NO_MACHINE if there is
  /// nothing that it could work on, EINVAL if a machine is paused or runs already.
  [[nodiscard]] Transition begin(Operation operation);
  /// For what takes no time: the phase stays what it is for as long as the lock is held. Throws
  /// Error as begin() unless the machine runs or is paused.
  [[nodiscard]] std::unique_lock<std::mutex> use();
  [[nodiscard]] Phase phase();

 private:
  void leave(Phase target) noexcept;

  std::mutex mutex_;
  Phase phase_ = Phase::kNew;
};

}  // namespace tsvmm
