#include <gtest/gtest.h>

#include "bus/address_space.h"
#include "core/bytes.h"
#include "core/error.h"
#include "device/acpi_events.h"
#include "device/acpi_pm_timer.h"
#include "device/debug_console.h"
#include "device/firmware_debug.h"
#include "device/ged.h"
#include "device/pci_hotplug.h"
#include "device/post_code.h"
#include "device/pvpanic.h"
#include "device/serial.h"
#include "device/x86_64/cmos_rtc.h"
#include "device/x86_64/ioapic.h"
#include "device_test_support.h"
#include "pci/config_space.h"
#include "pci/host_bridge.h"
#include "pci/msix.h"
#include "pci/pci_root.h"
#include "pci/register_function.h"
#include "pci/x86_64/pci_config_ports.h"
#include "virtio/common_config.h"
#include "virtio_mock_driver.h"

/// What a guest sees of a device is one plain struct: copied out of a working device, it makes a
/// second one that goes on where the first was.
namespace tsvmm {
namespace {

using virtio_test::FakeFabric;

class CountingLine : public Interrupt {
 public:
  void trigger() noexcept override { ++triggers; }
  bool set_message(const MsiMessage&) noexcept override { return true; }
  void clear() noexcept override {}
  std::atomic<int> triggers = 0;
};

/// A host's end that takes nothing until it may.
class SlowEnd : public CharBackend {
 public:
  explicit SlowEnd(std::string& taken, bool takes) : taken_(taken), takes_(takes) {}
  size_t write(std::span<const uint8_t> bytes) noexcept override {
    if (!takes_) return 0;
    taken_.append(bytes.begin(), bytes.end());
    return bytes.size();
  }
  void attach(CharClient* /*client*/) override {}
  void input_wanted() noexcept override {}

 private:
  std::string& taken_;
  const bool takes_;
};

TEST(DeviceState, GedKeepsEventsThatWereNotRead) {
  CountingLine line;
  Ged first(line);
  first.notify(Ged::kPowerButton);
  Ged second(line, first.state());
  second.notify(Ged::kVmGeneration);
  EXPECT_EQ(read8(second, 0), Ged::kPowerButton | Ged::kVmGeneration);
}

TEST(DeviceState, AcpiEventsKeepTheInterruptAsserted) {
  bool asserted = false;
  const auto sci = [&asserted](bool now) { asserted = now; };
  AcpiEvents first(sci, [] {});
  write8(first, 9, AcpiEvents::kPowerButtonGpe);
  ASSERT_TRUE(first.raise_gpe(AcpiEvents::kPowerButtonGpe));
  asserted = false;
  AcpiEvents second(
      sci, [] {}, first.state());
  EXPECT_TRUE(asserted);
  write8(second, 8, AcpiEvents::kPowerButtonGpe);
  EXPECT_FALSE(asserted);
}

TEST(DeviceState, PmTimerGoesOnFromWhereItWas) {
  AcpiPmTimer second({.elapsed_ns = 1'000'000'000'000});
  const uint32_t begin = AcpiPmTimer::ticks(1'000'000'000'000);
  const uint32_t now = read32(second, 0);
  EXPECT_GE(now, begin);
  EXPECT_LT(now - begin, 3'579'545U * 60);
  AcpiPmTimer third(second.state());
  EXPECT_GE(read32(third, 0), now);
}

TEST(DeviceState, PciHotplugKeepsWhatTheGuestHasNotReadAndMayEject) {
  std::vector<PciPlace> ejected;
  PciHotplug first(
      2, [] {}, [](PciPlace) {});
  first.insert({1, 3});
  first.request_removal({1, 5});
  write32(first, 12, 1);
  EXPECT_EQ(read32(first, 4), 1U << 5);
  PciHotplug second(
      2, [] {}, [&](PciPlace place) { ejected.push_back(place); }, first.state());
  EXPECT_EQ(read32(second, 0), 1U << 3);
  EXPECT_EQ(read32(second, 4), 0U) << "it has been read";
  write32(second, 8, ~0U);
  EXPECT_EQ(ejected, (std::vector<PciPlace>{{1, 5}}));
}

TEST(DeviceState, FirmwareDebugGoesOnInTheLine) {
  std::string line;
  FirmwareDebug first([](std::string_view) {});
  for (const char c : std::string("one li")) write8(first, 0, static_cast<uint8_t>(c));
  FirmwareDebug second([&](std::string_view told) { line = told; }, first.state());
  for (const char c : std::string("ne\n")) write8(second, 0, static_cast<uint8_t>(c));
  EXPECT_EQ(line, "one line");
}

TEST(DeviceState, PvpanicTellsEachEventOnce) {
  std::vector<uint8_t> told;
  Pvpanic first([](uint8_t) {});
  write8(first, 0, Pvpanic::kCrashLoaded);
  Pvpanic second([&](uint8_t event) { told.push_back(event); }, first.state());
  write8(second, 0, Pvpanic::kCrashLoaded);
  write8(second, 0, Pvpanic::kPanicked);
  EXPECT_EQ(told, (std::vector<uint8_t>{Pvpanic::kPanicked}));
}

TEST(DeviceState, FunctionsKeepWhereTheirBarsAre) {
  const auto make = [] {
    return RegisterFunction({.vendor = 0x1b36, .device = 0x11}, 0xc0000000, 4096,
                            std::make_shared<PostCode>());
  };
  RegisterFunction first = make();
  const std::array<uint8_t, 4> bar{0, 0, 0x10, 0xc0};
  first.config_write(pci_register::kBar0, bar);
  RegisterFunction second = make();
  second.restore(first.state());
  EXPECT_EQ(second.bar(0)->address, 0xc0100000U);
  HostBridge bridge;
  const std::array<uint8_t, 2> command{kPciCommandMemory, 0};
  bridge.config_write(pci_register::kCommand, command);
  HostBridge other;
  other.restore(bridge.state());
  EXPECT_EQ(other.state().values, bridge.state().values);
}

TEST(DeviceState, PostCodesAreCountedOn) {
  PostCode first;
  write8(first, 0, 0x42);
  PostCode second(first.state());
  EXPECT_EQ(read8(second, 0), 0x42);
  write8(second, 0, 0x43);
  EXPECT_EQ(second.state().count, 2U);
}

TEST(DeviceState, CmosKeepsItsMemoryAndTellsAnAlarmThatWasDueMeanwhile) {
  EventLoop loop("state-test");
  CountingLine line;
  static uint64_t now;
  now = 1'000'000'000'000;
  const CmosRtc::Wiring wiring{.loop = loop,
                               .interrupt = line,
                               .alarm = [] {},
                               .reset = [] {},
                               .now_ns = +[]() noexcept { return now; }};
  const auto set = [](CmosRtc& device, uint8_t index, uint8_t value) {
    write8(device, 0, index);
    write8(device, 1, value);
  };
  CmosState saved;
  {
    CmosRtc first({.below_4g = 1 << 30, .above_4g = 0}, wiring);
    set(first, 0x40, 0x5a);
    for (const uint8_t field : {0x01, 0x03, 0x05}) set(first, field, 0xff);  // every second
    set(first, 0x0b, 0x22);  // the alarm's interrupt, 24 hours
    write8(first, 0, 0x40);
    saved = first.state();
  }
  const int before = line.triggers;
  now += 3'000'000'000;
  CmosRtc second(saved, wiring);
  EXPECT_EQ(line.triggers, before + 1);
  EXPECT_EQ(read8(second, 1), 0x5a) << "the index is part of it";
  write8(second, 0, 0x0c);
  EXPECT_EQ(read8(second, 1) & 0xa0, 0xa0);
}

TEST(DeviceState, IoApicDeliversByTheEntriesOfTheFirst) {
  FakeFabric fabric;
  IoApic first(fabric);
  first.pin_line(4);
  write32(first, 0, 0x18);
  write32(first, 0x10, 0x8041);  // level-triggered, vector 0x41
  first.set_level(4, true);
  const IoApicState saved = first.state();
  EXPECT_NE(saved.redirection[4] & 1 << 14, 0U) << "it is in service";

  FakeFabric others;
  IoApic second(others, saved);
  second.pin_line(4);
  EXPECT_EQ(read32(second, 0x10), read32(first, 0x10));
  EXPECT_EQ(others.triggers(), 0) << "the vCPU has it";
  second.eoi(0x41);
  EXPECT_EQ(others.triggers(), 1) << "the pin is still held";
  second.set_level(4, false);
  second.eoi(0x41);
  EXPECT_EQ(others.triggers(), 1);
}

TEST(DeviceState, SerialKeepsWhatTheHostsEndHasNotTaken) {
  CountingLine line;
  std::string taken;
  Serial first(line, std::make_unique<SlowEnd>(taken, false));
  write8(first, 2, 1);  // FIFOs
  write8(first, 7, 0x77);
  for (const char c : std::string("held")) write8(first, 0, static_cast<uint8_t>(c));
  EXPECT_EQ(read8(first, 5) & 0x20, 0) << "THR is not empty";
  Serial second(line, std::make_unique<SlowEnd>(taken, true), first.state());
  EXPECT_EQ(taken, "held");
  EXPECT_EQ(read8(second, 7), 0x77);
  EXPECT_EQ(read8(second, 5) & 0x60, 0x60);
  write8(second, 0, '!');
  EXPECT_EQ(taken, "held!");
}

TEST(DeviceState, DebugConsoleKeepsWhatTheHostsEndHasNotTaken) {
  std::string taken;
  DebugConsole first(std::make_unique<SlowEnd>(taken, false));
  for (const char c : std::string("held")) write8(first, 0, static_cast<uint8_t>(c));
  DebugConsole second(std::make_unique<SlowEnd>(taken, true), first.state());
  EXPECT_EQ(taken, "held");
  write8(second, 0, '!');
  EXPECT_EQ(taken, "held!");
  EXPECT_TRUE(second.state().held.empty());
}

TEST(DeviceState, PciConfigPortsKeepTheAddressBetweenTwoAccesses) {
  AddressSpace mmio;
  PciRoot root(mmio, {0xc0000000, 0x10000000}, {0x4000000000, 0x10000000});
  root.add(0, std::make_shared<HostBridge>());
  PciConfigPorts first(root);
  write32(first, 0, 0x80000000);
  PciConfigPorts second(root, first.state());
  EXPECT_EQ(read32(second, 0), 0x80000000U);
  EXPECT_NE(read32(second, 4), 0xffffffffU);
}

TEST(DeviceState, ConfigSpaceTakesOverWhatAGuestMayChangeAndNoMore) {
  const auto make = [] {
    ConfigSpace made({.vendor = 0x1af4, .device = 0x1042});
    made.add_memory_bar(0, 4096, false, 0xc0000000);
    return made;
  };
  ConfigSpace first = make();
  const std::array<uint8_t, 4> bar{0, 0, 0x10, 0xc0};
  first.write(pci_register::kBar0, bar);
  ConfigSpaceState saved = first.state();
  saved.values[0] = 0xff;  // the vendor's
  ConfigSpace second = make();
  second.restore(saved);
  EXPECT_EQ(second.bar(0)->address, 0xc0100000U);
  EXPECT_EQ(second.get<uint16_t>(0), 0x1af4);
}

TEST(DeviceState, MsixKeepsWhatWasPendingBehindAMask) {
  FakeFabric fabric;
  MsixTable first(fabric, 2);
  const auto entry = [](MsixTable& table, uint64_t offset, uint32_t value) {
    std::array<uint8_t, 4> bytes{};
    store(std::span<uint8_t>(bytes), value);
    table.write_table(offset, bytes);
  };
  entry(first, 16, 0xfee00000);
  entry(first, 24, 0x55);
  first.set_control(true, false);
  first.trigger(1);

  FakeFabric others;
  MsixTable second(others, 2);
  second.restore(first.state());
  EXPECT_EQ(second.vectors(), 2);
  EXPECT_TRUE(second.enabled());
  EXPECT_EQ(others.triggers(), 0);
  entry(second, 28, 0);
  EXPECT_EQ(others.triggers(), 1);
  second.trigger(1);
  EXPECT_EQ(others.triggers(), 2);
}

TEST(DeviceState, CommonConfigGoesOnInTheMiddleOfASetUp) {
  constexpr uint64_t kFeatures = virtio_feature::kVersion1 | 1;
  const std::vector<uint16_t> sizes{128, 64};
  const auto write = [](CommonConfig& config, uint64_t offset, auto value) {
    std::array<uint8_t, sizeof value> bytes{};
    store(std::span<uint8_t>(bytes), value);
    return config.write(offset, bytes);
  };
  CommonConfig first(kFeatures, sizes, 3);
  for (const uint8_t status : {1, 3}) (void)write(first, 0x14, status);
  (void)write(first, 0x08, uint32_t{1});
  (void)write(first, 0x0c, uint32_t{1});
  (void)write(first, 0x14, uint8_t{11});
  (void)write(first, 0x16, uint16_t{1});
  (void)write(first, 0x18, uint16_t{32});
  (void)write(first, 0x20, uint64_t{0x1000});
  first.changed();

  CommonConfig second(kFeatures, sizes, 3);
  second.restore(first.state());
  EXPECT_EQ(second.status(), 11);
  (void)write(second, 0x1c, uint16_t{1});  // the selected queue's
  EXPECT_EQ(write(second, 0x14, uint8_t{15}), CommonConfig::Effect::kActivate);
  EXPECT_EQ(second.queues()[1].rings.size, 32);
  EXPECT_EQ(second.queues()[1].rings.descriptor_table, 0x1000U);
  EXPECT_TRUE(second.queues()[1].enabled);
  EXPECT_EQ(second.driver_features(), virtio_feature::kVersion1);
  EXPECT_EQ(second.state().generation, 1);
}

TEST(DeviceState, CommonConfigRefusesAnotherDevices) {
  CommonConfig config(virtio_feature::kVersion1, {128}, 2);
  const auto refuses = [&](auto change) {
    CommonConfigState state = config.state();
    change(state);
    EXPECT_THROW(config.restore(state), Error);
  };
  refuses([](CommonConfigState& state) { state.queues.emplace_back(); });
  refuses([](CommonConfigState& state) { state.queues[0].rings.size = 256; });
  refuses([](CommonConfigState& state) { state.queues[0].vector = 2; });
  refuses([](CommonConfigState& state) { state.config_vector = 2; });
  refuses([](CommonConfigState& state) {
    state.status = virtio_status::kFeaturesOk;
    state.driver_features = 1;
  });
}

}  // namespace
}  // namespace tsvmm
