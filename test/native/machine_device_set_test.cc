#include <thread>

#include "denied_calls.h"
#include "machine/device_set.h"
#include "machine_fixture.h"
#include "virtio/watchdog.h"

namespace tsvmm::machine_test {
namespace {

class DeviceSetTest : public testing::Test {
 protected:
  DeviceSetTest() { devices.start(); }

  /// Returns when the loop has begun to wait for `answer`.
  void occupy(std::promise<void>& answer) {
    auto begun = std::make_shared<std::promise<void>>();
    devices.loop().post([begun, until = answer.get_future().share()] {
      begun->set_value();
      until.wait();
    });
    begun->get_future().wait();
  }

  PciSpec pci{
      .ecam = 0xd0000000,
      .segments = {{.window32 = {0xc0000000, 0x8000000}, .window64 = {0x4000000000, 0x8000000}},
                   {.window32 = {0xc8000000, 0x8000000}, .window64 = {0x4008000000, 0x8000000}}},
      .functions = {},
      .pvpanic = {}};
  GuestMemory memory{{{0, 1 << 20}}, {}};
  virtio_test::FakeFabric fabric;
  Cancellation cancellation;
  RecordingSink sink;
  DeviceSet devices{pci, memory, fabric, cancellation,
                    [this](MachineEvent event) { sink.emit(std::move(event)); }};
};

TEST_F(DeviceSetTest, WhatCannotBeWaitedForIsNamedAndEndsLater) {
  std::promise<void> answer;
  occupy(answer);
  const std::vector<std::string> named{
      "the host's end of a serial port or console does not answer"};
  EXPECT_EQ(devices.stop(Deadline::after(kShort)), named);
  answer.set_value();
  EXPECT_EQ(devices.stop(Deadline::after(std::chrono::seconds(20))), std::vector<std::string>{});
}

TEST_F(DeviceSetTest, APauseThatIsTakenBackLetsTheLoopGoOn) {
  std::promise<void> answer;
  occupy(answer);
  devices.begin_pause();
  EXPECT_THROW(devices.wait_paused(Deadline::after(kShort)), Error);
  devices.resume();
  answer.set_value();
  std::promise<void> ran;
  devices.loop().post([&ran] { ran.set_value(); });
  EXPECT_EQ(ran.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

/// A device that needs nothing of the host.
class PlainSpec final : public DeviceSpec {
 public:
  std::shared_ptr<VirtioDevice> make(const std::string& /*id*/,
                                     const DeviceContext& context) override {
    return std::make_shared<VirtioWatchdog>(context.loop,
                                            [reset = context.reset_machine] { reset("watchdog"); });
  }
};

/// On a host whose limit of threads is reached at boot.
TEST_F(DeviceSetTest, DevicesThatNeverStartedEndWithoutAThread) {
  std::thread([this] {
    auto unstarted = std::make_unique<DeviceSet>(pci, memory, fabric, cancellation,
                                                 [](const MachineEvent& /*event*/) {});
    PciSpec one;
    one.functions.push_back({.id = "_watchdog",
                             .place = {0, 3},
                             .bar0 = 0xc0000000,
                             .device = std::make_unique<PlainSpec>()});
    unstarted->add_functions(one);
    int ran = 0;
    unstarted->loop().post([&] { ran = 1; });
    DeniedCalls::deny(DeniedCalls::kThreads, EAGAIN);
    EXPECT_THROW(unstarted->start(), Error);
    EXPECT_EQ(unstarted->stop(Deadline::never()), std::vector<std::string>{});
    // As the host's end of a serial port does, which goes before.
    EXPECT_NO_THROW(unstarted->loop().call([&] { ran = ran == 1 ? 2 : 0; }));
    EXPECT_EQ(ran, 2) << "what was asked for before comes first";
    unstarted.reset();
  }).join();
}

TEST_F(DeviceSetTest, TakesOneFunctionASlot) {
  PciSpec twice;
  for (const char* id : {"_first", "_second"}) {
    twice.functions.push_back(
        {.id = id, .place = {0, 3}, .bar0 = 0xc0000000, .device = std::make_unique<PlainSpec>()});
  }
  EXPECT_THROW(devices.add_functions(twice), Error);
}

/// What a guest reads of configuration space: vendor and device, or all ones.
TEST_F(DeviceSetTest, EachSegmentHasABusOfItsOwn) {
  PciSpec functions;
  const auto add = [&functions](const char* id, PciPlace place, GuestAddress bar0) {
    functions.functions.push_back(
        {.id = id, .place = place, .bar0 = bar0, .device = std::make_unique<PlainSpec>()});
  };
  add("_first", {0, 3}, 0xc0000000);
  add("_second", {1, 3}, 0xc8000000);
  add("_third", {1, 0}, 0xc8080000);
  devices.add_functions(functions);
  const auto id_at = [this](unsigned segment, unsigned slot) {
    std::array<uint8_t, 4> bytes{};
    devices.mmio().read(0xd0000000 + (uint64_t{segment} << 20) + (uint64_t{slot} << 15), bytes);
    return load<uint32_t>(bytes);
  };
  constexpr uint32_t kWatchdog = 0x10631af4;
  EXPECT_EQ(id_at(0, 0), 0x0d578086U) << "the host bridge";
  EXPECT_EQ(id_at(0, 3), kWatchdog);
  EXPECT_EQ(id_at(1, 3), kWatchdog);
  EXPECT_EQ(id_at(1, 0), kWatchdog) << "there is no other bridge";
  EXPECT_EQ(id_at(1, 4), ~0U);
  EXPECT_EQ(id_at(2, 0), ~0U);
}

TEST_F(DeviceSetTest, AFunctionKeepsToItsSegment) {
  const auto refused = [this](PciPlace place, GuestAddress bar0) {
    PciSpec functions;
    functions.functions.push_back(
        {.id = "_one", .place = place, .bar0 = bar0, .device = std::make_unique<PlainSpec>()});
    EXPECT_THROW(devices.add_functions(functions), Error);
  };
  refused({2, 1}, 0xc0000000);
  refused({1, 1}, 0xc0000000);  // the other segment's window
}

TEST_F(DeviceSetTest, AGuestsPanicIsAnEvent) {
  PciSpec panic;
  panic.pvpanic = PvpanicSpec{.slot = 5, .bar0 = 0xc0010000};
  devices.add_functions(panic);
  const std::array<uint8_t, 1> panicked{1};
  devices.mmio().write(0xc0010000, panicked);
  ASSERT_EQ(sink.of(MachineEvent::Type::kGuestPanic).size(), 1U);
  EXPECT_EQ(sink.of(MachineEvent::Type::kGuestPanic)[0].reason, "panic");
}

}  // namespace
}  // namespace tsvmm::machine_test
