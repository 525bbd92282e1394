#include "pci/pci_root.h"

#include <thread>

#include "core/error.h"
#include "pci/host_bridge.h"
#include "pci/register_function.h"
#include "pci/x86_64/pci_config_ports.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {
namespace {

constexpr uint64_t kBarSize = 0x10000;
constexpr GuestAddress kBase = PciBench::kWindow;

/// A function with one BAR, which answers with its own number and remembers where it was decoded.
class TestFunction : public PciFunction, public BusDevice {
 public:
  TestFunction(uint8_t number, GuestAddress bar, bool is_64bit = false) : number_(number) {
    config_.add_memory_bar(0, kBarSize, is_64bit, bar);
    config_.set_command(kPciCommandMemory);
  }
  void config_read(uint32_t offset, std::span<uint8_t> data) noexcept override {
    config_.read(offset, data);
  }
  void config_write(uint32_t offset, std::span<const uint8_t> data) noexcept override {
    config_.write(offset, data);
  }
  std::optional<BarRequest> bar(unsigned index) const noexcept override {
    return config_.bar(index);
  }
  BusDevice* bar_device(unsigned /*index*/) noexcept override { return this; }
  void bar_mapped(unsigned /*index*/, uint64_t address) noexcept override { decoded = address; }
  void bar_unmapped(unsigned /*index*/) noexcept override { decoded.reset(); }
  void read(uint64_t /*offset*/, std::span<uint8_t> data) override {
    std::ranges::fill(data, number_);
  }
  void write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override { ++writes; }

  std::optional<uint64_t> decoded;
  std::atomic<int> writes = 0;

 private:
  const uint8_t number_;
  ConfigSpace config_{PciIdentity{.vendor = 0x1234, .device = 0x5678}};
};

class PciRootTest : public testing::Test {
 protected:
  PciRootTest() {
    bench.root.add(0, std::make_shared<HostBridge>());
    for (unsigned slot = 1; slot <= 3; ++slot) {
      functions[slot] = std::make_shared<TestFunction>(slot, at(slot));
      bench.root.add(slot, functions[slot]);
    }
    EXPECT_TRUE(ports.map(PciConfigPorts::kPort, PciConfigPorts::kSize,
                          std::make_shared<PciConfigPorts>(bench.root)));
  }
  static GuestAddress at(unsigned place) { return kBase + place * kBarSize; }
  void move(unsigned slot, uint64_t address) {
    bench.config_write<uint32_t>(slot, 0x10, static_cast<uint32_t>(address));
  }
  uint8_t seen(GuestAddress address) { return bench.mmio_read<uint8_t>(address); }

  PciBench bench;
  AddressSpace ports;
  std::shared_ptr<TestFunction> functions[4];
};

TEST_F(PciRootTest, FindsFunctionsThroughEcam) {
  EXPECT_EQ(bench.config_read<uint32_t>(0, 0), 0x0d578086U);
  EXPECT_EQ(bench.config_read<uint32_t>(0, 8), 0x06000000U);
  EXPECT_EQ(bench.config_read<uint32_t>(1, 0), 0x56781234U);
  EXPECT_EQ(bench.config_read<uint32_t>(4, 0), 0xffffffffU);
  EXPECT_EQ(bench.config_read<uint32_t>(1, 0x100), 0U) << "no extended capabilities";
  EXPECT_EQ(bench.config_read<uint64_t>(1, 0xfc), 0U);
}

TEST_F(PciRootTest, OtherBusesAndFunctionsAreEmpty) {
  EXPECT_EQ(bench.mmio_read<uint32_t>(PciBench::kEcam + (1 << 15) + (1 << 12)), 0xffffffffU);
  EXPECT_EQ(bench.mmio_read<uint32_t>(PciBench::kEcam + (1 << 20) + (1 << 15)), 0xffffffffU);
  EXPECT_EQ(bench.mmio_read<uint32_t>(PciBench::kEcam + PciBench::kEcamSize - 4), 0xffffffffU);
  bench.mmio_write<uint32_t>(PciBench::kEcam + (1 << 20) + (1 << 15) + 0x10, 0);
  EXPECT_EQ(functions[1]->decoded, at(1));
}

TEST_F(PciRootTest, FindsFunctionsThroughPorts) {
  const auto out32 = [this](uint16_t port, uint32_t value) {
    std::array<uint8_t, 4> bytes{};
    store(std::span<uint8_t>(bytes), value);
    ports.write(port, bytes);
  };
  const auto in32 = [this](uint16_t port) {
    std::array<uint8_t, 4> bytes{};
    ports.read(port, bytes);
    return load<uint32_t>(bytes);
  };
  out32(0xcf8, 0x80000000 | 1 << 11);
  EXPECT_EQ(in32(0xcf8), 0x80000800U);
  EXPECT_EQ(in32(0xcfc), 0x56781234U);
  EXPECT_EQ(in32(0xcfe), 0xffff5678U) << "the window ends after four bytes";
  out32(0xcf8, 0x80000000 | 1 << 11 | 0x10);
  out32(0xcfc, static_cast<uint32_t>(at(9)));
  EXPECT_EQ(functions[1]->decoded, at(9));
  out32(0xcf8, 1 << 11);
  EXPECT_EQ(in32(0xcfc), 0xffffffffU) << "not enabled";
  out32(0xcf8, 0x80000000 | 1 << 16 | 1 << 11);
  EXPECT_EQ(in32(0xcfc), 0xffffffffU) << "bus 1";
  out32(0xcf8, 0x80000000 | 1 << 11 | 1 << 8);
  EXPECT_EQ(in32(0xcfc), 0xffffffffU) << "function 1";
}

TEST_F(PciRootTest, AnyConfigurationAccessIsSurvived) {
  for (const uint8_t fill : {0x00, 0xff, 0x5a}) {
    for (const size_t width : {1, 2, 3, 4, 8}) {
      std::vector<uint8_t> data(width, fill);
      for (uint64_t offset = 0; offset < 4 * 0x8000; offset += 7) {
        bench.mmio.write(PciBench::kEcam + offset, data);
        bench.mmio.read(PciBench::kEcam + offset, data);
      }
      for (uint64_t port = 0xcf8; port < 0xd00; ++port) {
        ports.write(port, data);
        ports.read(port, data);
      }
    }
  }
  EXPECT_EQ(bench.config_read<uint32_t>(0, 0), 0x0d578086U);
}

TEST_F(PciRootTest, BarFollows) {
  EXPECT_EQ(seen(at(1)), 1);
  move(1, at(7));
  EXPECT_EQ(functions[1]->decoded, at(7));
  EXPECT_EQ(seen(at(7)), 1);
  EXPECT_EQ(seen(at(1)), 0xff);
}

TEST_F(PciRootTest, MemoryEnableSwitchesDecoding) {
  bench.config_write<uint16_t>(1, 4, 0);
  EXPECT_EQ(seen(at(1)), 0xff);
  move(1, at(7));
  EXPECT_FALSE(functions[1]->decoded);
  bench.config_write<uint16_t>(1, 4, kPciCommandMemory);
  EXPECT_EQ(seen(at(7)), 1);
}

TEST_F(PciRootTest, SizingWithDecodingOnComesBack) {
  move(1, 0xffffffff);
  EXPECT_FALSE(functions[1]->decoded);
  move(1, at(1));
  EXPECT_EQ(seen(at(1)), 1);
}

TEST_F(PciRootTest, BarsOutsideTheWindowsAreNotDecoded) {
  for (const uint64_t address : {uint64_t{0}, kBase - kBarSize, kBase + PciBench::kWindowSize,
                                 PciBench::kEcam, uint64_t{0xfee00000}, uint64_t{0xffff0000}}) {
    move(1, address);
    EXPECT_FALSE(functions[1]->decoded) << std::hex << address;
  }
  EXPECT_NE(seen(PciBench::kEcam), 1);
  move(1, kBase + PciBench::kWindowSize - kBarSize);
  EXPECT_TRUE(functions[1]->decoded) << "the window's last place";
}

TEST_F(PciRootTest, CollidingBarWaitsForItsPlace) {
  move(2, at(1));
  EXPECT_FALSE(functions[2]->decoded) << "the decoded one stays";
  EXPECT_EQ(seen(at(1)), 1);
  move(3, at(1));
  EXPECT_FALSE(functions[3]->decoded);
  move(1, at(9));
  EXPECT_EQ(functions[2]->decoded, at(1)) << "the lowest slot that waits gets it";
  EXPECT_FALSE(functions[3]->decoded);
  EXPECT_EQ(seen(at(1)), 2);
  bench.config_write<uint16_t>(2, 4, 0);
  EXPECT_EQ(functions[3]->decoded, at(1));
}

TEST_F(PciRootTest, BarsCanChangePlaces) {
  move(1, at(2));
  move(2, at(1));
  EXPECT_EQ(functions[1]->decoded, at(2));
  EXPECT_EQ(functions[2]->decoded, at(1));
}

TEST_F(PciRootTest, SixtyFourBitBarMovesByHalves) {
  auto function = std::make_shared<TestFunction>(4, PciBench::kWindow64, true);
  bench.root.add(4, function);
  EXPECT_EQ(seen(PciBench::kWindow64), 4);
  bench.config_write<uint32_t>(4, 0x14, 0);
  EXPECT_FALSE(function->decoded);
  bench.config_write<uint32_t>(4, 0x10, static_cast<uint32_t>(at(5)));
  EXPECT_EQ(seen(at(5)), 4);
  bench.config_write<uint32_t>(4, 0x14, 0xffffffff);
  EXPECT_FALSE(function->decoded);
}

TEST_F(PciRootTest, WhatIsRemovedIsNotFoundAnyMore) {
  move(3, at(2));  // waits for its place
  EXPECT_EQ(seen(at(2)), 2);
  EXPECT_EQ(bench.root.remove(2), functions[2]);
  EXPECT_EQ(bench.config_read<uint32_t>(2, 0), 0xffffffffU);
  EXPECT_FALSE(functions[2]->decoded);
  EXPECT_EQ(seen(at(2)), 3) << "its addresses are free";
  EXPECT_EQ(bench.root.remove(2), nullptr);
  EXPECT_EQ(bench.root.remove(PciRoot::kSlots), nullptr);
  auto next = std::make_shared<TestFunction>(uint8_t{9}, at(5));
  bench.root.add(2, next);
  EXPECT_EQ(bench.config_read<uint32_t>(2, 0), 0x56781234U);
  EXPECT_EQ(seen(at(5)), 9);
}

TEST_F(PciRootTest, ComesAndGoesWhileOthersAccess) {
  std::atomic<bool> done = false;
  std::thread guest([&] {
    while (!done) {
      (void)bench.config_read<uint32_t>(2, 0);
      (void)seen(at(2));
      bench.mmio_write<uint8_t>(at(2), 1);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    EXPECT_NE(bench.root.remove(2), nullptr);
    bench.root.add(2, std::make_shared<TestFunction>(uint8_t{2}, at(2)));
  }
  done = true;
  guest.join();
  EXPECT_EQ(seen(at(2)), 2);
}

TEST_F(PciRootTest, RefusesWhatCannotBeAdded) {
  EXPECT_THROW(bench.root.add(1, std::make_shared<TestFunction>(9, at(20))), Error);
  EXPECT_THROW(bench.root.add(32, std::make_shared<TestFunction>(9, at(20))), Error);
  EXPECT_THROW(bench.root.add(5, std::make_shared<TestFunction>(9, at(1))), Error);
  EXPECT_THROW(bench.root.add(5, std::make_shared<TestFunction>(9, 0x1000)), Error);
  bench.root.add(5, std::make_shared<TestFunction>(9, at(20)));
  EXPECT_EQ(seen(at(20)), 9);
}

TEST_F(PciRootTest, MovesWhileOthersAccess) {
  std::atomic<bool> done = false;
  std::thread accesses([&] {
    while (!done) {
      for (unsigned place = 1; place < 8; ++place) {
        bench.mmio_write<uint32_t>(at(place), 1);
        const uint8_t value = seen(at(place));
        EXPECT_TRUE(value <= 3 || value == 0xff);
      }
    }
  });
  std::thread mover([&] {
    for (unsigned i = 0; i < 2000; ++i) move(2, at(i % 7));
  });
  for (unsigned i = 0; i < 2000; ++i) move(1, at(i % 5));
  mover.join();
  done = true;
  accesses.join();
}

TEST(PciRegisterFunction, IsADeviceBehindABar) {
  class Echo : public BusDevice {
   public:
    void read(uint64_t offset, std::span<uint8_t> data) override {
      std::ranges::fill(data, static_cast<uint8_t>(offset));
    }
    void write(uint64_t offset, std::span<const uint8_t> data) override {
      written = offset << 8 | data[0];
    }
    uint64_t written = 0;
  };
  PciBench bench;
  auto echo = std::make_shared<Echo>();
  bench.root.add(3, std::make_shared<RegisterFunction>(
                        PciIdentity{.vendor = 0x1b36, .device = 0x11}, kBase, 4096, echo));
  EXPECT_EQ(bench.config_read<uint32_t>(3, 0), 0x00111b36U);
  EXPECT_EQ(bench.mmio_read<uint8_t>(kBase + 7), 7);
  bench.mmio_write<uint8_t>(kBase + 9, 0x42);
  EXPECT_EQ(echo->written, 0x942U);
  // The guest finds the size, moves it, and turns it off.
  bench.config_write<uint32_t>(3, 0x10, ~0U);
  EXPECT_EQ(bench.config_read<uint32_t>(3, 0x10), 0xfffff000U);
  bench.config_write<uint32_t>(3, 0x10, kBase + 0x10000);
  EXPECT_EQ(bench.mmio_read<uint8_t>(kBase + 7), 0xff);
  EXPECT_EQ(bench.mmio_read<uint8_t>(kBase + 0x10007), 7);
  bench.config_write<uint16_t>(3, 4, 0);
  EXPECT_EQ(bench.mmio_read<uint8_t>(kBase + 0x10007), 0xff);
}

}  // namespace
}  // namespace tsvmm::virtio_test
