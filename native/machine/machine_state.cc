#include "machine/machine_state.h"

#include <array>

#include "core/error.h"

namespace tsvmm {
namespace {

using Phase = MachineState::Phase;
using Operation = MachineState::Operation;

struct Row {
  Operation operation;
  Phase from;
  Phase by_way_of;
  Phase success;
  Phase failure;
};

/// All that may happen.
constexpr std::array kRows{
    Row{Operation::kBuild, Phase::kNew, Phase::kBuilding, Phase::kBuilt, Phase::kFailed},
    Row{Operation::kBoot, Phase::kBuilt, Phase::kBooting, Phase::kRunning, Phase::kFailed},
    Row{Operation::kBootPaused, Phase::kBuilt, Phase::kBooting, Phase::kPaused, Phase::kFailed},
    Row{Operation::kPause, Phase::kRunning, Phase::kPausing, Phase::kPaused, Phase::kRunning},
    Row{Operation::kResume, Phase::kPaused, Phase::kResuming, Phase::kRunning, Phase::kPaused},
    Row{Operation::kChange, Phase::kRunning, Phase::kChanging, Phase::kRunning, Phase::kRunning},
    Row{Operation::kChange, Phase::kPaused, Phase::kChanging, Phase::kPaused, Phase::kPaused},
    Row{Operation::kEnd, Phase::kNew, Phase::kEnding, Phase::kEnded, Phase::kEnded},
    Row{Operation::kEnd, Phase::kBuilt, Phase::kEnding, Phase::kEnded, Phase::kEnded},
    Row{Operation::kEnd, Phase::kRunning, Phase::kEnding, Phase::kEnded, Phase::kEnded},
    Row{Operation::kEnd, Phase::kPaused, Phase::kEnding, Phase::kEnded, Phase::kEnded},
    Row{Operation::kEnd, Phase::kFailed, Phase::kEnding, Phase::kEnded, Phase::kEnded},
};

[[nodiscard]] Error refusal(Operation operation, Phase phase) {
  switch (phase) {
    case Phase::kBuilding:
    case Phase::kBooting:
    case Phase::kPausing:
    case Phase::kResuming:
    case Phase::kChanging:
    case Phase::kEnding:
      return {"EBUSY", "the machine is being changed"};
    default:
      break;
  }
  if (operation == Operation::kBuild || operation == Operation::kBoot ||
      operation == Operation::kBootPaused) {
    return {"ERR_TSVMM_NO_MACHINE", "this machine cannot be booted"};
  }
  if (phase == Phase::kPaused) return {"EINVAL", "the machine is paused already"};
  if (phase == Phase::kRunning) return {"EINVAL", "the machine runs already"};
  return {"ERR_TSVMM_NO_MACHINE", "this machine does not run"};
}

}  // namespace

MachineState::Transition MachineState::begin(Operation operation) {
  const std::lock_guard lock(mutex_);
  for (const Row& row : kRows) {
    if (row.operation != operation || row.from != phase_) continue;
    phase_ = row.by_way_of;
    return {*this, row.failure, row.success};
  }
  throw refusal(operation, phase_);
}

std::unique_lock<std::mutex> MachineState::use() {
  std::unique_lock lock(mutex_);
  if (phase_ != Phase::kRunning && phase_ != Phase::kPaused) {
    throw refusal(Operation::kChange, phase_);
  }
  return lock;
}

MachineState::Phase MachineState::phase() {
  const std::lock_guard lock(mutex_);
  return phase_;
}

void MachineState::leave(Phase target) noexcept {
  const std::lock_guard lock(mutex_);
  phase_ = target;
}

}  // namespace tsvmm
