#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "core/bytes.h"
#include "device/cpu_hotplug.h"

namespace tsvmm {
namespace {

// The registers as the AML of \_SB.PRES has them.
constexpr uint64_t kSelect = 0x0;
constexpr uint64_t kStatus = 0x4;
constexpr uint8_t kPresent = 1;
constexpr uint8_t kInserted = 2;
constexpr uint8_t kRemoving = 4;
constexpr uint8_t kEject = 8;

class CpuHotplugTest : public testing::Test {
 protected:
  void select(uint32_t cpu) {
    std::array<uint8_t, 4> bytes{};
    store(std::span<uint8_t>(bytes), cpu);
    controller.write(kSelect, bytes);
  }
  uint8_t status(uint32_t cpu) {
    select(cpu);
    std::array<uint8_t, 1> byte{};
    controller.read(kStatus, byte);
    return byte[0];
  }
  void write(uint32_t cpu, uint8_t value) {
    select(cpu);
    controller.write(kStatus, std::array<uint8_t, 1>{value});
  }
  void insert(std::vector<unsigned> cpus) { controller.insert(cpus); }

  int notified = 0;
  std::vector<unsigned> ejected;
  CpuHotplug controller{CpuHotplugState::starting(2, 6), [this] { ++notified; },
                        [this](unsigned cpu) { ejected.push_back(cpu); }};
};

TEST_F(CpuHotplugTest, SaysWhoIsThereFromTheStart) {
  EXPECT_EQ(status(0), kPresent);
  EXPECT_EQ(status(1), kPresent);
  EXPECT_EQ(status(2), 0);
  EXPECT_EQ(status(5), 0);
  EXPECT_EQ(notified, 0);
}

TEST_F(CpuHotplugTest, WhoComesIsInsertedUntilTheGuestHasSeenIt) {
  insert({2, 3});
  EXPECT_EQ(notified, 1);
  EXPECT_EQ(status(2), kPresent | kInserted);
  EXPECT_EQ(status(3), kPresent | kInserted);
  write(2, kInserted);
  EXPECT_EQ(status(2), kPresent);
  EXPECT_EQ(status(3), kPresent | kInserted);
}

TEST_F(CpuHotplugTest, WhoIsAskedForIsEjectedAndOnce) {
  insert({2, 3});
  controller.request_removal(2);
  EXPECT_EQ(notified, 2);
  EXPECT_EQ(status(1), kPresent);
  EXPECT_EQ(status(4), 0) << "it is not there";
  EXPECT_NE(status(3) & kRemoving, 0);
  write(3, kRemoving);
  EXPECT_EQ(status(3) & kRemoving, 0);
  write(3, kEject);
  write(3, kEject);
  EXPECT_EQ(ejected, std::vector<unsigned>{3});
  EXPECT_EQ(status(3), 0);
  controller.request_removal(2);
  EXPECT_EQ(status(2) & kRemoving, kRemoving) << "it is reminded";
  EXPECT_EQ(status(3), 0);
  write(2, kEject);
  EXPECT_EQ(ejected, (std::vector<unsigned>{3, 2}));
  insert({2});
  EXPECT_EQ(status(2), kPresent | kInserted);
  write(2, kEject);
  EXPECT_EQ(ejected.size(), 2U) << "what was asked for before is done";
}

TEST_F(CpuHotplugTest, WhoNobodyAskedForStays) {
  for (uint32_t cpu = 0; cpu < 8; ++cpu) write(cpu, 0xff);
  EXPECT_TRUE(ejected.empty());
  EXPECT_EQ(status(1), kPresent);
  controller.request_removal(0);
  write(0, kEject);
  EXPECT_TRUE(ejected.empty()) << "vCPU 0 stays in any case";
  EXPECT_EQ(status(0), kPresent);
  write(1, kEject);
  EXPECT_EQ(ejected, std::vector<unsigned>{1});
}

TEST_F(CpuHotplugTest, AnyAccessIsSurvived) {
  insert({7, ~0U});
  controller.request_removal(~0U);
  for (const uint32_t cpu : {0U, 5U, 6U, ~0U}) {
    select(cpu);
    for (uint64_t offset = 0; offset < CpuHotplug::kSize; ++offset) {
      for (const size_t size : {0, 1, 2, 4, 8}) {
        std::array<uint8_t, 8> bytes{};
        bytes.fill(0xff);
        controller.read(offset, std::span(bytes).first(size));
        if (size > 1 && offset != kSelect) {
          EXPECT_EQ(bytes[1], 0);
        }
        if (offset != kSelect) controller.write(offset, std::span(bytes).first(size));
      }
    }
    EXPECT_EQ(controller.state().selected, cpu);
  }
  EXPECT_TRUE(ejected.empty());
}

TEST_F(CpuHotplugTest, GoesOnWhereItWas) {
  insert({2});
  controller.request_removal(2);
  select(2);
  CpuHotplug other(
      controller.state(), [] {}, [this](unsigned cpu) { ejected.push_back(cpu); });
  std::array<uint8_t, 1> byte{};
  other.read(kStatus, byte);
  EXPECT_EQ(byte[0], kPresent | kInserted | kRemoving);
  other.write(kStatus, std::array<uint8_t, 1>{kEject});
  EXPECT_EQ(ejected, std::vector<unsigned>{2});
}

}  // namespace
}  // namespace tsvmm
