// The small devices: what each register says, and that no access does harm.

#include <array>
#include <ctime>

#include "core/event_loop.h"
#include "device/acpi_events.h"
#include "device/acpi_pm_timer.h"
#include "device/acpi_power.h"
#include "device/debug_console.h"
#include "device/firmware_debug.h"
#include "device/ged.h"
#include "device/post_code.h"
#include "device/pvpanic.h"
#include "device/x86_64/cmos_rtc.h"
#include "device/x86_64/i8042.h"
#include "device_test_support.h"

namespace tsvmm {
namespace {

TEST(DeviceI8042, ResetCommand) {
  int resets = 0;
  I8042 device([&] { ++resets; });
  EXPECT_EQ(read8(device, 0), 0x20);
  EXPECT_EQ(read8(device, 3), 0x00);
  write8(device, 3, 0xFF);
  write8(device, 0, 0xFE);
  EXPECT_EQ(resets, 0);
  write8(device, 3, 0xFE);
  EXPECT_EQ(resets, 1);
  access_everything(device, I8042::kSize);
}

TEST(DeviceI8042, WideAccessIsConsecutivePorts) {
  int resets = 0;
  I8042 device([&] { ++resets; });
  EXPECT_EQ(read32(device, 0), 0x00FFFF20U);
  EXPECT_EQ(read32(device, 3), 0xFFFFFF00U);
  write32(device, 0, 0xFE000000);
  EXPECT_EQ(resets, 1);
}

TEST(DeviceAcpiPower, SleepAndReset) {
  int power_offs = 0;
  int resets = 0;
  AcpiPower device([&] { ++power_offs; }, [&] { ++resets; });
  EXPECT_EQ(read8(device, 0), 0);
  write8(device, 0, 0x00);
  write8(device, 0, 0x14);  // type 5 without the enable bit
  write8(device, 0, 0x20);  // another sleep type
  EXPECT_EQ(power_offs + resets, 0);
  write8(device, 0, 0x34);
  EXPECT_EQ(power_offs, 1);
  write32(device, 0, 0xFFFFFF01);
  EXPECT_EQ(resets, 1);
  access_everything(device, AcpiPower::kSize);
}

class AcpiEventsTest : public testing::Test {
 protected:
  void write16(uint64_t offset, uint16_t value) {
    std::array<uint8_t, 2> bytes{static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8)};
    device.write(offset, bytes);
  }
  uint16_t read16(uint64_t offset) {
    std::array<uint8_t, 2> bytes{};
    device.read(offset, bytes);
    return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
  }

  static constexpr uint16_t kRtc = 1U << 10;
  std::vector<bool> sci;
  int power_offs = 0;
  AcpiEvents device{[this](bool asserted) { sci.push_back(asserted); }, [this] { ++power_offs; }};
};

TEST_F(AcpiEventsTest, TheRtcsEventIsHeldUntilItIsCleared) {
  device.rtc_alarm();
  EXPECT_EQ(read16(0), kRtc);
  EXPECT_TRUE(sci.empty());  // not enabled
  write16(2, 0xFFFF);
  EXPECT_EQ(read16(2), kRtc);  // nothing else is there to enable
  EXPECT_EQ(sci, (std::vector<bool>{true}));
  device.rtc_alarm();
  EXPECT_EQ(sci.size(), 1U);
  write16(0, static_cast<uint16_t>(~kRtc));
  EXPECT_EQ(read16(0), kRtc);
  write16(0, kRtc);
  EXPECT_EQ(read16(0), 0);
  EXPECT_EQ(sci, (std::vector<bool>{true, false}));
  device.rtc_alarm();
  write16(2, 0);
  EXPECT_EQ(sci, (std::vector<bool>{true, false, true, false}));
  EXPECT_EQ(read16(0), kRtc);
}

TEST_F(AcpiEventsTest, TheButtonsEventNeedsAGuestThatListens) {
  EXPECT_FALSE(device.raise_gpe(AcpiEvents::kPowerButtonGpe));
  EXPECT_EQ(read8(device, 8), 0);
  write8(device, 9, 0xFF);
  EXPECT_EQ(read8(device, 9), AcpiEvents::kPowerButtonGpe);
  EXPECT_TRUE(device.raise_gpe(AcpiEvents::kPowerButtonGpe));
  EXPECT_EQ(read8(device, 8), AcpiEvents::kPowerButtonGpe);
  EXPECT_EQ(sci, (std::vector<bool>{true}));
  device.rtc_alarm();
  write16(2, kRtc);
  write8(device, 8, AcpiEvents::kPowerButtonGpe);
  EXPECT_EQ(sci, (std::vector<bool>{true}));  // the other one holds it still
  write16(0, kRtc);
  EXPECT_EQ(sci, (std::vector<bool>{true, false}));
}

TEST_F(AcpiEventsTest, ControlTurnsTheMachineOff) {
  EXPECT_EQ(read16(4), 1);  // SCI_EN
  write16(4, 0);
  EXPECT_EQ(read16(4), 1);
  write16(4, 5U << 10);             // without the enable bit
  write16(4, 4U << 10 | 1U << 13);  // another sleep type
  EXPECT_EQ(power_offs, 0);
  write16(4, 5U << 10 | 1U << 13);
  EXPECT_EQ(power_offs, 1);
  access_everything(device, AcpiEvents::kSize);
}

TEST(DeviceAcpiPmTimer, CountsAtItsFrequency) {
  EXPECT_EQ(AcpiPmTimer::ticks(0), 0U);
  EXPECT_EQ(AcpiPmTimer::ticks(1'000'000'000), 3'579'545U);
  EXPECT_EQ(AcpiPmTimer::ticks(500'000'000), 1'789'772U);
  // 2^32 ticks and one second more: it wraps and nothing overflows, even after a century.
  EXPECT_EQ(AcpiPmTimer::ticks(1'200'000'000'000), static_cast<uint32_t>(1200 * 3'579'545ULL));
  EXPECT_EQ(AcpiPmTimer::ticks(3'155'760'000'000'000'000),
            static_cast<uint32_t>(3'155'760'000 * 3'579'545ULL));
}

TEST(DeviceAcpiPmTimer, RunsAndIsReadOnly) {
  AcpiPmTimer device;
  const uint32_t first = read32(device, 0);
  write32(device, 0, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const uint32_t second = read32(device, 0);
  EXPECT_GE(second - first, 7159U);
  EXPECT_LT(second, 3'579'545U * 60);
  EXPECT_EQ(read32(device, 3) >> 8, 0xFFFFFFU);
  access_everything(device, AcpiPmTimer::kSize);
}

TEST(DevicePvpanic, TellsEachEventOnce) {
  std::vector<int> told;
  Pvpanic device([&told](uint8_t event) { told.push_back(event); });
  EXPECT_EQ(read8(device, 0), 3);
  for (const uint8_t value : {0, 4, 0x80, 2, 2, 1, 3, 0xff}) write8(device, 0, value);
  EXPECT_EQ(told, (std::vector<int>{2, 1}));
  access_everything(device, Pvpanic::kSize);
  EXPECT_EQ(read8(device, 1), 0xff);
}

TEST(DeviceGed, BitsAccumulateAndAReadClears) {
  RecordingLine line;
  Ged device(line);
  EXPECT_EQ(read8(device, 0), 0);
  device.notify(Ged::kPowerButton);
  device.notify(Ged::kPci);
  EXPECT_EQ(line.triggers, 2);
  EXPECT_EQ(read8(device, 0), Ged::kPowerButton | Ged::kPci);
  EXPECT_EQ(read8(device, 0), 0);
  access_everything(device, Ged::kSize);
}

TEST(DevicePostCode, LastAndCount) {
  PostCode device;
  write8(device, 0, 0x12);
  write8(device, 0, 0x34);
  EXPECT_EQ(device.state().last, 0x34);
  EXPECT_EQ(device.state().count, 2U);
  EXPECT_EQ(read8(device, 0), 0x34);
  access_everything(device, PostCode::kSize);
}

TEST(DeviceFirmwareDebug, HandsOnLines) {
  std::vector<std::string> lines;
  FirmwareDebug device([&](std::string_view line) { lines.emplace_back(line); });
  EXPECT_EQ(read8(device, 0), 0xE9);
  for (const char c : std::string_view("hello\r\n\x1b[0m\n"))
    write8(device, 0, static_cast<uint8_t>(c));
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0], "hello");
  EXPECT_EQ(lines[1], ".[0m");
  access_everything(device, FirmwareDebug::kSize);
}

TEST(DeviceFirmwareDebug, IsBounded) {
  size_t lines = 0;
  size_t longest = 0;
  FirmwareDebug device([&](std::string_view line) {
    ++lines;
    longest = std::max(longest, line.size());
  });
  constexpr size_t kBytes = FirmwareDebug::kMaxLine * (FirmwareDebug::kBurst + 500);
  const auto begin = std::chrono::steady_clock::now();
  for (size_t i = 0; i < kBytes; ++i) write8(device, 0, 'x');
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(longest, FirmwareDebug::kMaxLine);
  EXPECT_GE(lines, FirmwareDebug::kBurst);
  EXPECT_LE(static_cast<double>(lines),
            FirmwareDebug::kBurst + 1 + took.count() * FirmwareDebug::kLinesPerSecond);
  EXPECT_EQ(lines + device.dropped_lines(), FirmwareDebug::kBurst + 500U);
}

TEST(DeviceDebugConsole, HoldsWhatIsRefusedInOrder) {
  auto owned = std::make_unique<BoundedBackend>();
  BoundedBackend& backend = *owned;
  DebugConsole device(std::move(owned));
  EXPECT_EQ(read8(device, 0), 0xE9);
  backend.room = 1;
  for (const char c : std::string_view("abcdef")) write8(device, 0, static_cast<uint8_t>(c));
  EXPECT_EQ(backend.output, "a");
  EXPECT_EQ(backend.client->input_room(), 0U);
  backend.room = 2;
  backend.client->output_ready();
  EXPECT_EQ(backend.output, "abc");
  backend.room = SIZE_MAX;
  backend.client->output_ready();
  EXPECT_EQ(backend.output, "abcdef");
  access_everything(device, DebugConsole::kSize);
}

TEST(DeviceDebugConsole, KeepsTheLastWhenTheReaderIsTooSlow) {
  auto owned = std::make_unique<BoundedBackend>();
  BoundedBackend& backend = *owned;
  DebugConsole device(std::move(owned));
  backend.room = 0;
  for (size_t i = 0; i < DebugConsole::kHeld; ++i) write8(device, 0, 'a');
  write8(device, 0, 'b');
  backend.room = SIZE_MAX;
  backend.client->output_ready();
  EXPECT_EQ(backend.output.size(), DebugConsole::kHeld);
  EXPECT_EQ(backend.output.back(), 'b');
}

class CmosTest : public testing::Test {
 protected:
  uint8_t read(uint8_t index) {
    write8(device, 0, index);
    return read8(device, 1);
  }
  void write(uint8_t index, uint8_t value) {
    write8(device, 0, index);
    write8(device, 1, value);
  }
  static int from_bcd(uint8_t value) { return (value >> 4) * 10 + (value & 0xF); }

  int resets = 0;
  std::atomic<int> alarms = 0;
  EventLoop loop{"loop"};
  RecordingLine line;
  CmosRtc device{{.below_4g = uint64_t{3} << 30, .above_4g = (uint64_t{5} << 30) + 0x10000},
                 {.loop = loop,
                  .interrupt = line,
                  .alarm = [this] { ++alarms; },
                  .reset = [this] { ++resets; }}};
};

TEST_F(CmosTest, ShowsTheTime) {
  time_t shown = 0;
  time_t now = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    now = ::time(nullptr);
    tm fields{};
    fields.tm_sec = from_bcd(read(0x00));
    fields.tm_min = from_bcd(read(0x02));
    fields.tm_hour = from_bcd(read(0x04));
    fields.tm_mday = from_bcd(read(0x07));
    fields.tm_mon = from_bcd(read(0x08)) - 1;
    fields.tm_year = from_bcd(read(0x32)) * 100 + from_bcd(read(0x09)) - 1900;
    shown = ::timegm(&fields);
    if (now == ::time(nullptr)) break;
  }
  EXPECT_LE(std::abs(shown - now), 1);
  tm utc{};
  ::gmtime_r(&now, &utc);
  EXPECT_NEAR(from_bcd(read(0x06)), utc.tm_wday + 1, 1);
}

TEST_F(CmosTest, StatusRegistersKeepTheirFormat) {
  EXPECT_EQ(read(0x0A), 0x26);
  EXPECT_EQ(read(0x0B), 0x02);
  for (const uint8_t index : {0x0A, 0x0B, 0x0C, 0x0D}) write(index, 0xFF);
  (void)read(0x0C);  // what happened before the divider stopped
  EXPECT_EQ(read(0x0A), 0x7F);
  EXPECT_EQ(read(0x0B), 0xE2);
  EXPECT_EQ(read(0x0C), 0x00);
  EXPECT_EQ(read(0x0D), 0x80);
}

TEST_F(CmosTest, UpdateInterruptsComeOneForEachReadOfRegisterC) {
  write(0x0B, 0x12);
  EXPECT_TRUE(eventually([&] { return line.triggers == 1; }));
  EXPECT_EQ(read(0x0C) & 0xB0, 0x90);
  EXPECT_TRUE(eventually([&] { return line.triggers == 2; }));
  // Nobody has read register C: no more of them, and nothing that wakes the host.
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_EQ(line.triggers, 2);
  write(0x0B, 0x02);
  EXPECT_EQ(read(0x0C) & 0x80, 0);
  EXPECT_EQ(alarms, 0);
}

TEST_F(CmosTest, TheAlarmFollowsTheHostsClock) {
  const time_t soon = ::time(nullptr) + 2;
  tm utc{};
  ::gmtime_r(&soon, &utc);
  const auto to_bcd = [](int value) { return static_cast<uint8_t>(value / 10 << 4 | value % 10); };
  write(0x01, to_bcd(utc.tm_sec));
  write(0x03, to_bcd(utc.tm_min));
  write(0x05, 0xFF);
  EXPECT_EQ(read(0x01), to_bcd(utc.tm_sec));
  EXPECT_EQ(read(0x03), to_bcd(utc.tm_min));
  EXPECT_EQ(read(0x05), 0xFF);
  (void)read(0x0C);
  write(0x0B, 0x22);
  EXPECT_TRUE(eventually([&] { return line.triggers == 1; }));
  EXPECT_GE(realtime_ns(), static_cast<uint64_t>(soon) * 1'000'000'000);
  EXPECT_EQ(alarms, 1);
  EXPECT_EQ(read(0x0C) & 0xA0, 0xA0);
  EXPECT_EQ(read(0x0C) & 0xA0, 0);
}

TEST_F(CmosTest, APeriodicInterruptThatNobodyTakesCostsNothing) {
  write(0x0A, 0x23);  // 8,192 Hz
  write(0x0B, 0x42);
  EXPECT_TRUE(eventually([&] { return line.triggers == 1; }));
  EXPECT_TRUE(settles_down());
  EXPECT_EQ(line.triggers, 1);
}

TEST_F(CmosTest, MemorySizes) {
  EXPECT_EQ(read(0x34) | read(0x35) << 8, 0xBF00);
  EXPECT_EQ(read(0x5B) | read(0x5C) << 8 | read(0x5D) << 16, (5 << 14) + 1);
}

TEST(DeviceCmos, MemorySizesAreClamped) {
  EventLoop loop{"loop"};
  RecordingLine line;
  const CmosRtc::Wiring wiring{.loop = loop, .interrupt = line, .alarm = [] {}, .reset = [] {}};
  CmosRtc small({.below_4g = 1 << 20, .above_4g = 0}, wiring);
  write8(small, 0, 0x34);
  EXPECT_EQ(read8(small, 1), 0);
  CmosRtc large({.below_4g = uint64_t{1} << 40, .above_4g = uint64_t{1} << 50}, wiring);
  for (const uint8_t index : {0x34, 0x35, 0x5B, 0x5C, 0x5D}) {
    write8(large, 0, index);
    EXPECT_EQ(read8(large, 1), 0xFF);
  }
}

TEST_F(CmosTest, ResetNeedsTheNmiBit) {
  write(0x0F, 0);  // Linux does this whenever it has started a CPU
  write(0x8F, 0x0A);
  EXPECT_EQ(resets, 0);
  write(0x8F, 0);
  EXPECT_EQ(resets, 1);
}

TEST_F(CmosTest, RamKeepsBytesAndIndexIgnoresTheNmiBit) {
  write(0x40, 0x5A);
  EXPECT_EQ(read(0xC0), 0x5A);
  const std::array<uint8_t, 2> word{0x41, 0x77};  // index and data in one 16-bit access
  device.write(0, word);
  EXPECT_EQ(read(0x41), 0x77);
  access_everything(device, CmosRtc::kSize);
}

}  // namespace
}  // namespace tsvmm
