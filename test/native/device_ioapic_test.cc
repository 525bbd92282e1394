#include <map>

#include "core/error.h"
#include "device/x86_64/ioapic.h"
#include "device_test_support.h"

namespace tsvmm {
namespace {

class PinFabric final : public InterruptFabric {
 public:
  std::unique_ptr<Interrupt> create_msi() override { throw Error("EINVAL", "not used"); }
  std::unique_ptr<Interrupt> create_wired_interrupt(unsigned pin) override {
    auto line = std::make_unique<RecordingLine>();
    lines[pin] = line.get();
    return line;
  }
  std::unique_ptr<DoorbellRegistration> register_doorbell(GuestAddress, const EventFd&) override {
    return nullptr;
  }

  std::map<unsigned, RecordingLine*> lines;
};

class IoApicTest : public testing::Test {
 protected:
  uint32_t read_register(uint8_t index) {
    write32(device, 0x00, index);
    return read32(device, 0x10);
  }
  void write_register(uint8_t index, uint32_t value) {
    write32(device, 0x00, index);
    write32(device, 0x10, value);
  }
  void write_entry(unsigned pin, uint64_t entry) {
    write_register(static_cast<uint8_t>(0x11 + 2 * pin), static_cast<uint32_t>(entry >> 32));
    write_register(static_cast<uint8_t>(0x10 + 2 * pin), static_cast<uint32_t>(entry));
  }
  uint64_t read_entry(unsigned pin) {
    const uint64_t high = read_register(static_cast<uint8_t>(0x11 + 2 * pin));
    return high << 32 | read_register(static_cast<uint8_t>(0x10 + 2 * pin));
  }

  PinFabric fabric;
  IoApic device{fabric};
};

constexpr uint64_t kLevel = 1U << 15;
constexpr uint64_t kMasked = 1U << 16;
constexpr uint64_t kRemoteIrr = 1U << 14;

TEST(DeviceIoApicMessage, ConversionTable) {
  struct Case {
    uint64_t entry;
    uint64_t address;
    uint32_t data;
  };
  for (const Case& c : {
           Case{0x0000000000000031, 0xFEE00000, 0x0031},  // fixed, physical, edge
           Case{0x0300000000000031, 0xFEE03000, 0x0031},  // destination
           Case{0xFF00000000000831, 0xFEEFF004, 0x0031},  // logical
           Case{0x0100000000000931, 0xFEE01004, 0x0131},  // lowest priority
           Case{0x0000000000000400, 0xFEE00000, 0x0400},  // NMI
           Case{0x000000000000A031, 0xFEE00000, 0xC031},  // level, active low
           Case{0x0000000000016031, 0xFEE00000,
                0x0031},  // mask, remote IRR and polarity do not travel
           Case{0x0102000000000031, 0xFEE01020, 0x0031},  // extended destination bit 8
           Case{0x00FE000000000031, 0xFEE00FE0, 0x0031},  // extended destination bits 8 to 14
       }) {
    const MsiMessage message = ioapic_entry_to_msi(c.entry);
    EXPECT_EQ(message.address, c.address) << std::hex << c.entry;
    EXPECT_EQ(message.data, c.data) << std::hex << c.entry;
  }
}

TEST_F(IoApicTest, Registers) {
  EXPECT_EQ(read_register(0x01), 0x00170011U);
  write_register(0x00, 0xFFFFFFFF);
  EXPECT_EQ(read_register(0x00), 0x0F000000U);
  EXPECT_EQ(read_register(0x02), 0x0F000000U);
  for (unsigned pin = 0; pin < IoApic::kPins; ++pin) EXPECT_EQ(read_entry(pin), kMasked);
  EXPECT_EQ(read_register(0x40), 0U);
  write_register(0x40, 0xFFFFFFFF);
  write_register(0xFF, 0xFFFFFFFF);
  EXPECT_TRUE(fabric.lines.empty());
}

TEST_F(IoApicTest, ReadOnlyAndReservedBits) {
  write_entry(5, 0xFFFFFFFFFFFFFFFF);
  EXPECT_EQ(read_entry(5), 0xFFFE00000001AFFFU);
}

TEST_F(IoApicTest, UnmaskingRoutesAndMaskingClears) {
  Interrupt& line = device.pin_line(4);
  RecordingLine& kernel = *fabric.lines.at(4);
  line.trigger();
  EXPECT_EQ(kernel.triggers, 0);
  write_entry(4, 0x0200000000000034);
  ASSERT_TRUE(kernel.message);
  EXPECT_EQ(kernel.message->address, 0xFEE02000U);
  EXPECT_EQ(kernel.message->data, 0x34U);
  line.trigger();
  line.trigger();
  EXPECT_EQ(kernel.triggers, 2);
  write_entry(4, 0x34 | kMasked);
  EXPECT_FALSE(kernel.message);
  line.trigger();
  EXPECT_EQ(kernel.triggers, 2);
}

TEST_F(IoApicTest, OnlyChangesReachTheHypervisor) {
  write_entry(4, 0x34);
  device.pin_line(4);  // asked for after the guest set it up
  RecordingLine& kernel = *fabric.lines.at(4);
  EXPECT_EQ(kernel.routes, 1);
  write_entry(4, 0x34);
  write_entry(4, 0x34 | 1U << 13);
  EXPECT_EQ(kernel.routes, 1);
  write_entry(4, 0x35);
  EXPECT_EQ(kernel.routes, 2);
  write_entry(4, kMasked);
  write_entry(4, kMasked | 0x77);
  EXPECT_EQ(kernel.routes, 3);
}

TEST_F(IoApicTest, ReservedDeliveryModesDeliverNothing) {
  Interrupt& line = device.pin_line(4);
  for (const uint64_t mode : {3, 6}) {
    write_entry(4, mode << 8 | 0x31);
    line.trigger();
    EXPECT_FALSE(fabric.lines.at(4)->message);
    EXPECT_EQ(fabric.lines.at(4)->triggers, 0);
  }
}

TEST_F(IoApicTest, DevicesCannotSetTheMessage) {
  Interrupt& line = device.pin_line(4);
  EXPECT_FALSE(line.set_message({.address = 1, .data = 2}));
  EXPECT_EQ(&line, &device.pin_line(4));
  EXPECT_THROW(device.pin_line(24), Error);
}

TEST_F(IoApicTest, LevelIsDeliveredAgainUntilReleased) {
  device.pin_line(9);
  RecordingLine& kernel = *fabric.lines.at(9);
  write_entry(9, 0x41 | kLevel);
  device.set_level(9, true);
  device.set_level(9, true);
  EXPECT_EQ(kernel.triggers, 1);
  EXPECT_EQ(read_entry(9) & kRemoteIrr, kRemoteIrr);
  device.eoi(0x40);
  EXPECT_EQ(kernel.triggers, 1);
  device.eoi(0x41);
  EXPECT_EQ(kernel.triggers, 2);
  device.set_level(9, false);
  device.eoi(0x41);
  EXPECT_EQ(kernel.triggers, 2);
  EXPECT_EQ(read_entry(9) & kRemoteIrr, 0U);
  device.set_level(24, true);
}

TEST_F(IoApicTest, LevelWaitsForTheMask) {
  device.pin_line(9);
  RecordingLine& kernel = *fabric.lines.at(9);
  write_entry(9, 0x41 | kLevel | kMasked);
  device.set_level(9, true);
  EXPECT_EQ(kernel.triggers, 0);
  write_entry(9, 0x41 | kLevel);
  EXPECT_EQ(kernel.triggers, 1);
}

// Linux's way to end an interrupt of an I/O APIC without an EOI register.
TEST_F(IoApicTest, MaskedInServiceEndsAllTheSame) {
  device.pin_line(9);
  RecordingLine& line = *fabric.lines[9];
  write_entry(9, kLevel | 0x31);
  device.set_level(9, true);
  EXPECT_EQ(line.triggers, 1);
  write_entry(9, kLevel | kMasked | 0x31);
  // Without its route the hypervisor would not report the end of it.
  EXPECT_TRUE(line.message);
  EXPECT_NE(read_entry(9) & kRemoteIrr, 0U);
  device.eoi(0x31);
  EXPECT_EQ(read_entry(9) & kRemoteIrr, 0U);
  EXPECT_FALSE(line.message);
  EXPECT_EQ(line.triggers, 1);
  write_entry(9, kLevel | 0x31);
  EXPECT_EQ(line.triggers, 2);
}

TEST_F(IoApicTest, EdgeForAMomentEndsTheInterrupt) {
  Interrupt& line = device.pin_line(9);
  RecordingLine& kernel = *fabric.lines.at(9);
  write_entry(9, 0x41 | kLevel);
  line.trigger();
  line.trigger();
  EXPECT_EQ(kernel.triggers, 1);
  write_entry(9, 0x41 | kMasked);
  write_entry(9, 0x41 | kLevel);
  line.trigger();
  EXPECT_EQ(kernel.triggers, 2);
}

TEST_F(IoApicTest, EveryAccess) {
  for (unsigned pin = 0; pin < IoApic::kPins; ++pin) device.pin_line(pin);
  for (unsigned index = 0; index < 256; ++index) {
    write32(device, 0, index);
    access_everything(device, IoApic::kSize);
  }
  write32(device, 0, 0x01);
  uint64_t wide = 0;
  device.read(0x10, {reinterpret_cast<uint8_t*>(&wide), sizeof wide});
  EXPECT_EQ(wide, 0x00170011U);
  EXPECT_EQ(read32(device, 0x04), 0U);
  EXPECT_EQ(read8(device, 0x10), 0x11);
}

}  // namespace
}  // namespace tsvmm
