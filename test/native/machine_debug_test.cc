#include "core/error.h"
#include "hypervisor/x86_64/exit_counters.h"
#include "machine_fixture.h"

namespace tsvmm::machine_test {
namespace {

using Order = VcpuGroup::DebugOrder;
using Type = MachineEvent::Type;

class MachineDebugTest : public MachineTest {
 protected:
  void boot(unsigned vcpus, bool held = false) {
    build(vcpus);
    BootSpec spec = boot_spec();
    spec.held = held;
    machine->boot(std::move(spec));
  }
  /// Whether a vCPU runs: what it is given is done soon, or not.
  bool runs(unsigned vcpu) {
    const auto done = guest.begin(vcpu, [](AccessHandler&) {});
    return eventually([&] { return done->load(); });
  }
  std::shared_ptr<std::atomic<bool>> stands_still(unsigned vcpu) {
    auto done = guest.begin(vcpu, [](AccessHandler&) {});
    std::this_thread::sleep_for(kShort);
    EXPECT_FALSE(done->load()) << "vCPU " << vcpu << " runs";
    return done;
  }
};

TEST_F(MachineDebugTest, StopsAllVcpusUntilTheyAreLetGo) {
  boot(2);
  machine->debug_stop();
  const auto first = stands_still(0);
  const auto second = stands_still(1);
  machine->debug_resume({Order::kRun, Order::kRun}, {});
  EXPECT_TRUE(eventually([&] { return first->load() && second->load(); }));
}

TEST_F(MachineDebugTest, AGuestThatWaitsForItsDebuggerDoesNotBegin) {
  boot(1, true);
  const auto first = stands_still(0);
  machine->debug_stop();
  machine->debug_resume({Order::kRun}, {});
  EXPECT_TRUE(eventually([&] { return first->load(); }));
}

TEST_F(MachineDebugTest, PauseAndDebuggerHoldTheGuestEachForItself) {
  boot(2);
  machine->debug_stop();
  machine->pause();
  const auto work = stands_still(0);
  machine->debug_resume({Order::kRun, Order::kRun}, {});
  std::this_thread::sleep_for(kShort);
  EXPECT_FALSE(work->load()) << "it is paused still";
  machine->debug_stop();
  machine->resume();
  std::this_thread::sleep_for(kShort);
  EXPECT_FALSE(work->load()) << "the debugger holds it still";
  machine->debug_resume({Order::kRun, Order::kRun}, {});
  EXPECT_TRUE(eventually([&] { return work->load(); }));
}

TEST_F(MachineDebugTest, OneVcpuStepsAndTheOthersAreHeld) {
  boot(2);
  machine->debug_stop();
  machine->debug_resume({Order::kHold, Order::kStep}, {});
  EXPECT_TRUE(runs(1));
  stands_still(0);
  machine->debug_stop();
  const auto steps = [&](unsigned vcpu) {
    std::vector<uint8_t> seen;
    machine->debug_vcpu(vcpu,
                        [&](VcpuDebug& debug) { seen = debug.registers(RegisterSet::kGeneral); });
    return seen == std::vector<uint8_t>{1};
  };
  EXPECT_FALSE(steps(0));
  EXPECT_TRUE(steps(1));
}

TEST_F(MachineDebugTest, AVcpuAtABreakpointStopsTheOthersAndIsTold) {
  boot(2);
  guest.exit(1, VcpuExit::Reason::kDebug);
  ASSERT_TRUE(eventually([&] { return sink.of(Type::kDebugStop).size() == 1; }));
  EXPECT_EQ(sink.of(Type::kDebugStop)[0].vcpu, 1u);
  EXPECT_FALSE(sink.of(Type::kDebugStop)[0].ends_run());
  machine->debug_stop();
  stands_still(0);
  machine->debug_resume({Order::kRun, Order::kRun}, {});
  EXPECT_TRUE(runs(0));
  EXPECT_TRUE(runs(1));
}

TEST_F(MachineDebugTest, ARunningVcpuIsNotLookedAt) {
  boot(2);
  // A vCPU that has not begun to run is looked at.
  ASSERT_TRUE(runs(0));
  ASSERT_TRUE(runs(1));
  EXPECT_EQ(code_of([&] { machine->debug_vcpu(0, [](VcpuDebug&) {}); }), "EBUSY");
  EXPECT_EQ(code_of([&] { machine->debug_resume({Order::kRun, Order::kRun}, {}); }), "EBUSY");
  machine->debug_stop();
  EXPECT_EQ(code_of([&] { machine->debug_vcpu(2, [](VcpuDebug&) {}); }), "EINVAL");
  const std::vector<Order> three(3, Order::kRun);
  EXPECT_EQ(code_of([&] { machine->debug_resume(three, {}); }), "EINVAL") << "there are two";
  DebugTraps many;
  many.hardware.resize(DebugTraps::kMaxHardware + 1);
  EXPECT_EQ(code_of([&] { machine->debug_resume({Order::kRun, Order::kRun}, many); }), "EINVAL");
  stands_still(0);
}

TEST_F(MachineDebugTest, AVcpuThatDoesNotComeBackIsNamedAndTheGuestGoesOn) {
  boot(2);
  std::promise<void> answer;
  const auto stuck = guest.occupy(1, answer.get_future().share());
  EXPECT_EQ(code_of([&] { machine->debug_stop(kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "vCPU 1 does not leave the guest");
  EXPECT_TRUE(runs(0));
  answer.set_value();
  EXPECT_TRUE(eventually([&] { return stuck->load(); }));
}

TEST_F(MachineDebugTest, AStopThatFailsLetsNoneGoThatTheDebuggerHolds) {
  boot(3);
  machine->debug_stop();
  machine->debug_resume({Order::kHold, Order::kRun, Order::kRun}, {});
  std::promise<void> answer;
  const auto stuck = guest.occupy(1, answer.get_future().share());
  EXPECT_EQ(code_of([&] { machine->debug_stop(kShort); }), "ETIMEDOUT");
  EXPECT_TRUE(runs(2));
  const auto held = stands_still(0);
  answer.set_value();
  EXPECT_TRUE(eventually([&] { return stuck->load(); }));
  machine->debug_stop();
  machine->debug_resume({Order::kRun, Order::kRun, Order::kRun}, {});
  EXPECT_TRUE(eventually([&] { return held->load(); }));
}

TEST_F(MachineDebugTest, EndsWhileItIsStopped) {
  boot(2);
  machine->debug_stop();
  machine->destroy();
  EXPECT_EQ(code_of([&] { machine->debug_stop(); }), "ERR_TSVMM_NO_MACHINE");
}

TEST_F(MachineDebugTest, MemoryIsReadAndWrittenWithinRamOnly) {
  boot(1);
  constexpr GuestAddress kEnd = 16 << 20;
  const std::array<uint8_t, 4> bytes{1, 2, 3, 4};
  std::array<uint8_t, 4> back{};
  EXPECT_TRUE(machine->debug_write(kEnd - 4, bytes));
  EXPECT_TRUE(machine->debug_read(kEnd - 4, back));
  EXPECT_EQ(back, bytes);
  EXPECT_FALSE(machine->debug_write(kEnd - 3, bytes));
  EXPECT_FALSE(machine->debug_read(kEnd - 3, back));
  EXPECT_FALSE(machine->debug_read(~uint64_t{0} - 1, back)) << "it wraps around";
  EXPECT_FALSE(machine->debug_read(kEnd, back));
}

TEST(ExitCounters, CountsByKind) {
  ExitCounters counters;
  counters.add(ExitCounters::Kind::kMmio);
  counters.add(ExitCounters::Kind::kMmio);
  counters.add(ExitCounters::Kind::kKick);
  std::map<std::string, uint64_t> values;
  for (const auto& [name, value] : counters.read()) values[name] = value;
  EXPECT_EQ(values,
            (std::map<std::string, uint64_t>{
                {"port", 0}, {"mmio", 2}, {"eoi", 0}, {"kick", 1}, {"debug", 0}, {"other", 0}}));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(&counters) % 64, 0u);
}

}  // namespace
}  // namespace tsvmm::machine_test
