#include "machine/machine.h"

#include "core/error.h"
#include "machine_fixture.h"

namespace tsvmm::machine_test {
namespace {

using Type = MachineEvent::Type;

TEST_F(MachineTest, RunsPausesAndEnds) {
  build(2);
  machine->boot(boot_spec());
  guest.run(1, [](AccessHandler&) {});
  machine->pause();
  const auto later = guest.begin(0, [](AccessHandler&) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(*later);
  EXPECT_EQ(machine->post_code().count, 0u) << "a paused machine can be asked";
  machine->resume();
  EXPECT_TRUE(eventually([&] { return later->load(); }));
  machine->destroy();
  machine->destroy();
  EXPECT_EQ(code_of([&] { machine->pause(); }), "ERR_TSVMM_NO_MACHINE");
  EXPECT_EQ(code_of([&] { machine->press_power_button(); }), "ERR_TSVMM_NO_MACHINE");
  EXPECT_EQ(sink.count(), 0u);
}

TEST_F(MachineTest, AMachineThatBootsPausedRunsNothingBeforeItIsResumed) {
  for (const unsigned vcpus : {1u, 2u}) {
    build(vcpus);
    BootSpec boot = boot_spec();
    boot.paused = true;
    machine->boot(std::move(boot));
    const auto first = guest.begin(vcpus - 1, [](AccessHandler&) {});
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(*first);
    EXPECT_EQ(code_of([&] { machine->pause(); }), "EINVAL");
    machine->resume();
    EXPECT_TRUE(eventually([&] { return first->load(); }));
    machine->pause();
    machine->destroy();
  }
}

TEST_F(MachineTest, AVcpuThatDoesNotComeBackIsNamedAndTheGuestGoesOn) {
  build(2);
  machine->boot(boot_spec());
  std::promise<void> answer;
  const auto stuck = guest.occupy(1, answer.get_future().share());
  EXPECT_EQ(code_of([&] { machine->pause(kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "vCPU 1 does not leave the guest");
  guest.run(0, [](AccessHandler&) {});
  answer.set_value();
  EXPECT_TRUE(eventually([&] { return stuck->load(); }));
  machine->pause();
  machine->resume();
  guest.run(1, [](AccessHandler&) {});
}

TEST_F(MachineTest, EndsWithoutAVcpuThatDoesNotComeBack) {
  build(2);
  machine->boot(boot_spec());
  std::promise<void> answer;
  auto future = answer.get_future().share();
  std::atomic<bool> begun = false;
  const auto stuck = guest.begin(1, [&begun, future](AccessHandler& devices) {
    begun = true;
    future.wait();
    devices.port_write(0x64, {});  // what it uses is still there
  });
  ASSERT_TRUE(eventually([&] { return begun.load(); }));
  EXPECT_EQ(code_of([&] { machine->destroy(kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "vCPU 1 does not leave the guest. Memory and files are kept until then");
  EXPECT_EQ(code_of([&] { machine->destroy(kShort); }), "") << "it is over for its owner";
  machine.reset();
  answer.set_value();
  EXPECT_TRUE(eventually([&] { return stuck->load(); }));
  EXPECT_TRUE(eventually([] { return threads_named("machine-remains") == 0; }));
}

TEST_F(MachineTest, APauseThatIsCalledOffEndsAtOnce) {
  build();
  machine->boot(boot_spec());
  std::promise<void> answer;
  const auto stuck = guest.occupy(0, answer.get_future().share());
  std::thread quit([this] {
    std::this_thread::sleep_for(kShort);
    machine->cancel();
  });
  EXPECT_EQ(code_of([&] { machine->pause(std::chrono::hours(1)); }), "ECANCELED");
  quit.join();
  EXPECT_EQ(code_of([&] { machine->pause(); }), "ECANCELED");
  answer.set_value();
  machine->destroy();
}

TEST_F(MachineTest, IsBusyWhileItIsBeingPaused) {
  build();
  machine->boot(boot_spec());
  std::promise<void> answer;
  const auto stuck = guest.occupy(0, answer.get_future().share());
  std::thread pausing([this] { machine->pause(); });
  EXPECT_TRUE(eventually([&] { return code_of([&] { (void)machine->counters(); }) == "EBUSY"; }));
  answer.set_value();
  pausing.join();
  EXPECT_EQ(code_of([&] { (void)machine->counters(); }), "");
}

TEST_F(MachineTest, OneEventEndsTheRun) {
  build(2);
  machine->boot(boot_spec());
  guest.exit(0, VcpuExit::Reason::kTripleFault);
  guest.exit(1, VcpuExit::Reason::kTripleFault);
  EXPECT_TRUE(eventually([&] { return sink.of(Type::kReset).size() == 1; }));
  machine->pause();  // nobody is left to be waited for
  machine->destroy();
  EXPECT_EQ(sink.count(), 1u);
}

TEST_F(MachineTest, NothingIsHeardAfterItsEnd) {
  build();
  machine->boot(boot_spec());
  machine->destroy();
  guest.exit(0, VcpuExit::Reason::kTripleFault);
  EXPECT_EQ(sink.count(), 0u);
}

TEST_F(MachineTest, AVcpuThatCannotBeSetUpFailsTheBoot) {
  MachineSpec spec = machine_spec(2);
  spec.vcpus[1].setup = refused_setup();
  machine = std::make_unique<Machine>(std::move(spec), sink);
  machine->build([this](GuestMemory&, uint32_t) { return std::make_unique<FakeVm>(guest); });
  EXPECT_EQ(code_of([&] { machine->boot(boot_spec()); }), "EINVAL");
  EXPECT_EQ(code_of([&] { machine->boot(boot_spec()); }), "ERR_TSVMM_NO_MACHINE");
  machine->destroy();
}

TEST_F(MachineTest, AVcpuThatTheHostDoesNotSetUpFailsTheBootAndDoesNotRunLater) {
  for (const unsigned vcpus : {1U, 2U}) {
    std::promise<void> answer;
    guest.forget();
    guest.delay_set_up(vcpus - 1, answer.get_future().share());
    build(vcpus);
    EXPECT_EQ(code_of([&] { machine->boot(boot_spec(), kShort); }), "ETIMEDOUT");
    EXPECT_EQ(message, "the host does not set up vCPU " + std::to_string(vcpus - 1) + " in time");
    const auto ran = guest.begin(0, [](AccessHandler&) {});
    answer.set_value();
    EXPECT_EQ(code_of([&] { machine->boot(boot_spec()); }), "ERR_TSVMM_NO_MACHINE");
    machine->destroy();
    EXPECT_FALSE(ran->load());
  }
}

TEST_F(MachineTest, PopulatingMemoryIsCalledOff) {
  MachineSpec spec = machine_spec(1);
  spec.memory.front().options.prefault = true;
  machine = std::make_unique<Machine>(std::move(spec), sink);
  machine->cancel();
  const auto make_vm = [this](GuestMemory&, uint32_t) { return std::make_unique<FakeVm>(guest); };
  EXPECT_EQ(code_of([&] { machine->build(make_vm); }), "ECANCELED");
  Cancellation cancellation;
  cancellation.request();
  EXPECT_EQ(code_of([&] {
              const GuestMemory populated({{0, 1 << 20}}, {.prefault = true}, cancellation);
            }),
            "ECANCELED");
}

}  // namespace
}  // namespace tsvmm::machine_test
