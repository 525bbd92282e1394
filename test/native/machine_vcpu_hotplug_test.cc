#include <array>

#include "core/bytes.h"
#include "machine_fixture.h"

/// vCPUs that come to a machine and leave it, with a guest that does as the AML says, or does not.
namespace tsvmm::machine_test {
namespace {

using Type = MachineEvent::Type;

class MachineVcpuHotplugTest : public MachineTest {
 protected:
  static constexpr GuestAddress kController = 0xfe000020;
  static constexpr GuestAddress kGed = 0xfe000000;
  static constexpr unsigned kMost = 6;
  static constexpr uint8_t kEject = 8;

  void SetUp() override { start(2); }

  void start(uint16_t vcpus) {
    build(vcpus);
    BootSpec boot = boot_spec();
    boot.board->cpu_hotplug = {.address = kController, .present = vcpus, .most = kMost};
    machine->boot(std::move(boot));
  }
  static LateVcpu vcpu(unsigned index) { return {.index = index, .vcpu = vcpu_spec(index)}; }
  void plug(unsigned index) { machine->plug_vcpus({vcpu(index)}); }

  static void select(AccessHandler& board, uint32_t cpu) {
    std::array<uint8_t, 4> bytes{};
    store(std::span<uint8_t>(bytes), cpu);
    board.mmio_write(kController, bytes);
  }
  /// From the vCPU `by`.
  void eject(unsigned cpu, unsigned by = 0) {
    guest.run(by, [&](AccessHandler& board) {
      select(board, cpu);
      board.mmio_write(kController + 4, std::array<uint8_t, 1>{kEject});
    });
  }
  uint8_t status(unsigned cpu) {
    std::array<uint8_t, 1> byte{};
    guest.run(0, [&](AccessHandler& board) {
      select(board, cpu);
      board.mmio_read(kController + 4, byte);
    });
    return byte[0];
  }
  uint8_t ged() {
    std::array<uint8_t, 1> byte{};
    guest.run(0, [&](AccessHandler& board) { board.mmio_read(kGed, byte); });
    return byte[0];
  }
  std::vector<unsigned> told(Type type) {
    std::vector<unsigned> vcpus;
    for (const MachineEvent& event : sink.of(type)) vcpus.push_back(event.vcpu);
    return vcpus;
  }
  std::vector<unsigned> present() {
    std::vector<unsigned> vcpus;
    for (const VcpuStatistics& one : machine->vcpu_statistics()) vcpus.push_back(one.index);
    return vcpus;
  }
};

TEST_F(MachineVcpuHotplugTest, ComesIsStartedAndLeavesAsOftenAsOneLikes) {
  for (unsigned round = 0; round < 20; ++round) {
    machine->plug_vcpus({vcpu(2), vcpu(3)});
    EXPECT_EQ(ged(), 1) << "the guest is told of vCPUs";
    EXPECT_EQ(status(2), 3);
    EXPECT_EQ(present(), (std::vector<unsigned>{0, 1, 2, 3}));
    EXPECT_EQ(guest.resets(), 2 * round) << "the threads are the same ones";
    guest.exit(3, VcpuExit::Reason::kStarted);
    EXPECT_TRUE(eventually([&] { return told(Type::kVcpuStarted).size() == round + 1; }));
    guest.exit(3, VcpuExit::Reason::kStarted);
    guest.run(3, [](AccessHandler&) {});
    EXPECT_EQ(told(Type::kVcpuStarted).size(), round + 1) << "that is told once";
    machine->request_vcpu_unplug(2);
    EXPECT_EQ(ged(), 1);
    eject(3);
    eject(2, 2);  // itself
    EXPECT_EQ(present(), (std::vector<unsigned>{0, 1}));
    EXPECT_EQ(told(Type::kVcpuEjected).size(), 2 * (round + 1));
    const auto never = guest.begin(2, [](AccessHandler&) {});
    EXPECT_EQ(threads_named("vcpu2"), 1U);
    guest.run(1, [](AccessHandler&) {});
    EXPECT_FALSE(*never) << "before it comes again";
  }
}

TEST_F(MachineVcpuHotplugTest, WhatNobodyAskedForIsNotEjected) {
  for (unsigned cpu = 0; cpu < 10; ++cpu) eject(cpu);
  machine->request_vcpu_unplug(0);
  eject(0);
  EXPECT_TRUE(told(Type::kVcpuEjected).empty());
  EXPECT_EQ(present(), (std::vector<unsigned>{0, 1}));
  guest.run(1, [](AccessHandler&) {});
}

TEST_F(MachineVcpuHotplugTest, WhatCannotBeIsRefusedAndNothingIsAdded) {
  EXPECT_EQ(code_of([&] { plug(1); }), "EINVAL");
  EXPECT_EQ(code_of([&] { plug(4); }), "EINVAL") << "without vCPUs 2 and 3";
  EXPECT_EQ(code_of([&] { machine->plug_vcpus({vcpu(2), vcpu(2)}); }), "EINVAL");
  EXPECT_EQ(code_of([&] {
              machine->plug_vcpus({vcpu(2), vcpu(3), vcpu(4), vcpu(5), vcpu(kMost)});
            }),
            "EINVAL")
      << "more than the guest knows of";
  EXPECT_EQ(status(2), 0);
  EXPECT_EQ(present(), (std::vector<unsigned>{0, 1}));
  LateVcpu bad = vcpu(3);
  bad.vcpu.setup = refused_setup();
  EXPECT_EQ(code_of([&] { machine->plug_vcpus({vcpu(2), bad}); }), "EINVAL");
  EXPECT_EQ(status(2), 0);
  EXPECT_EQ(present(), (std::vector<unsigned>{0, 1}));
  machine->plug_vcpus({vcpu(2), vcpu(3)});
  EXPECT_EQ(present(), (std::vector<unsigned>{0, 1, 2, 3}));
}

TEST_F(MachineVcpuHotplugTest, AMachineWithoutAControllerRefuses) {
  machine = nullptr;
  build(2);
  machine->boot(boot_spec());
  EXPECT_EQ(code_of([&] { plug(2); }), "ENOTSUP");
  EXPECT_EQ(code_of([&] { machine->request_vcpu_unplug(1); }), "ENOTSUP");
}

TEST_F(MachineVcpuHotplugTest, WhileItIsPausedTheGuestSeesItWhenItGoesOn) {
  machine->pause();
  plug(2);
  const auto work = guest.begin(2, [](AccessHandler&) {});
  std::this_thread::sleep_for(kShort);
  EXPECT_FALSE(*work);
  machine->resume();
  EXPECT_TRUE(eventually([&] { return work->load(); }));
  machine->request_vcpu_unplug(2);
  machine->pause();
  machine->resume();
  eject(2);
  machine->pause();
  plug(2);
  machine->resume();
  guest.run(2, [](AccessHandler&) {});
  EXPECT_EQ(guest.resets(), 1U);
}

/// The guest gave up a vCPU whose thread the host does not let come back yet.
TEST_F(MachineVcpuHotplugTest, OneThatDoesNotLeaveTheGuestDoesNotComeAgainBefore) {
  plug(2);
  std::promise<void> answer;
  const auto stuck = guest.occupy(2, answer.get_future().share());
  machine->request_vcpu_unplug(2);
  eject(2);
  EXPECT_EQ(code_of([&] { machine->plug_vcpus({vcpu(2)}, kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "vCPU 2 does not leave the guest");
  EXPECT_EQ(status(2), 0);
  answer.set_value();
  plug(2);
  guest.run(2, [](AccessHandler&) {});
}

TEST_F(MachineVcpuHotplugTest, ADebuggerHasThoseThatAreThere) {
  machine->debug_stop();
  plug(2);
  const auto work = guest.begin(2, [](AccessHandler&) {});
  // Its thread may be on its way to where it is held.
  EXPECT_TRUE(eventually(
      [&] { return code_of([&] { machine->debug_vcpu(2, [](VcpuDebug&) {}); }).empty(); }));
  EXPECT_EQ(code_of([&] { machine->debug_vcpu(3, [](VcpuDebug&) {}); }), "EINVAL");
  EXPECT_FALSE(*work);
  using Order = VcpuGroup::DebugOrder;
  machine->debug_resume({Order::kRun, Order::kRun, Order::kRun}, {});
  EXPECT_TRUE(eventually([&] { return work->load(); }));
  machine->request_vcpu_unplug(2);
  eject(2);
  machine->debug_stop();
  EXPECT_EQ(code_of([&] { machine->debug_vcpu(2, [](VcpuDebug&) {}); }), "EINVAL");
  machine->debug_resume({Order::kRun, Order::kRun}, {});
  guest.run(1, [](AccessHandler&) {});
}

TEST_F(MachineVcpuHotplugTest, EndsWithOneThatIsHalfGoneAndOneThatIsGone) {
  machine->plug_vcpus({vcpu(2), vcpu(3)});
  machine->request_vcpu_unplug(2);
  eject(3);
  machine->destroy();
  EXPECT_EQ(threads_named("vcpu3"), 0U);
}

/// All registers, from several vCPUs at once, while the host adds, asks and looks.
TEST_F(MachineVcpuHotplugTest, IsAttackedFromAllVcpusWhileTheyComeAndGo) {
  machine = nullptr;
  guest.forget();
  start(4);
  std::atomic<bool> done = false;
  std::vector<std::shared_ptr<std::atomic<bool>>> attacks;
  for (unsigned by = 1; by < 4; ++by) {
    attacks.push_back(guest.begin(by, [&done, by](AccessHandler& board) {
      std::array<uint8_t, 8> bytes{};
      for (unsigned i = by; !done; ++i) {
        select(board, i % 9);
        bytes.fill(static_cast<uint8_t>(i));
        board.mmio_write(kController + 4 + i % 7, std::span(bytes).first(1U << (i % 4)));
        board.mmio_write(kController + 4, std::array<uint8_t, 1>{kEject});
        board.mmio_read(kController + i % 11, bytes);
        board.mmio_read(kGed, std::span(bytes).first(1));
      }
    }));
  }
  size_t ejected = 0;
  for (int round = 0; round < 100; ++round) {
    machine->plug_vcpus({vcpu(4), vcpu(5)});
    EXPECT_GE(machine->vcpu_statistics().size(), 4U);
    machine->request_vcpu_unplug(4);
    ejected += 2;
    EXPECT_TRUE(eventually([&] { return told(Type::kVcpuEjected).size() == ejected; }));
  }
  for (const unsigned vcpu : told(Type::kVcpuEjected)) EXPECT_GE(vcpu, 4U);
  EXPECT_EQ(present(), (std::vector<unsigned>{0, 1, 2, 3}));
  done = true;
  for (const auto& attack : attacks) EXPECT_TRUE(eventually([&] { return attack->load(); }));
}

}  // namespace
}  // namespace tsvmm::machine_test
