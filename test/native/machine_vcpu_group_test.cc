#include <optional>

#include "core/error.h"
#include "machine/vcpu_group.h"
#include "machine_fixture.h"

namespace tsvmm::machine_test {
namespace {

class VcpuGroupTest : public testing::Test, public AccessHandler {
 protected:
  void port_read(uint16_t, std::span<uint8_t>) override {}
  void port_write(uint16_t, std::span<const uint8_t>) override {}
  void mmio_read(GuestAddress, std::span<uint8_t>) override {}
  void mmio_write(GuestAddress, std::span<const uint8_t>) override {}
  void end_of_interrupt(uint8_t) override {}

  void create(unsigned vcpus) {
    group.reset();
    vm.emplace(guest);
    group.emplace(*vm, [this](unsigned index, const VcpuExit& exit) {
      exited = index;
      reason = exit.reason;
      group->stop();
    });
    std::vector<VcpuSpec> specs;
    for (unsigned id = 0; id < vcpus; ++id) specs.push_back(vcpu_spec(id));
    group->create(specs);
  }
  void start(unsigned vcpus) {
    create(vcpus);
    EXPECT_EQ(group->start(*this, soon()), std::nullopt);
  }
  static LateVcpu late(unsigned index) { return {.index = index, .vcpu = vcpu_spec(index)}; }
  std::vector<unsigned> indexes() {
    std::vector<unsigned> found;
    for (const VcpuStatistics& one : group->statistics()) found.push_back(one.index);
    return found;
  }
  static Deadline soon() { return Deadline::after(std::chrono::seconds(20)); }
  static Deadline shortly() { return Deadline::after(kShort); }

  FakeGuest guest;
  std::optional<FakeVm> vm;
  std::atomic<unsigned> exited = ~0U;
  std::atomic<VcpuExit::Reason> reason{};
  std::optional<VcpuGroup> group;
};

TEST_F(VcpuGroupTest, NoneRunsBeforeAllAreSetUp) {
  std::promise<void> answer;
  guest.delay_set_up(2, answer.get_future().share());
  create(3);
  const auto work = guest.begin(0, [](AccessHandler&) {});
  EXPECT_EQ(group->start(*this, Deadline::after(kShort)), 2U);
  EXPECT_FALSE(*work) << "the deadline passed before they were set up";
  group->stop();
  answer.set_value();
  EXPECT_EQ(group->wait_left(soon()), std::nullopt);
}

TEST_F(VcpuGroupTest, TheFirstRunsFromItsEntryOnlyAndOnceItIsSetUp) {
  std::promise<void> answer;
  guest.delay_set_up(0, answer.get_future().share());
  create(2);
  group->enter(std::make_shared<const VcpuEntry>(VcpuEntry{.rip = 0x1000}));
  const auto work = guest.begin(0, [](AccessHandler&) {});
  auto started = std::async(std::launch::async, [this] { return group->start(*this, soon()); });
  EXPECT_EQ(started.wait_for(kShort), std::future_status::timeout);
  EXPECT_FALSE(*work);
  answer.set_value();
  EXPECT_EQ(started.get(), std::nullopt);
  EXPECT_TRUE(eventually([&] { return work->load(); }));
  EXPECT_EQ(guest.entries(), std::vector<uint64_t>{0x1000});
}

TEST_F(VcpuGroupTest, AnEntryThatIsRefusedIsWhyItDoesNotStart) {
  create(2);
  group->enter(std::make_shared<const VcpuEntry>());
  EXPECT_THROW((void)group->start(*this, soon()), Error);
  create(0);
  EXPECT_THROW(group->enter(std::make_shared<const VcpuEntry>()), Error);
}

/// What it then could not do either says less.
TEST_F(VcpuGroupTest, OneThatCannotBeSetUpGetsNoEntry) {
  group.emplace(vm.emplace(guest), [](unsigned, const VcpuExit&) {});
  group->create({{.id = 0, .affinity = {}, .setup = refused_setup()}});
  group->enter(std::make_shared<const VcpuEntry>(VcpuEntry{.rip = 0x1000}));
  EXPECT_THROW((void)group->start(*this, soon()), Error);
  EXPECT_TRUE(guest.entries().empty());
}

TEST_F(VcpuGroupTest, APauseIsTakenBackWhenOneDoesNotCome) {
  start(2);
  std::promise<void> answer;
  const auto stuck = guest.occupy(1, answer.get_future().share());
  group->begin_pause();
  EXPECT_EQ(group->wait_paused(shortly()), 1U);
  group->resume();
  guest.run(0, [](AccessHandler&) {});
  answer.set_value();
  group->begin_pause();
  EXPECT_EQ(group->wait_paused(soon()), std::nullopt);
  const auto later = guest.begin(1, [](AccessHandler&) {});
  std::this_thread::sleep_for(kShort);
  EXPECT_FALSE(*later);
  group->resume();
  EXPECT_TRUE(eventually([&] { return later->load(); }));
}

TEST_F(VcpuGroupTest, StopReachesVcpusThatArePausedHeldOrNotYetSetUp) {
  start(2);
  group->begin_pause();
  EXPECT_EQ(group->wait_paused(soon()), std::nullopt);
  group->hold();
  group->stop();
  EXPECT_EQ(group->wait_left(soon()), std::nullopt);
  group->resume();  // nothing to take back any more
  create(2);
  group->stop();
  EXPECT_EQ(group->wait_left(soon()), std::nullopt);
}

TEST_F(VcpuGroupTest, OneThatDoesNotLeaveIsNamedUntilItHas) {
  start(2);
  std::promise<void> answer;
  const auto stuck = guest.occupy(0, answer.get_future().share());
  group->stop();
  EXPECT_EQ(group->wait_left(shortly()), 0U);
  answer.set_value();
  EXPECT_EQ(group->wait_left(soon()), std::nullopt);
}

TEST_F(VcpuGroupTest, AnExitIsToldOnItsVcpu) {
  start(2);
  guest.exit(1, VcpuExit::Reason::kInternalError);
  EXPECT_EQ(group->wait_left(soon()), std::nullopt);
  EXPECT_EQ(exited, 1U);
  EXPECT_EQ(reason, VcpuExit::Reason::kInternalError);
}

TEST_F(VcpuGroupTest, AVcpuThatRunsIsNotShownToTheDebugger) {
  start(1);
  EXPECT_THROW(group->with_debug(0, [](VcpuDebug&) {}), Error);
  EXPECT_THROW(group->release({VcpuGroup::DebugOrder::kRun}, {}), Error);
  group->hold();
  EXPECT_EQ(group->wait_paused(soon()), std::nullopt);
  bool seen = false;
  group->with_debug(0, [&seen](VcpuDebug&) { seen = true; });
  EXPECT_TRUE(seen);
  EXPECT_THROW(group->with_debug(1, [](VcpuDebug&) {}), Error);
  group->unhold();
  guest.run(0, [](AccessHandler&) {});
}

TEST_F(VcpuGroupTest, APauseAloneShowsTheDebuggerNothing) {
  start(1);
  ASSERT_TRUE(group->begin_pause());
  EXPECT_EQ(group->wait_paused(soon()), std::nullopt);
  EXPECT_THROW(group->with_debug(0, [](VcpuDebug&) {}), Error);
  EXPECT_THROW(group->release({VcpuGroup::DebugOrder::kRun}, {}), Error);
  group->hold();
  group->with_debug(0, [](VcpuDebug&) {});
  group->release({VcpuGroup::DebugOrder::kRun}, {});
  group->resume();
  guest.run(0, [](AccessHandler&) {});
}

TEST_F(VcpuGroupTest, OneThatIsRemovedIsOutOfTheGuestUntilItIsAddedAgain) {
  start(2);
  group->add({late(2)}, soon());
  guest.run(2, [](AccessHandler&) {});
  EXPECT_EQ(indexes(), (std::vector<unsigned>{0, 1, 2}));
  for (unsigned round = 1; round <= 3; ++round) {
    group->remove(2);
    EXPECT_EQ(indexes(), (std::vector<unsigned>{0, 1}));
    group->add({late(2)}, soon());
    guest.run(2, [](AccessHandler&) {});
    EXPECT_EQ(guest.resets(), round);
  }
  group->remove(7);
  EXPECT_EQ(threads_named("vcpu2"), 1U);
}

TEST_F(VcpuGroupTest, OneThatCannotBeMadeIsNotAddedAndMayBeTriedAgain) {
  start(1);
  LateVcpu bad = late(2);
  bad.vcpu.setup = refused_setup();
  EXPECT_THROW(group->add({late(1), bad}, soon()), Error);
  EXPECT_THROW(group->add({late(3)}, soon()), Error) << "there is a gap";
  EXPECT_EQ(indexes(), std::vector<unsigned>{0});
  group->add({late(1), late(2)}, soon());
  guest.run(2, [](AccessHandler&) {});
  EXPECT_EQ(indexes(), (std::vector<unsigned>{0, 1, 2}));
}

/// What an attempt that was given up still does is not taken for what the next one has asked for.
TEST_F(VcpuGroupTest, OneThatTheHostStillResetsIsResetOnceMoreForTheNextAttempt) {
  start(1);
  group->add({late(1)}, soon());
  group->remove(1);
  std::promise<void> first;
  guest.delay_resets(first.get_future().share());
  EXPECT_THROW(group->add({late(1)}, shortly()), Error);
  auto next = std::async(std::launch::async, [this] { group->add({late(1)}, soon()); });
  std::this_thread::sleep_for(kShort);
  std::promise<void> second;
  guest.delay_resets(second.get_future().share());
  first.set_value();
  EXPECT_EQ(next.wait_for(kShort), std::future_status::timeout);
  second.set_value();
  next.get();
  EXPECT_EQ(guest.resets(), 2U);
  guest.run(1, [](AccessHandler&) {});
}

TEST_F(VcpuGroupTest, OneThatIsAddedWhileNoneRunsWaitsWithTheOthers) {
  start(1);
  group->begin_pause();
  group->add({late(1)}, soon());
  EXPECT_EQ(group->wait_paused(soon()), std::nullopt);
  const auto work = guest.begin(1, [](AccessHandler&) {});
  group->hold();
  group->resume();
  group->add({late(2)}, soon());
  const auto other = guest.begin(2, [](AccessHandler&) {});
  std::this_thread::sleep_for(kShort);
  EXPECT_FALSE(*work || *other);
  group->unhold();
  EXPECT_TRUE(eventually([&] { return work->load() && other->load(); }));
}

TEST_F(VcpuGroupTest, ThreadsPauseResumeAndAskAtOnce) {
  start(4);
  std::atomic<bool> over = false;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!over) {
      group->begin_pause();
      EXPECT_EQ(group->wait_paused(soon()), std::nullopt);
      group->resume();
    }
  });
  threads.emplace_back([&] {
    while (!over) EXPECT_LE(group->statistics().size(), 6U);
  });
  threads.emplace_back([&] {
    while (!over) group->inject_nmi();
  });
  threads.emplace_back([&] {
    while (!over) {
      group->add({late(4), late(5)}, soon());
      group->remove(5);
      group->remove(4);
    }
  });
  for (int i = 0; i < 200; ++i) guest.run(static_cast<unsigned>(i % 4), [](AccessHandler&) {});
  over = true;
  for (std::thread& thread : threads) thread.join();
  group->stop();
  EXPECT_EQ(group->wait_left(soon()), std::nullopt);
}

}  // namespace
}  // namespace tsvmm::machine_test
