#include <gtest/gtest.h>

#include <array>

#include "bus/address_space.h"
#include "core/bytes.h"

namespace tsvmm {
namespace {

struct Recorder : BusDevice {
  void read(uint64_t offset, std::span<uint8_t> data) override { store_uint(data, offset); }
  void write(uint64_t offset, std::span<const uint8_t> data) override {
    last_offset = offset;
    last_value = load_uint(data);
  }
  uint64_t last_offset = 0;
  uint64_t last_value = 0;
};

uint64_t read_at(const AddressSpace& space, uint64_t address, size_t size) {
  std::array<uint8_t, 8> data{};
  space.read(address, std::span(data).first(size));
  return load_uint(std::span(data).first(size));
}

TEST(AddressSpace, DecodesToTheOffsetInTheDevice) {
  AddressSpace space;
  const auto device = std::make_shared<Recorder>();
  ASSERT_TRUE(space.map(0x1000, 0x100, device));
  EXPECT_EQ(read_at(space, 0x10ff, 1), 0xffU);
  const std::array<uint8_t, 2> value{0x34, 0x12};
  space.write(0x1010, value);
  EXPECT_EQ(device->last_offset, 0x10U);
  EXPECT_EQ(device->last_value, 0x1234U);
}

TEST(AddressSpace, ReadsAllOnesWhereNothingIs) {
  AddressSpace space;
  ASSERT_TRUE(space.map(0x1000, 0x100, std::make_shared<Recorder>()));
  EXPECT_EQ(read_at(space, 0xfff, 4), 0xffffffffU);
  EXPECT_EQ(read_at(space, 0x1100, 8), UINT64_MAX);
  EXPECT_EQ(read_at(space, UINT64_MAX, 1), 0xffU);
}

TEST(AddressSpace, RefusesOverlapsEmptyAndWrappingRanges) {
  AddressSpace space;
  const auto device = std::make_shared<Recorder>();
  ASSERT_TRUE(space.map(0x1000, 0x100, device));
  EXPECT_FALSE(space.map(0x10ff, 1, device));
  EXPECT_FALSE(space.map(0xfff, 2, device));
  EXPECT_FALSE(space.map(0x0, UINT64_MAX, device));
  EXPECT_FALSE(space.map(0x2000, 0, device));
  EXPECT_FALSE(space.map(UINT64_MAX, 2, device));
  EXPECT_TRUE(space.map(0x1100, 0x100, device));
  EXPECT_TRUE(space.map(0xf00, 0x100, device));
  EXPECT_TRUE(space.map(UINT64_MAX, 1, device));
}

TEST(AddressSpace, ForgetsWhatWasUnmapped) {
  AddressSpace space;
  ASSERT_TRUE(space.map(0x1000, 0x100, std::make_shared<Recorder>()));
  space.unmap(0x1000);
  EXPECT_EQ(read_at(space, 0x1000, 1), 0xffU);
}

TEST(AddressSpace, AHandlerMayRemap) {
  struct Mover : BusDevice {
    explicit Mover(AddressSpace& space) : space_(space) {}
    void read(uint64_t /*offset*/, std::span<uint8_t> data) override { store_uint(data, 0); }
    void write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override {
      space_.unmap(0x1000);
    }
    AddressSpace& space_;
  };
  AddressSpace space;
  ASSERT_TRUE(space.map(0x1000, 0x100, std::make_shared<Mover>(space)));
  const std::array<uint8_t, 1> value{0};
  space.write(0x1000, value);
  EXPECT_EQ(read_at(space, 0x1000, 1), 0xffU);
}

}  // namespace
}  // namespace tsvmm
