#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <random>
#include <thread>

#include "core/bytes.h"
#include "core/error.h"
#include "device/memory_hotplug.h"

namespace tsvmm {
namespace {

// The registers as the AML of \_SB.MHPC has them.
constexpr uint64_t kSelect = 0x0;
constexpr uint64_t kProximity = 0x10;
constexpr uint64_t kStatus = 0x14;
constexpr uint8_t kEnabled = 1;
constexpr uint8_t kInserting = 2;

constexpr uint64_t kAddress = 0x1'2000'0000;
constexpr uint64_t kSize = 0x3'0800'0000;

class MemoryHotplugTest : public testing::Test {
 protected:
  uint32_t read(uint64_t offset) {
    std::array<uint8_t, 4> bytes{};
    controller.read(offset, bytes);
    return load<uint32_t>(bytes);
  }
  void select(uint32_t slot) {
    std::array<uint8_t, 4> bytes{};
    store(std::span<uint8_t>(bytes), slot);
    controller.write(kSelect, bytes);
  }
  uint8_t status() {
    std::array<uint8_t, 1> byte{};
    controller.read(kStatus, byte);
    return byte[0];
  }
  void write_status(uint8_t value) {
    const std::array<uint8_t, 1> byte{value};
    controller.write(kStatus, byte);
  }

  std::atomic<int> notified = 0;
  MemoryHotplug controller{[this] { ++notified; }};
};

TEST_F(MemoryHotplugTest, TellsWhereMemoryIsUntilTheGuestHasSeenIt) {
  controller.insert(kAddress, kSize, 7);
  EXPECT_EQ(notified, 1);
  select(0);
  EXPECT_EQ(status(), kEnabled | kInserting);
  EXPECT_EQ(read(0x0) | uint64_t{read(0x4)} << 32, kAddress);
  EXPECT_EQ(read(0x8) | uint64_t{read(0xc)} << 32, kSize);
  EXPECT_EQ(read(kProximity), 7U);
  write_status(kInserting);
  EXPECT_EQ(status(), kEnabled);
  EXPECT_EQ(read(0x8), static_cast<uint32_t>(kSize)) << "it stays";
  select(1);
  EXPECT_EQ(status(), 0);
  EXPECT_EQ(read(0x8), 0U);
}

TEST_F(MemoryHotplugTest, HasEightSlots) {
  for (uint32_t slot = 0; slot < MemoryHotplugState::kSlots; ++slot) {
    controller.insert(kAddress + slot * kSize, kSize, 0);
    select(slot);
    EXPECT_EQ(read(0x0), static_cast<uint32_t>(kAddress + slot * kSize));
  }
  EXPECT_THROW(controller.insert(kAddress, kSize, 0), Error);
  EXPECT_EQ(notified, 8);
}

TEST_F(MemoryHotplugTest, GivesNothingUpAndMakesNothingUp) {
  controller.insert(kAddress, kSize, 0);
  select(0);
  write_status(0xff & ~kInserting);  // ejects, enables, removes
  EXPECT_EQ(status(), kEnabled | kInserting);
  select(5);
  write_status(0xff);
  EXPECT_EQ(status(), 0) << "an empty slot stays empty";
  for (const uint32_t wild : {8U, 0xffffU, 0xffffffffU}) {
    select(wild);
    write_status(0xff);
    EXPECT_EQ(status(), 0);
    EXPECT_EQ(read(0x0), 0U);
  }
  select(0);
  EXPECT_EQ(status(), kEnabled | kInserting);
}

TEST_F(MemoryHotplugTest, AnswersOddAccessesWithOnes) {
  controller.insert(kAddress, kSize, 0);
  for (const size_t width : {1, 2, 8}) {
    std::array<uint8_t, 8> bytes{};
    const auto some = std::span(bytes).first(width);
    controller.read(0x0, some);
    EXPECT_TRUE(std::ranges::all_of(some, [](uint8_t byte) { return byte == 0xff; })) << width;
    controller.write(kSelect, some);
  }
  EXPECT_EQ(read(0x2), ~0U);
  EXPECT_EQ(read(kStatus), ~0U);
  EXPECT_EQ(status(), kEnabled | kInserting) << "slot 0 is still selected";
}

TEST_F(MemoryHotplugTest, ASecondControllerGoesOnWhereTheFirstWas) {
  controller.insert(kAddress, kSize, 3);
  controller.insert(kAddress + kSize, kSize, 3);
  select(1);
  write_status(kInserting);
  MemoryHotplug second([] {}, controller.state());
  std::array<uint8_t, 1> byte{};
  second.read(kStatus, byte);
  EXPECT_EQ(byte[0], kEnabled) << "slot 1 is selected";
  EXPECT_TRUE(second.state().slots[0].inserting);
  EXPECT_EQ(second.state().slots[1].address, kAddress + kSize);
}

/// Also under ThreadSanitizer: three vCPUs write what they like while the host adds memory.
TEST_F(MemoryHotplugTest, IsAttackedWhileMemoryComes) {
  std::atomic<bool> done = false;
  std::vector<std::thread> vcpus;
  for (unsigned seed = 0; seed < 3; ++seed) {
    vcpus.emplace_back([&, seed] {
      std::mt19937 random(seed);
      std::array<uint8_t, 8> bytes{};
      while (!done) {
        const auto some = std::span(bytes).first(size_t{1} << (random() % 4));
        store(std::span<uint8_t>(bytes).first<4>(), static_cast<uint32_t>(random() % 16));
        const uint64_t offset = random() % MemoryHotplug::kSize;
        if (random() % 2 == 0)
          controller.write(offset, some);
        else
          controller.read(offset, some);
      }
    });
  }
  for (uint64_t i = 0; i < MemoryHotplugState::kSlots; ++i) {
    controller.insert(kAddress + i * kSize, kSize, 0);
    std::this_thread::yield();
  }
  done = true;
  for (std::thread& vcpu : vcpus) vcpu.join();
  for (uint32_t slot = 0; slot < MemoryHotplugState::kSlots; ++slot) {
    select(slot);
    EXPECT_EQ(status() & kEnabled, kEnabled);
    EXPECT_EQ(read(0x0), static_cast<uint32_t>(kAddress + slot * kSize));
  }
}

}  // namespace
}  // namespace tsvmm
