#include <array>

#include "core/bytes.h"
#include "core/error.h"
#include "pci/config_space.h"
#include "pci/msix.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {
namespace {

constexpr PciIdentity kIdentity{.vendor = 0x1af4,
                                .device = 0x1042,
                                .revision = 1,
                                .class_code = 1,
                                .subclass = 0x80,
                                .subsystem_vendor = 0x1af4,
                                .subsystem = 0x1042};

template <typename T>
void write(ConfigSpace& config, uint32_t offset, T value) {
  std::array<uint8_t, sizeof(T)> bytes{};
  store(std::span<uint8_t>(bytes), value);
  config.write(offset, bytes);
}

TEST(ConfigSpace, ShowsIdentityAndKeepsIt) {
  ConfigSpace config(kIdentity);
  write<uint64_t>(config, 0, 0);
  write<uint64_t>(config, 8, 0);
  EXPECT_EQ(config.get<uint32_t>(0), 0x10421af4U);
  EXPECT_EQ(config.get<uint32_t>(8), 0x01800001U);
  EXPECT_EQ(config.get<uint32_t>(0x2c), 0x10421af4U);
}

TEST(ConfigSpace, SizesA32BitBar) {
  ConfigSpace config(kIdentity);
  config.add_memory_bar(0, 0x80000, false, 0xc0000000);
  EXPECT_EQ(config.get<uint32_t>(0x10), 0xc0000000U);
  write<uint32_t>(config, 0x10, 0xffffffff);
  EXPECT_EQ(config.get<uint32_t>(0x10), 0xfff80000U);
  write<uint32_t>(config, 0x14, 0xffffffff);
  EXPECT_EQ(config.get<uint32_t>(0x14), 0U) << "there is no second BAR";
  EXPECT_FALSE(config.bar(1));
}

TEST(ConfigSpace, SizesA64BitBar) {
  ConfigSpace config(kIdentity);
  config.add_memory_bar(0, 0x80000, true, 0x4000000000);
  EXPECT_EQ(config.get<uint32_t>(0x10), 4U);
  EXPECT_EQ(config.get<uint32_t>(0x14), 0x40U);
  write<uint64_t>(config, 0x10, UINT64_MAX);
  EXPECT_EQ(config.get<uint32_t>(0x10), 0xfff80004U);
  EXPECT_EQ(config.get<uint32_t>(0x14), 0xffffffffU);
  EXPECT_EQ(config.bar(0)->address, 0xfffffffffff80000U);
  EXPECT_FALSE(config.bar(0)->enabled);
  write<uint16_t>(config, 4, 2);
  EXPECT_TRUE(config.bar(0)->enabled);
}

TEST(ConfigSpace, RefusesImpossibleBars) {
  ConfigSpace config(kIdentity);
  EXPECT_THROW(config.add_memory_bar(0, 24, false, 0), Error);
  EXPECT_THROW(config.add_memory_bar(5, 4096, true, 0), Error);
  EXPECT_THROW(config.add_memory_bar(0, 4096, false, 0x800), Error);
  EXPECT_THROW(config.add_memory_bar(0, 4096, false, 1ULL << 32), Error);
}

TEST(ConfigSpace, ChainsCapabilities) {
  ConfigSpace config(kIdentity);
  const std::array<uint8_t, 3> body{5, 6, 7};
  const std::array<uint8_t, 3> writable{0, 0xff, 0};
  const uint32_t first = config.add_capability(9, body);
  const uint32_t second = config.add_capability(0x11, body, writable);
  EXPECT_EQ(config.get<uint8_t>(0x34), first);
  EXPECT_EQ(config.get<uint8_t>(first + 1), second);
  EXPECT_EQ(config.get<uint8_t>(second + 1), 0);
  EXPECT_EQ(config.get<uint16_t>(6) & 0x10, 0x10);
  EXPECT_EQ(second % 4, 0U);
  write<uint32_t>(config, second, 0xffffffff);
  EXPECT_EQ(config.get<uint32_t>(second), 0xff050011U);
  EXPECT_THROW(config.add_capability(9, std::vector<uint8_t>(250)), Error);
}

TEST(ConfigSpace, TakesAnyWidthAndAlignment) {
  ConfigSpace config(kIdentity);
  config.add_memory_bar(0, 0x80000, true, 0x4000000000);
  for (const size_t width : {1, 2, 3, 4, 8}) {
    for (uint32_t offset = 0; offset + width <= ConfigSpace::kSize; ++offset) {
      std::vector<uint8_t> data(width, 0xff);
      config.write(offset, data);
      config.read(offset, data);
    }
  }
  EXPECT_EQ(config.get<uint32_t>(0), 0x10421af4U);
}

class MsixTest : public testing::Test {
 protected:
  static constexpr uint16_t kVectors = 3;

  void program(uint16_t vector, uint64_t address, uint32_t data, bool masked) {
    write32(16 * vector, static_cast<uint32_t>(address));
    write32(16 * vector + 4, static_cast<uint32_t>(address >> 32));
    write32(16 * vector + 8, data);
    write32(16 * vector + 12, masked ? 1 : 0);
  }
  void write32(uint64_t offset, uint32_t value) {
    std::array<uint8_t, 4> bytes{};
    store(std::span<uint8_t>(bytes), value);
    table.write_table(offset, bytes);
  }
  uint32_t read32(uint64_t offset) {
    std::array<uint8_t, 4> bytes{};
    table.read_table(offset, bytes);
    return load<uint32_t>(bytes);
  }
  uint64_t pending() {
    std::array<uint8_t, 8> bytes{};
    table.read_pending(0, bytes);
    return load<uint64_t>(bytes);
  }

  FakeFabric fabric;
  MsixTable table{fabric, kVectors};
};

TEST_F(MsixTest, StartsMaskedAndCostsNothing) {
  table.set_control(true, false);
  EXPECT_EQ(read32(12), 1U);
  EXPECT_TRUE(fabric.lines.empty());
  table.trigger(0);
  EXPECT_EQ(pending(), 1U);
}

TEST_F(MsixTest, DeliversWhenLive) {
  table.set_control(true, false);
  program(1, 0xfee01000, 0x41, false);
  ASSERT_EQ(fabric.lines.size(), 1u);
  EXPECT_EQ(fabric.lines[0]->message.address, 0xfee01000U);
  EXPECT_EQ(fabric.lines[0]->message.data, 0x41U);
  table.trigger(1);
  EXPECT_EQ(fabric.lines[0]->triggers, 1);
  EXPECT_EQ(pending(), 0U);
}

TEST_F(MsixTest, RemembersWhileTheEntryIsMasked) {
  table.set_control(true, false);
  program(2, 0xfee00000, 0x30, true);
  table.trigger(2);
  table.trigger(2);
  EXPECT_EQ(pending(), 4U);
  EXPECT_EQ(fabric.triggers(), 0);
  write32(16 * 2 + 12, 0);
  EXPECT_EQ(pending(), 0U);
  EXPECT_EQ(fabric.triggers(), 1) << "two triggers while masked are one interrupt";
}

TEST_F(MsixTest, RemembersWhileTheFunctionIsMasked) {
  table.set_control(true, true);
  program(0, 0xfee00000, 0x30, false);
  EXPECT_TRUE(fabric.lines.empty());
  table.trigger(0);
  EXPECT_EQ(pending(), 1U);
  table.set_control(true, false);
  EXPECT_EQ(pending(), 0U);
  EXPECT_EQ(fabric.triggers(), 1);
}

TEST_F(MsixTest, DropsWhileDisabled) {
  program(0, 0xfee00000, 0x30, false);
  table.trigger(0);
  table.set_control(true, false);
  EXPECT_EQ(fabric.triggers(), 0);
  EXPECT_EQ(pending(), 0U);
}

TEST_F(MsixTest, MaskingAndUnmaskingProgramsOnce) {
  table.set_control(true, false);
  program(0, 0xfee00000, 0x30, false);
  for (int i = 0; i < 10; ++i) {
    write32(12, 1);
    write32(12, 0);
  }
  EXPECT_EQ(fabric.lines[0]->programmed, 1);
  write32(12, 1);
  write32(8, 0x31);
  EXPECT_EQ(fabric.lines[0]->programmed, 1) << "a masked vector may change without a system call";
  write32(12, 0);
  EXPECT_EQ(fabric.lines[0]->programmed, 2);
  EXPECT_EQ(fabric.lines[0]->message.data, 0x31U);
}

TEST_F(MsixTest, OutOfRangeIsHarmless) {
  table.set_control(true, false);
  table.trigger(kVectors);
  table.trigger(0xffff);
  for (uint64_t offset = 0; offset < 0x100; ++offset) {
    for (const size_t width : {1, 2, 3, 4, 8}) {
      std::vector<uint8_t> data(width, 0xff);
      table.write_table(16 * kVectors + offset, data);
      table.read_table(16 * kVectors + offset, data);
      EXPECT_EQ(data, std::vector<uint8_t>(width, 0));
      table.read_pending(offset, data);
      table.read_pending(UINT64_MAX / 8 - offset, data);
    }
  }
  EXPECT_TRUE(fabric.lines.empty());
}

TEST_F(MsixTest, OddAccessesAreDropped) {
  for (uint64_t offset = 0; offset < 16; ++offset) {
    for (const size_t width : {1, 2, 3, 4, 8}) {
      if (width >= 4 && offset % width == 0) continue;
      table.write_table(offset, std::vector<uint8_t>(width, 0xff));
    }
  }
  EXPECT_EQ(read32(0), 0U);
  EXPECT_EQ(read32(8), 0U);
  EXPECT_EQ(read32(12), 1U);
}

TEST_F(MsixTest, ConnectsSourcesOfLiveVectors) {
  table.set_control(true, false);
  program(1, 0xfee01000, 0x41, false);
  const EventFd source;
  source.signal();
  EXPECT_TRUE(table.add_source(1, source));
  EXPECT_EQ(fabric.lines[0]->triggers, 1) << "what it was signalled before counts";
  EXPECT_EQ(fabric.lines[0]->sources, std::vector{&source});
  table.remove_source(source);
  EXPECT_TRUE(fabric.lines[0]->sources.empty());
  table.remove_source(source);
}

TEST_F(MsixTest, SourcesOfMaskedVectorsWait) {
  table.set_control(true, false);
  program(1, 0xfee01000, 0x41, true);
  const EventFd source;
  EXPECT_TRUE(table.add_source(1, source));
  EXPECT_EQ(pending(), 0U);
  source.signal();
  EXPECT_EQ(pending(), 2U);
  write32(16 * 1 + 12, 0);
  EXPECT_EQ(fabric.triggers(), 1);
  EXPECT_EQ(pending(), 0U);
  write32(16 * 1 + 12, 1);
  EXPECT_TRUE(fabric.lines[0]->sources.empty());
  source.signal();
  source.signal();
  EXPECT_EQ(pending(), 2U);
  table.set_control(true, true);
  write32(16 * 1 + 12, 0);
  EXPECT_EQ(fabric.triggers(), 1) << "the whole function is masked";
  table.set_control(true, false);
  EXPECT_EQ(fabric.triggers(), 2);
  EXPECT_EQ(fabric.lines[0]->sources, std::vector{&source});
}

TEST_F(MsixTest, RefusesSourcesThatNothingWouldComeOf) {
  const EventFd source;
  EXPECT_FALSE(table.add_source(0, source)) << "MSI-X is disabled";
  table.set_control(true, false);
  EXPECT_FALSE(table.add_source(kVectors, source));
  fabric.refuse = true;
  program(0, 0xfee00000, 0x30, false);
  EXPECT_FALSE(table.add_source(0, source)) << "no line";
}

TEST_F(MsixTest, SurvivesAHostWithoutRoutes) {
  fabric.refuse = true;
  table.set_control(true, false);
  program(0, 0xfee00000, 0x30, false);
  table.trigger(0);
  fabric.refuse = false;
  write32(12, 1);
  write32(12, 0);
  table.trigger(0);
  EXPECT_EQ(fabric.triggers(), 1);
}

}  // namespace
}  // namespace tsvmm::virtio_test
