#include <gtest/gtest.h>

#include <array>

#include "core/error.h"
#include "memory/guest_memory.h"

namespace tsvmm {
namespace {

constexpr uint64_t kLow = 64 * 4096;
constexpr uint64_t kHigh = 0x100000000;

class GuestMemoryTest : public ::testing::Test {
 protected:
  GuestMemory memory_{{{0, kLow}, {kHigh, 4096}}, {}};
};

TEST_F(GuestMemoryTest, ReadsWhatWasWritten) {
  ASSERT_TRUE(memory_.write<uint32_t>(kHigh + 4, 0x12345678));
  EXPECT_EQ(memory_.read<uint32_t>(kHigh + 4), 0x12345678U);
  std::array<uint8_t, 2> bytes{};
  ASSERT_TRUE(memory_.read(kHigh + 5, bytes));
  EXPECT_EQ(bytes[0], 0x56);
}

TEST_F(GuestMemoryTest, RefusesWhatLeavesARegionByOneByte) {
  EXPECT_TRUE(memory_.slice(kLow - 8, 8));
  EXPECT_FALSE(memory_.slice(kLow - 8, 9));
  EXPECT_FALSE(memory_.slice(kLow, 1));
  EXPECT_FALSE(memory_.slice(kHigh - 1, 2));
  EXPECT_FALSE(memory_.write<uint64_t>(kLow - 4, 0));
}

TEST_F(GuestMemoryTest, RefusesLengthsThatOverflow) {
  EXPECT_FALSE(memory_.slice(16, UINT64_MAX));
  EXPECT_FALSE(memory_.slice(UINT64_MAX, 1));
  EXPECT_FALSE(memory_.slice(UINT64_MAX - 3, 8));
  EXPECT_FALSE(memory_.slice(kHigh + 16, UINT64_MAX - 8));
}

TEST_F(GuestMemoryTest, TakesAZeroLengthInsideARegionOnly) {
  EXPECT_TRUE(memory_.slice(kLow - 1, 0));
  EXPECT_FALSE(memory_.slice(kLow, 0));
}

TEST_F(GuestMemoryTest, GivesPointersToAlignedFieldsOnly) {
  EXPECT_NE(memory_.aligned_pointer<uint16_t>(2), nullptr);
  EXPECT_EQ(memory_.aligned_pointer<uint16_t>(3), nullptr);
  EXPECT_EQ(memory_.aligned_pointer<uint16_t>(kLow), nullptr);
}

TEST(GuestMemory, AnAccessMayBeginWhereARegionEndsIfAnotherBeginsThere) {
  const GuestMemory memory({{0, 4096}, {4096, 4096}}, {});
  EXPECT_TRUE(memory.slice(4096, 4096));
  EXPECT_FALSE(memory.slice(4095, 2));
}

TEST(GuestMemory, FailsWithTheReasonWhenMemoryCannotBeHad) {
  EXPECT_THROW(GuestMemory({{0, 1ULL << 62}}, {}), Error);
}

TEST(GuestMemory, HasADescriptorWhereOthersAreToMapIt) {
  const GuestMemory alone({{0, 4096}}, {});
  EXPECT_EQ(alone.regions()[0].fd, -1);
  const GuestMemory shared({{0, 4096}}, {.shared = true});
  ASSERT_TRUE(shared.write<uint32_t>(8, 42));
  uint32_t seen = 0;
  ASSERT_EQ(::pread(shared.regions()[0].fd, &seen, sizeof seen, 8), 4);
  EXPECT_EQ(seen, 42U);
}

TEST(GuestMemory, IsAlignedSoThatHugePagesFit) {
  const GuestMemory memory({{0, 64 << 20}}, {.prefault = true});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.regions()[0].host) % (2 << 20), 0U);
}

TEST(GuestMemory, RefusesHugePagesThatAreNotThere) {
  // More than any machine has set aside; to find out by a bus error would be too late.
  EXPECT_THROW(GuestMemory({{0, 1ULL << 40}}, {.hugepage_size = 2 << 20}), Error);
}

TEST(GuestMemory, TellsAListenerOfThePresentRegions) {
  struct Listener : MemoryListener {
    void region_added(const MemoryRegion& region) override { total += region.size; }
    void region_removed(const MemoryRegion& region) override { total -= region.size; }
    uint64_t total = 0;
  } listener;
  {
    GuestMemory memory({{0, 8192}, {kHigh, 4096}}, {});
    memory.add_listener(listener);
    EXPECT_EQ(listener.total, 12288U);
  }
  EXPECT_EQ(listener.total, 0U);
}

}  // namespace
}  // namespace tsvmm
