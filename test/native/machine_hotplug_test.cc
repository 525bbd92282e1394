#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include "core/bytes.h"
#include "machine_fixture.h"

/// Devices that come to a machine and leave it, with a guest that does as the AML says, or does
/// not.
namespace tsvmm::machine_test {
namespace {

using Type = MachineEvent::Type;

class MachineHotplugTest : public MachineTest {
 protected:
  static constexpr unsigned kSlot = 5;
  static constexpr GuestAddress kBar2 = 0x4000000000;
  static constexpr uint64_t kPmemSize = 2 << 20;
  static constexpr GuestAddress kInserted = kHotplug;
  static constexpr GuestAddress kRemoving = kHotplug + 4;
  static constexpr GuestAddress kEject = kHotplug + 8;
  static constexpr GuestAddress kSegment = kHotplug + 12;
  static constexpr GuestAddress kWindowOf1 = 0xe0000000;

  void SetUp() override {
    build(2);
    BootSpec boot = boot_spec();
    boot.pci.segments.push_back(
        {.window32 = {kWindowOf1, 0x8000000}, .window64 = {0x4010000000, 0x10000000}});
    machine->boot(std::move(boot));
  }

  static GuestAddress bar_in(unsigned segment) { return segment == 0 ? bar_of(kSlot) : kWindowOf1; }
  static PciFunctionSpec balloon(const std::string& id, unsigned segment = 0) {
    return {
        .id = id, .place = {segment, kSlot}, .bar0 = bar_in(segment), .device = empty_balloon()};
  }

  /// Persistent memory behind BAR 2.
  static PciFunctionSpec pmem(int fd) {
    message_test::MessageBuilder spec;
    spec.writer().map(3).field("size", kPmemSize).key("discardWrites").boolean(false).key("fd");
    spec.descriptor(fd);
    return {.id = "memory",
            .place = {0, kSlot},
            .bar0 = bar_of(kSlot),
            .bar2 = kBar2,
            .device = device_of("pmem", spec.take())};
  }

  uint32_t read(GuestAddress address) {
    std::array<uint8_t, 4> bytes{};
    guest.run(0, [&](AccessHandler& board) { board.mmio_read(address, bytes); });
    return load<uint32_t>(bytes);
  }
  void write(GuestAddress address, uint32_t value) {
    std::array<uint8_t, 4> bytes{};
    store(std::span<uint8_t>(bytes), value);
    guest.run(0, [&](AccessHandler& board) { board.mmio_write(address, bytes); });
  }
  static GuestAddress configuration(uint32_t offset, unsigned segment = 0) {
    return kEcam + (uint64_t{segment} << 20) + (uint64_t{kSlot} << 15) + offset;
  }
  /// Has it decoded, and its driver begin.
  void start_driver(unsigned segment = 0) {
    write(configuration(4, segment), kPciCommandMemory);
    guest.run(0, [segment](AccessHandler& board) {
      VcpuDriver driver(board, bar_in(segment));
      driver->negotiate(virtio_feature::kVersion1);
      driver->start();
    });
  }
  std::vector<std::string> ejected() {
    std::vector<std::string> ids;
    for (const MachineEvent& event : sink.of(Type::kDeviceEjected)) ids.push_back(event.id);
    return ids;
  }
};

TEST_F(MachineHotplugTest, ADeviceComesIsUsedAndLeavesAsOftenAsOneLikes) {
  for (int round = 1; round <= 20; ++round) {
    machine->plug(balloon("one"));
    EXPECT_EQ(read(kInserted), 1U << kSlot);
    EXPECT_EQ(read(configuration(0)), 0x10451af4U);
    EXPECT_EQ(read(bar_of(kSlot)), ~0U) << "not decoded before the guest wants it";
    start_driver();
    EXPECT_EQ(sink.of(Type::kDeviceActivated).size(), static_cast<size_t>(round));
    machine->request_unplug("one");
    EXPECT_EQ(code_of([&] { machine->finish_unplug("one", false); }), "EBUSY");
    EXPECT_EQ(read(kRemoving), 1U << kSlot);
    write(kEject, 1U << kSlot);
    EXPECT_EQ(ejected().size(), static_cast<size_t>(round));
    EXPECT_EQ(read(configuration(0)), ~0U);
    EXPECT_EQ(read(bar_of(kSlot)), ~0U);
    machine->finish_unplug("one", false);
    EXPECT_EQ(code_of([&] { machine->request_unplug("one"); }), "ERR_TSVMM_NO_DEVICE");
  }
}

/// The same slot of two segments, with the registers of one chosen at a time.
TEST_F(MachineHotplugTest, DevicesComeToTheirSegmentAndLeaveIt) {
  for (int round = 1; round <= 20; ++round) {
    machine->plug(balloon("here"));
    machine->plug(balloon("there", 1));
    write(kSegment, 1);
    EXPECT_EQ(read(kInserted), 1U << kSlot);
    EXPECT_EQ(read(configuration(0, 1)), 0x10451af4U);
    start_driver(1);
    EXPECT_EQ(sink.of(Type::kDeviceActivated).size(), static_cast<size_t>(round));
    EXPECT_EQ(sink.of(Type::kDeviceActivated).back().id, "there");
    machine->request_unplug("here");
    machine->request_unplug("there");
    EXPECT_EQ(read(kRemoving), 1U << kSlot);
    write(kEject, ~0U);
    EXPECT_EQ(read(configuration(0, 1)), ~0U);
    EXPECT_EQ(read(bar_in(1)), ~0U);
    machine->finish_unplug("there", false);
    EXPECT_EQ(code_of([&] { machine->finish_unplug("here", false); }), "EBUSY");
    EXPECT_EQ(read(configuration(0)), 0x10451af4U);
    write(kSegment, 0);
    EXPECT_EQ(read(kInserted), 1U << kSlot);
    EXPECT_EQ(read(kRemoving), 1U << kSlot);
    write(kEject, 1U << kSlot);
    machine->finish_unplug("here", false);
  }
  EXPECT_EQ(ejected().size(), 40U);
}

TEST_F(MachineHotplugTest, ABarIsDecodedInTheWindowsOfItsSegmentOnly) {
  machine->plug(balloon("there", 1));
  write(configuration(0x10, 1), static_cast<uint32_t>(bar_of(kSlot)));
  write(configuration(4, 1), kPciCommandMemory);
  EXPECT_EQ(read(bar_of(kSlot)), ~0U);
  write(configuration(0x10, 1), static_cast<uint32_t>(kWindowOf1 + 0x100000));
  EXPECT_EQ(read(kWindowOf1 + 0x100000), 0U) << "the feature select register";
}

TEST_F(MachineHotplugTest, NothingComesToASegmentThatThereIsNot) {
  EXPECT_EQ(code_of([&] { machine->plug(balloon("nowhere", 2)); }), "EINVAL");
  EXPECT_EQ(code_of([&] { machine->request_unplug("nowhere"); }), "ERR_TSVMM_NO_DEVICE");
  write(kSegment, 2);
  EXPECT_EQ(read(kInserted), 0U);
  write(kEject, ~0U);
  EXPECT_TRUE(ejected().empty());
}

/// Persistent memory, which others find where the guest has mapped it.
TEST_F(MachineHotplugTest, MemoryComesAndLeaves) {
  const UniqueFd file(::memfd_create("pmem", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), kPmemSize), 0);
  for (int round = 1; round <= 20; ++round) {
    machine->plug(pmem(file.get()));
    EXPECT_FALSE(memory->slice(kBar2, 1));
    start_driver();
    ASSERT_TRUE(memory->write(kBar2, round));
    machine->request_unplug("memory");
    write(kEject, 1U << kSlot);
    EXPECT_FALSE(memory->slice(kBar2, 1));
    machine->finish_unplug("memory", false);
    EXPECT_EQ(open_descriptors_of(file.get()), 1U);
    int kept = 0;
    ASSERT_EQ(::pread(file.get(), &kept, sizeof kept, 0), ssize_t{sizeof kept});
    EXPECT_EQ(kept, round);
  }
}

/// All other devices are held meanwhile, which a driver must neither start nor reset then.
TEST_F(MachineHotplugTest, MemoryLeavesWhileNoVcpuRuns) {
  const UniqueFd file(::memfd_create("pmem", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), kPmemSize), 0);
  machine->plug(pmem(file.get()));
  machine->request_unplug("memory");
  std::promise<void> driver;
  (void)guest.occupy(1, driver.get_future().share());
  EXPECT_EQ(code_of([&] { machine->finish_unplug("memory", true, kShort); }), "ETIMEDOUT");
  EXPECT_EQ(message, "vCPU 1 does not leave the guest");
  driver.set_value();
  machine->finish_unplug("memory", true);
  write(configuration(4), 0);  // the guest goes on
  EXPECT_EQ(open_descriptors_of(file.get()), 1U);
}

TEST_F(MachineHotplugTest, WhatNobodyAskedForIsNotEjected) {
  machine->plug(balloon("one"));
  write(kEject, ~0U);
  EXPECT_EQ(read(configuration(0)), 0x10451af4U);
  EXPECT_TRUE(ejected().empty());
}

/// What is left in the slot does nothing, also for a driver that waits for its reset, until the
/// guest gives it up.
TEST_F(MachineHotplugTest, AGuestThatKeepsADeviceHasNothingBehindItByForce) {
  machine->plug(balloon("one"));
  start_driver();
  machine->request_unplug("one");
  machine->finish_unplug("one", true);
  EXPECT_EQ(code_of([&] { machine->finish_unplug("one", true); }), "ERR_TSVMM_NO_DEVICE");
  EXPECT_EQ(read(bar_of(kSlot) + 0x14) & 0xff, 0U) << "the status of a device that is reset";
  start_driver();
  EXPECT_EQ(read(bar_of(kSlot) + 0x14) & 0xff, 0U);
  EXPECT_EQ(sink.of(Type::kDeviceActivated).size(), 1U);
  EXPECT_EQ(code_of([&] { machine->plug(balloon("two")); }), "EINVAL") << "its slot is taken";
  EXPECT_TRUE(ejected().empty());
  EXPECT_EQ(read(kRemoving), 1U << kSlot) << "the guest is asked";
  write(kEject, ~0U);
  EXPECT_EQ(ejected(), std::vector<std::string>{"one"});
  EXPECT_EQ(read(configuration(0)), ~0U);
  machine->plug(balloon("two"));
  start_driver();
  EXPECT_EQ(sink.of(Type::kDeviceActivated).size(), 2U);
}

TEST_F(MachineHotplugTest, AlsoWhileItIsPausedButForWhatTheSharedLoopHasToEnd) {
  machine->pause();
  machine->plug(balloon("one"));
  machine->resume();
  start_driver();
  machine->request_unplug("one");
  machine->pause();
  EXPECT_EQ(code_of([&] { machine->finish_unplug("one", true, kShort); }), "ETIMEDOUT");
  machine->resume();
  machine->finish_unplug("one", true);
  EXPECT_EQ(code_of([&] { machine->request_unplug("one"); }), "ERR_TSVMM_NO_DEVICE");
}

TEST_F(MachineHotplugTest, APlaceThatIsTakenIsRefusedAndTheMachineGoesOn) {
  machine->plug(balloon("one"));
  EXPECT_EQ(code_of([&] { machine->plug(balloon("two")); }), "EINVAL");
  EXPECT_EQ(code_of([&] { machine->request_unplug("two"); }), "ERR_TSVMM_NO_DEVICE");
  EXPECT_EQ(read(configuration(0)), 0x10451af4U);
}

TEST_F(MachineHotplugTest, EndsWithADeviceThatIsHalfGone) {
  machine->plug(balloon("one"));
  start_driver();
  machine->request_unplug("one");
  write(kEject, 1U << kSlot);
  machine->destroy();
}

/// Accesses that are on their way while the device goes do nothing, and hurt nobody.
TEST_F(MachineHotplugTest, ComesAndGoesUnderAnotherVcpusAccesses) {
  std::atomic<bool> done = false;
  const auto attack = guest.begin(1, [&](AccessHandler& board) {
    VcpuDriver driver(board, bar_of(kSlot));
    std::array<uint8_t, 4> bytes{};
    while (!done) {
      driver->set_status(0);
      driver->negotiate(virtio_feature::kVersion1);
      driver->start();
      driver->write<uint16_t>(0x6000, 0);
      board.mmio_read(configuration(0), bytes);
      board.mmio_write(kEject, std::array<uint8_t, 4>{0xff, 0xff, 0xff, 0xff});
    }
  });
  for (int round = 0; round < 200; ++round) {
    machine->plug(balloon("one"));
    write(configuration(4), kPciCommandMemory);
    machine->request_unplug("one");
    machine->finish_unplug("one", true);
    EXPECT_TRUE(eventually([&] { return ejected().size() == static_cast<size_t>(round) + 1; }));
  }
  done = true;
  EXPECT_TRUE(eventually([&] { return attack->load(); }));
}

}  // namespace
}  // namespace tsvmm::machine_test
