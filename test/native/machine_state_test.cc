#include "machine/machine_state.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "core/error.h"

namespace tsvmm {
namespace {

using Phase = MachineState::Phase;
using Operation = MachineState::Operation;

constexpr Operation kAll[] = {Operation::kBuild, Operation::kBoot,   Operation::kBootPaused,
                              Operation::kPause, Operation::kResume, Operation::kChange,
                              Operation::kEnd};

std::string code_of(const std::function<void()>& action) {
  try {
    action();
    return "";
  } catch (const Error& error) {
    return error.code();
  }
}

/// A state after these operations, each of which came to its end.
void lead(MachineState& state, const std::vector<Operation>& operations) {
  for (const Operation operation : operations) state.begin(operation).commit();
}

TEST(MachineState, FollowsALifeFromBeginningToEnd) {
  MachineState state;
  const std::pair<Operation, Phase> life[] = {
      {Operation::kBuild, Phase::kBuilt},    {Operation::kBoot, Phase::kRunning},
      {Operation::kChange, Phase::kRunning}, {Operation::kPause, Phase::kPaused},
      {Operation::kChange, Phase::kPaused},  {Operation::kResume, Phase::kRunning},
      {Operation::kEnd, Phase::kEnded},
  };
  for (const auto& [operation, phase] : life) {
    state.begin(operation).commit();
    EXPECT_EQ(state.phase(), phase);
  }
}

TEST(MachineState, BootsPausedAsWell) {
  MachineState state;
  lead(state, {Operation::kBuild, Operation::kBootPaused});
  EXPECT_EQ(state.phase(), Phase::kPaused);
  lead(state, {Operation::kResume});
  EXPECT_EQ(state.phase(), Phase::kRunning);
}

TEST(MachineState, AnOperationThatIsAbortedLeadsBack) {
  const std::tuple<std::vector<Operation>, Operation, Phase> cases[] = {
      {{}, Operation::kBuild, Phase::kFailed},
      {{Operation::kBuild}, Operation::kBoot, Phase::kFailed},
      {{Operation::kBuild}, Operation::kBootPaused, Phase::kFailed},
      {{Operation::kBuild, Operation::kBoot}, Operation::kPause, Phase::kRunning},
      {{Operation::kBuild, Operation::kBoot}, Operation::kChange, Phase::kRunning},
      {{Operation::kBuild, Operation::kBoot, Operation::kPause},
       Operation::kResume,
       Phase::kPaused},
      {{Operation::kBuild, Operation::kBoot, Operation::kPause},
       Operation::kChange,
       Phase::kPaused},
      // What is left of a machine that did not come to its end is nobody's.
      {{Operation::kBuild, Operation::kBoot}, Operation::kEnd, Phase::kEnded},
  };
  for (const auto& [before, operation, after] : cases) {
    MachineState state;
    lead(state, before);
    { const auto aborted = state.begin(operation); }
    EXPECT_EQ(state.phase(), after);
  }
}

TEST(MachineState, OneOperationAtATime) {
  MachineState state;
  lead(state, {Operation::kBuild, Operation::kBoot});
  const auto pausing = state.begin(Operation::kPause);
  EXPECT_EQ(state.phase(), Phase::kPausing);
  for (const Operation other : kAll) {
    EXPECT_EQ(code_of([&] { (void)state.begin(other); }), "EBUSY");
  }
  EXPECT_EQ(code_of([&] { (void)state.use(); }), "EBUSY");
}

TEST(MachineState, SaysWhyNot) {
  MachineState state;
  const auto refusal = [&](Operation operation) {
    return code_of([&] { (void)state.begin(operation); });
  };
  EXPECT_EQ(refusal(Operation::kPause), "ERR_TSVMM_NO_MACHINE");
  EXPECT_EQ(refusal(Operation::kBoot), "ERR_TSVMM_NO_MACHINE");
  EXPECT_EQ(code_of([&] { (void)state.use(); }), "ERR_TSVMM_NO_MACHINE");
  lead(state, {Operation::kBuild, Operation::kBoot});
  EXPECT_EQ(refusal(Operation::kBuild), "ERR_TSVMM_NO_MACHINE");
  EXPECT_EQ(refusal(Operation::kResume), "EINVAL");
  EXPECT_EQ(code_of([&] { (void)state.use(); }), "");
  lead(state, {Operation::kPause});
  EXPECT_EQ(refusal(Operation::kPause), "EINVAL");
  EXPECT_EQ(code_of([&] { (void)state.use(); }), "");
  lead(state, {Operation::kEnd});
  for (const Operation any : kAll) EXPECT_EQ(refusal(any), "ERR_TSVMM_NO_MACHINE");
}

}  // namespace
}  // namespace tsvmm
