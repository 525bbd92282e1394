#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "core/bytes.h"
#include "device/pci_hotplug.h"

namespace tsvmm {
namespace {

// The registers as the AML of \_SB.PHPR has them.
constexpr uint64_t kInserted = 0x0;
constexpr uint64_t kRemoving = 0x4;
constexpr uint64_t kEject = 0x8;
constexpr uint64_t kSegment = 0xc;

class PciHotplugTest : public testing::Test {
 protected:
  uint32_t read(uint64_t offset) {
    std::array<uint8_t, 4> bytes{};
    controller.read(offset, bytes);
    return load<uint32_t>(bytes);
  }
  void write(uint64_t offset, uint32_t value) {
    std::array<uint8_t, 4> bytes{};
    store(std::span<uint8_t>(bytes), value);
    controller.write(offset, bytes);
  }

  int notified = 0;
  std::vector<PciPlace> ejected;
  PciHotplug controller{2, [this] { ++notified; },
                        [this](PciPlace place) { ejected.push_back(place); }};
};

TEST_F(PciHotplugTest, ReadingClearsWhatCameAndWhatIsToGo) {
  controller.insert({0, 3});
  controller.insert({0, 31});
  controller.request_removal({0, 5});
  EXPECT_EQ(notified, 3);
  EXPECT_EQ(read(kInserted), 1U << 3 | 1U << 31);
  EXPECT_EQ(read(kInserted), 0U);
  EXPECT_EQ(read(kRemoving), 1U << 5);
  EXPECT_EQ(read(kRemoving), 0U);
}

TEST_F(PciHotplugTest, OnlyWhatIsAskedForIsEjectedAndOnce) {
  controller.request_removal({0, 5});
  write(kEject, ~0U);
  EXPECT_EQ(ejected, (std::vector<PciPlace>{{0, 5}}));
  write(kEject, 1U << 5);
  EXPECT_EQ(ejected.size(), 1U);
  EXPECT_EQ(read(kRemoving), 0U) << "what is gone is not to be given up again";
}

TEST_F(PciHotplugTest, OtherSegmentsHaveNothing) {
  controller.insert({0, 1});
  controller.request_removal({0, 2});
  write(kSegment, 7);
  EXPECT_EQ(read(kSegment), 7U);
  EXPECT_EQ(read(kInserted), 0U);
  EXPECT_EQ(read(kRemoving), 0U);
  write(kEject, 1U << 2);
  EXPECT_TRUE(ejected.empty());
  write(kSegment, 0);
  EXPECT_EQ(read(kInserted), 1U << 1);
  EXPECT_EQ(read(kRemoving), 1U << 2);
}

TEST_F(PciHotplugTest, EachSegmentHasSlotsOfItsOwn) {
  controller.insert({1, 0});
  controller.request_removal({1, 2});
  EXPECT_EQ(read(kInserted), 0U);
  EXPECT_EQ(read(kRemoving), 0U);
  write(kEject, ~0U);
  EXPECT_TRUE(ejected.empty());
  write(kSegment, 1);
  EXPECT_EQ(read(kInserted), 1U);
  EXPECT_EQ(read(kRemoving), 1U << 2);
  write(kEject, ~0U);
  EXPECT_EQ(ejected, (std::vector<PciPlace>{{1, 2}}));
}

TEST_F(PciHotplugTest, AnyAccessIsSurvived) {
  for (uint64_t offset = 0; offset < PciHotplug::kSize; ++offset) {
    for (const size_t size : {1, 2, 4, 8}) {
      std::array<uint8_t, 8> bytes{};
      controller.read(offset, std::span(bytes).first(size));
      if (size != 4) {
        EXPECT_EQ(bytes[0], 0xff);
      }
      controller.write(offset, std::span(bytes).first(size));
    }
  }
  EXPECT_TRUE(ejected.empty());
}

}  // namespace
}  // namespace tsvmm
