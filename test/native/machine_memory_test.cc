#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "core/bytes.h"
#include "device/ged.h"
#include "machine_fixture.h"

/// Memory that comes to a machine, and the registers by which its guest hears of it.
namespace tsvmm::machine_test {
namespace {

constexpr GuestAddress kController = 0xfe000030;
constexpr GuestAddress kGed = 0xfe000000;
constexpr GuestAddress kGrowth = 0x100000000;
constexpr uint64_t kStep = 128 << 20;
constexpr uint8_t kEnabled = 1;
constexpr uint8_t kInserting = 2;

class MachineMemoryTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineSpec spec = machine_spec(2);
    spec.memory_growth = MemoryRange{kGrowth, 4 * kStep};
    machine = std::make_unique<Machine>(std::move(spec), sink);
    machine->build([this](GuestMemory&, uint32_t) { return std::make_unique<FakeVm>(guest); });
    BootSpec boot = boot_spec();
    boot.board->memory_hotplug = MemoryHotplugSpec{.address = kController, .proximity = 3};
    machine->boot(std::move(boot));
  }

  uint64_t read(GuestAddress address, size_t width) {
    std::array<uint8_t, 8> bytes{};
    guest.run(
        0, [&](AccessHandler& board) { board.mmio_read(address, std::span(bytes).first(width)); });
    return load<uint64_t>(bytes);
  }
  void write(GuestAddress address, uint32_t value, size_t width) {
    std::array<uint8_t, 4> bytes{};
    store(std::span<uint8_t>(bytes), value);
    guest.run(
        0, [&](AccessHandler& board) { board.mmio_write(address, std::span(bytes).first(width)); });
  }
  /// As MCRS does.
  MemoryRange range_of(uint32_t slot) {
    write(kController, slot, 4);
    return {read(kController, 4) | read(kController + 4, 4) << 32,
            read(kController + 8, 4) | read(kController + 12, 4) << 32};
  }
};

TEST_F(MachineMemoryTest, TheGuestHearsOfItAndHasIt) {
  EXPECT_EQ(read(kController + 0x14, 1), 0U);
  std::array<uint8_t, 4> bytes{1, 2, 3, 4};
  EXPECT_FALSE(machine->debug_write(kGrowth, bytes));
  machine->add_memory(kStep);
  machine->add_memory(2 * kStep);
  EXPECT_EQ(read(kGed, 1), Ged::kMemory);
  EXPECT_EQ(range_of(0).address, kGrowth);
  EXPECT_EQ(range_of(0).size, kStep);
  EXPECT_EQ(range_of(1).address, kGrowth + kStep);
  EXPECT_EQ(range_of(1).size, 2 * kStep);
  EXPECT_EQ(read(kController + 0x10, 4), 3U) << "its node";
  EXPECT_EQ(read(kController + 0x14, 1), kEnabled | kInserting);
  write(kController + 0x14, kInserting, 1);
  EXPECT_EQ(read(kController + 0x14, 1), kEnabled);
  EXPECT_TRUE(machine->debug_write(kGrowth + 3 * kStep - 4, bytes));
  EXPECT_FALSE(machine->debug_write(kGrowth + 3 * kStep - 3, bytes));
  EXPECT_TRUE(machine->debug_write(kGrowth + kStep - 2, bytes)) << "in both";
}

TEST_F(MachineMemoryTest, HasItsLimits) {
  EXPECT_EQ(code_of([&] { machine->add_memory(5 * kStep); }), "ENOSPC");
  EXPECT_EQ(code_of([&] { machine->add_memory(0); }), "EINVAL");
  EXPECT_EQ(read(kGed, 1), 0U) << "the guest is not told of what there is not";
  machine->add_memory(4 * kStep);
  EXPECT_EQ(code_of([&] { machine->add_memory(kStep); }), "ENOSPC");
  EXPECT_EQ(range_of(1).size, 0U);
}

TEST_F(MachineMemoryTest, ComesToAPausedMachineToo) {
  machine->pause();
  machine->add_memory(kStep);
  machine->resume();
  EXPECT_EQ(read(kGed, 1), Ged::kMemory);
  EXPECT_EQ(range_of(0).size, kStep);
}

/// Another vCPU writes what it likes to the controller, and to memory, meanwhile.
TEST_F(MachineMemoryTest, IsAddedUnderAttack) {
  std::promise<void> end;
  const std::shared_future<void> ended = end.get_future().share();
  const auto attack = guest.begin(1, [ended](AccessHandler& board) {
    std::array<uint8_t, 8> bytes{7, 0, 0, 0, 1, 1, 1, 1};
    for (unsigned i = 0; ended.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
         ++i) {
      const GuestAddress address = kController + i % 24;
      board.mmio_write(address, std::span(bytes).first(size_t{1} << (i % 4)));
      board.mmio_read(address, std::span(bytes).first(size_t{1} << (i % 4)));
      bytes[0] = static_cast<uint8_t>(i);
    }
  });
  for (int i = 0; i < 4; ++i) machine->add_memory(kStep);
  end.set_value();
  EXPECT_TRUE(eventually([&] { return attack->load(); }));
  for (uint32_t slot = 0; slot < 4; ++slot)
    EXPECT_EQ(range_of(slot).address, kGrowth + slot * kStep);
}

/// What the guest loses of it reads as zeros, and somebody is told, once.
TEST_F(MachineTest, AZoneWhoseFileGetsShorterLivesOn) {
  constexpr uint64_t kZone = 4 << 20;
  const auto file = std::make_shared<const UniqueFd>(::memfd_create("zone", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file->get(), kZone), 0);
  MachineSpec spec = machine_spec(1);
  spec.memory.push_back(
      {.id = "filed", .ranges = {{kGrowth, kZone}}, .options = {.shared = true}, .file = file});
  machine = std::make_unique<Machine>(std::move(spec), sink);
  machine->build([this](GuestMemory&, uint32_t) { return std::make_unique<FakeVm>(guest); });
  machine->boot(boot_spec());
  std::array<uint8_t, 4> bytes{1, 2, 3, 4};
  ASSERT_TRUE(machine->debug_write(kGrowth + kZone - 4, bytes));
  ASSERT_EQ(::ftruncate(file->get(), 4096), 0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(machine->debug_read(kGrowth + kZone - 4, bytes));
    EXPECT_EQ(bytes, (std::array<uint8_t, 4>{}));
  }
  const auto warnings = [&] { return sink.of(MachineEvent::Type::kDeviceWarning); };
  EXPECT_TRUE(eventually([&] { return !warnings().empty(); }));
  EXPECT_EQ(warnings().size(), 1U);
  EXPECT_EQ(warnings().front().id, "filed");
  machine->destroy();
}

TEST_F(MachineTest, WithoutSlotsForMoreMemoryNothingIsAdded) {
  MachineSpec spec = machine_spec(1);
  spec.memory_growth = MemoryRange{kGrowth, kStep};
  machine = std::make_unique<Machine>(std::move(spec), sink);
  machine->build([this](GuestMemory&, uint32_t) { return std::make_unique<FakeVm>(guest); });
  machine->boot(boot_spec());
  EXPECT_EQ(code_of([&] { machine->add_memory(kStep); }), "ENOTSUP");
  const std::array<uint8_t, 4> bytes{1, 2, 3, 4};
  EXPECT_FALSE(machine->debug_write(kGrowth, bytes));
}

TEST_F(MachineTest, WithoutPlaceForMoreMemoryThereIsNone) {
  build(1);
  BootSpec boot = boot_spec();
  boot.board->memory_hotplug = MemoryHotplugSpec{.address = kController, .proximity = 0};
  machine->boot(std::move(boot));
  EXPECT_EQ(code_of([&] { machine->add_memory(kStep); }), "ENOSPC");
}

}  // namespace
}  // namespace tsvmm::machine_test
