#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "disk_test_support.h"
#include "memory/guest_memory.h"
#include "memory/lost_pages.h"
#include "small_file_system.h"

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

TEST(GuestMemory, AnAccessMayBeginInOneRegionAndEndInTheNext) {
  const GuestMemory memory({{.ranges = {{0, 4096}}}, {.ranges = {{4096, 4096}, {12288, 4096}}}});
  ASSERT_EQ(memory.regions().size(), 3U);
  ASSERT_TRUE(memory.write<uint32_t>(4094, 0x12345678));
  EXPECT_EQ(memory.read<uint16_t>(4096), 0x1234);
  EXPECT_TRUE(memory.slice(0, 8192));
  EXPECT_FALSE(memory.slice(0, 8193)) << "a hole";
  EXPECT_FALSE(memory.slice(8191, 4098)) << "over a hole";
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

/// Keeps what it is told.
struct Told : MemoryListener {
  void region_added(const MemoryRegion& region) override {
    if (refuses) throw Error("EINVAL", "not here");
    addresses.push_back(region.address);
  }
  void region_removed(const MemoryRegion& region) override {
    std::erase(addresses, region.address);
  }
  std::vector<GuestAddress> addresses;
  bool refuses = false;
};

constexpr uint64_t kStep = 128 << 20;

TEST(MemoryZones, HaveABackingOfTheirOwnEach) {
  const GuestMemory memory(
      {{.id = "a", .ranges = {{kHigh, 8192}}},
       {.id = "b", .ranges = {{0, 4096}, {8192, 4096}}, .options = {.shared = true}}});
  const auto regions = memory.regions();
  ASSERT_EQ(regions.size(), 3U);
  EXPECT_EQ(regions[0].address, 0U) << "by address";
  EXPECT_EQ(regions[1].address, 8192U);
  EXPECT_EQ(regions[2].fd, -1);
  // One file for the zone.
  EXPECT_GE(regions[0].fd, 0);
  EXPECT_EQ(regions[0].fd, regions[1].fd);
  EXPECT_EQ(regions[1].offset, 4096U);
  ASSERT_TRUE(memory.write<uint32_t>(8192, 77));
  uint32_t seen = 0;
  ASSERT_EQ(::pread(regions[1].fd, &seen, sizeof seen, 4096), 4);
  EXPECT_EQ(seen, 77U);
}

TEST(MemoryZones, KeepARegionForADeviceToHandOut) {
  Told told;
  const GuestMemory memory(
      {{.id = "a", .ranges = {{0, kStep}}, .hotplug = MemoryRange{kStep, 2 * kStep}},
       {.id = "b", .ranges = {{kHigh, 4096}}, .options = {.prefault = true}}});
  memory.add_listener(told);
  EXPECT_EQ(told.addresses, (std::vector<GuestAddress>{0, kStep, kHigh}));
  const MemoryRegion* region = memory.hotplug_region("a");
  ASSERT_NE(region, nullptr);
  EXPECT_EQ(region->address, kStep);
  EXPECT_EQ(region->size, 2 * kStep);
  EXPECT_TRUE(region->hotplug);
  EXPECT_TRUE(memory.slice(3 * kStep - 8, 8)) << "where the device has handed it out";
  EXPECT_EQ(memory.hotplug_region("b"), nullptr);
  EXPECT_EQ(memory.hotplug_region("c"), nullptr);
  memory.remove_listener(told);
}

TEST(MemoryZones, RefuseWhatOverlapsOrIsNoWholePage) {
  const auto make = [](const std::vector<MemoryZone>& zones) { const GuestMemory memory(zones); };
  EXPECT_THROW(make({}), Error);
  EXPECT_THROW(make({{.ranges = {{0, 8192}}}, {.ranges = {{4096, 4096}}}}), Error);
  EXPECT_THROW(make({{.ranges = {{0, 8192}}, .hotplug = MemoryRange{0, 4096}}}), Error);
  EXPECT_THROW(make({{.ranges = {{0, 0}}}}), Error);
  EXPECT_THROW(make({{.ranges = {{~uint64_t{4095}, 8192}}}}), Error);
  EXPECT_THROW(make({{.ranges = {{4096, 2 << 20}}, .options = {.hugepage_size = 2 << 20}}}), Error);
  EXPECT_THROW(make({{.ranges = {{0, 12288}}, .options = {.hugepage_size = 12288}}}), Error);
}

std::shared_ptr<const UniqueFd> file_of(uint64_t size) {
  auto file = std::make_shared<const UniqueFd>(::memfd_create("zone", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(file->get(), static_cast<off_t>(size)), 0);
  return file;
}

TEST(MemoryZones, MayBeAFileThatKeepsWhatIsWrittenIfItIsShared) {
  for (const bool shared : {true, false}) {
    const auto file = file_of(4 * 4096);
    const uint32_t before = 42;
    ASSERT_EQ(::pwrite(file->get(), &before, sizeof before, 2 * 4096), 4);
    const GuestMemory memory({{.id = "a", .ranges = {{0, 4096}}},
                              {.id = "b",
                               .ranges = {{4096, 8192}, {kHigh, 4096}},
                               .hotplug = MemoryRange{2 * kHigh, 4096},
                               .options = {.shared = shared},
                               .file = file}});
    EXPECT_EQ(memory.read<uint32_t>(kHigh), before) << "the zone's third page";
    ASSERT_TRUE(memory.write<uint32_t>(kHigh, 7));
    uint32_t seen = 0;
    ASSERT_EQ(::pread(file->get(), &seen, sizeof seen, 2 * 4096), 4);
    EXPECT_EQ(seen, shared ? 7U : before);
    EXPECT_EQ(memory.hotplug_region("b")->offset, 3 * 4096U);
    EXPECT_EQ(memory.regions()[1].fd, shared ? file->get() : -1);
    EXPECT_EQ(memory.lost_pages().size(), 3U);
  }
}

/// What populating a zone of 8 MiB fails with.
std::optional<Error> error_of(const UniqueFd& file, const MemoryOptions& options) {
  const auto shared = std::make_shared<const UniqueFd>(UniqueFd::duplicate(file.get()));
  return attempt([&] {
    const GuestMemory memory(
        {{.id = "a", .ranges = {{0, 8 << 20}}, .options = options, .file = shared}});
  });
}

TEST(MemoryZones, SayWhatRanOutWhereTheyCannotBePopulated) {
  const disk_test::SmallFileSystem file_system("size=4m");
  REQUIRE_MOUNTED(file_system);
  for (const bool shared : {true, false}) {
    const UniqueFd file = file_system.file(shared ? "shared" : "private", 8 << 20);
    const auto error = error_of(file, {.shared = shared, .prefault = true});
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), "ENOSPC");
    EXPECT_STREQ(error->what(),
                 "the file of guest memory cannot have the 8 MiB that are to be populated: its "
                 "file system, of 4 MiB, has 0 MiB left; enlarge it (a tmpfs: mount -o "
                 "remount,size=), free space in it, or choose a smaller size");
    // What there is room for is there.
    ASSERT_EQ(::ftruncate(file.get(), 0), 0);
  }
}

/// Where a control group, or the node that they have to come from, has fewer than the host.
TEST(MemoryZones, SayThatHugePagesRanOutWhereTheyCannotBePopulated) {
  // A mapping whose file ends before it stands for huge pages: the kernel's answer is the same.
  const UniqueFd file(::memfd_create("zone", MFD_CLOEXEC));
  void* const host = ::mmap(nullptr, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  ASSERT_NE(host, MAP_FAILED);
  const BackingPiece piece{.host = static_cast<uint8_t*>(host), .size = 4 << 20, .fd = file.get()};
  MemoryOptions options{.hugepage_size = 2 << 20, .prefault = true};
  const auto text = [&] {
    const auto error = attempt([&] { populate(piece, options, Cancellation::never()); });
    return error ? error->code() + ": " + error->what() : "";
  };
  EXPECT_EQ(text().substr(0, 62), "ENOMEM: the host has fewer than 2 free huge pages of 2048 KiB,");
  options.host_node = 3;
  EXPECT_EQ(text().substr(0, 61), "ENOMEM: the host's NUMA node3 has fewer than 2 free huge page");
  ::munmap(host, 4 << 20);
}

/// A guest that reports free pages counts on zeros, or on what it left there (virtio 1.2
/// §5.5.6.7).
TEST(MemoryZones, DoNotReturnToWhatIsInTheFileWhenTheyAreDiscarded) {
  for (const bool shared : {true, false}) {
    const auto file = file_of(8192);
    const uint32_t before = 42;
    ASSERT_EQ(::pwrite(file->get(), &before, sizeof before, 4096), 4);
    const GuestMemory memory(
        {{.ranges = {{0, 8192}}, .options = {.shared = shared}, .file = file}});
    ASSERT_TRUE(memory.write<uint32_t>(4096, 0));
    EXPECT_EQ(memory.discard(memory.slice(0, 8192)->data(), 8192), shared ? 8192U : 0U);
    EXPECT_EQ(memory.read<uint32_t>(4096), 0U);
  }
}

TEST(MemoryZones, RefuseAFileThatIsTooShort) {
  const auto file = file_of(4096);
  const auto make = [&](uint64_t size) {
    const GuestMemory memory({{.ranges = {{0, size}}, .file = file}});
  };
  EXPECT_NO_THROW(make(4096));
  EXPECT_THROW(make(8192), Error);
}

TEST(MemoryZones, ReadAsZerosWhereTheFileHasLostWhatWasThere) {
  const auto file = file_of(8 * 4096);
  const GuestMemory memory(
      {{.ranges = {{0, 4 * 4096}, {kHigh, 4 * 4096}}, .options = {.shared = true}, .file = file}});
  ASSERT_TRUE(memory.write<uint32_t>(0, 1));
  ASSERT_TRUE(memory.write<uint32_t>(kHigh, 2));
  ASSERT_TRUE(memory.write<uint32_t>(kHigh + 2 * 4096, 3));
  ASSERT_EQ(::ftruncate(file->get(), 6 * 4096), 0);
  EXPECT_EQ(memory.read<uint32_t>(kHigh + 2 * 4096), 0U) << "and not a bus error";
  EXPECT_EQ(memory.read<uint32_t>(0), 1U);
  EXPECT_EQ(memory.read<uint32_t>(kHigh), 2U);
  EXPECT_FALSE(memory.lost_pages()[0]->any());
  EXPECT_TRUE(memory.lost_pages()[1]->any());
}

uint64_t allocated(const UniqueFd& file) {
  struct stat status {};
  EXPECT_EQ(::fstat(file.get(), &status), 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

/// What the guest writes to a file's private mapping is behind a hole in the file.
TEST(MemoryZones, KeepWhatIsInPrivateCopiesWhenTheFileLosesItsEnd) {
  // Of a file system where a copy of a hole leaves it one.
  const disk_test::TempImage file(0);
  ASSERT_EQ(::ftruncate(file.fd(), 8 * 4096), 0);
  const std::string name = "/proc/self/fd/" + std::to_string(file.fd());
  const auto opened = std::make_shared<const UniqueFd>(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
  const GuestMemory memory({{.ranges = {{0, 8 * 4096}}, .file = opened}});
  ASSERT_TRUE(memory.write<uint32_t>(0, 1));
  ASSERT_TRUE(memory.write<uint32_t>(3 * 4096, 2));
  ASSERT_EQ(::ftruncate(file.fd(), 6 * 4096), 0);
  LostPages& lost = *memory.lost_pages()[0];
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(lost.replace()) << "the hypervisor has met the end";
  EXPECT_TRUE(memory.write<uint32_t>(7 * 4096, 3));
  EXPECT_EQ(memory.read<uint32_t>(0), 1U);
  EXPECT_EQ(memory.read<uint32_t>(3 * 4096), 2U);
}

/// The hypervisor does not say what it could not reach: each of a machine's files is looked at.
TEST(MemoryZones, AreNotAllocatedBecauseAnotherLacksSomething) {
  constexpr uint64_t kLarge = 64 << 20;
  const auto file = file_of(2 * kLarge);
  const GuestMemory memory({{.id = "a",
                             .ranges = {{0, kLarge}},
                             .hotplug = MemoryRange{kHigh, kLarge},
                             .options = {.shared = true},
                             .file = file}});
  ASSERT_TRUE(memory.write<uint32_t>(4096, 1));
  uint64_t asked = 0;
  for (const auto& lost : memory.lost_pages()) {
    while (lost->replace() && asked < 100'000) ++asked;
  }
  EXPECT_LT(asked, 100'000U) << "it does not go on for ever";
  EXPECT_LT(allocated(*file), kLarge / 8);
  EXPECT_EQ(memory.read<uint32_t>(4096), 1U);
  EXPECT_FALSE(memory.lost_pages()[0]->any());
}

TEST(MemoryZones, AreOfANodeThatTheHostHas) {
  const GuestMemory memory({{.ranges = {{0, 4096}}, .options = {.host_node = 0}}});
  EXPECT_TRUE(memory.write<uint32_t>(0, 1));
  const auto make = [] {
    const GuestMemory nowhere({{.ranges = {{0, 4096}}, .options = {.host_node = 1000}}});
  };
  EXPECT_THROW(make(), Error);
}

TEST(GuestMemoryGrowth, AddsBehindWhatIsThere) {
  Told told;
  GuestMemory memory({{.ranges = {{0, kStep}}, .options = {.shared = true}}}, Cancellation::never(),
                     MemoryRange{kStep, 4 * kStep});
  memory.add_listener(told);
  const auto before = memory.regions();
  EXPECT_FALSE(memory.slice(kStep, 1));
  const MemoryRegion& added = memory.add(2 * kStep);
  EXPECT_EQ(added.address, kStep);
  EXPECT_EQ(added.size, 2 * kStep);
  EXPECT_NE(added.fd, before[0].fd);
  EXPECT_EQ(memory.regions().data(), before.data()) << "readers keep what they have";
  EXPECT_EQ(memory.regions().size(), 2U);
  EXPECT_TRUE(memory.slice(kStep - 8, 16)) << "adjacent";
  EXPECT_TRUE(memory.slice(3 * kStep - 8, 8));
  EXPECT_FALSE(memory.slice(3 * kStep - 8, 9));
  EXPECT_EQ(told.addresses, (std::vector<GuestAddress>{0, kStep}));
  EXPECT_EQ(memory.discard(memory.slice(kStep - 4096, 8192)->data(), 8192), 8192U)
      << "from two regions";
  memory.remove_listener(told);
}

TEST(GuestMemoryGrowth, IsOfHugePagesWhereTheRestIs) {
  constexpr uint64_t kHuge = 2 << 20;
  std::optional<GuestMemory> memory;
  try {
    memory.emplace(std::vector<MemoryZone>{{.ranges = {{0, 4096}}},
                                           {.ranges = {{kHuge, kHuge}},
                                            .hotplug = MemoryRange{4 * kHuge, 1 << 30},
                                            .options = {.hugepage_size = kHuge}}});
  } catch (const Error& error) {
    GTEST_SKIP() << "this machine has no huge pages set aside: " << error.what();
  }
  EXPECT_TRUE(memory->write<uint32_t>(2 * kHuge - 4, 1)) << "more is not set aside for later";
  const MemoryRegion& region = memory->regions()[1];
  EXPECT_EQ(region.page_size, kHuge);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(region.host) % kHuge, 0U);
  GuestMemory grows({{.ranges = {{0, kHuge}}, .options = {.hugepage_size = kHuge}}},
                    Cancellation::never(), MemoryRange{kHuge, 1ULL << 40});
  EXPECT_THROW(grows.add(4096), Error);
  EXPECT_THROW(grows.add(1ULL << 39), Error) << "more than there are";
  const MemoryRegion& added = grows.add(kHuge);
  EXPECT_TRUE(grows.write<uint32_t>(added.address - 2, 1)) << "in both";
  EXPECT_EQ(grows.discard(added.host, kHuge), kHuge);
}

TEST(GuestMemoryGrowth, IsRefusedWhereThereIsNoPlace) {
  GuestMemory memory({{.ranges = {{0, 4096}}}}, Cancellation::never(), MemoryRange{kHigh, 40960});
  const auto code_of = [&](uint64_t size) {
    try {
      memory.add(size);
    } catch (const Error& error) {
      return error.code();
    }
    return std::string("none");
  };
  EXPECT_EQ(code_of(0), "EINVAL");
  EXPECT_EQ(code_of(4095), "EINVAL");
  EXPECT_EQ(code_of(45056), "ENOSPC");
  EXPECT_EQ(code_of(~uint64_t{4095}), "ENOSPC");
  for (size_t i = 0; i < GuestMemory::kMaxAdditions; ++i) EXPECT_EQ(code_of(4096), "none");
  EXPECT_EQ(code_of(4096), "ENOSPC") << "with 8 KiB left, after so many additions";
  GuestMemory fixed({{0, 4096}}, {});
  EXPECT_THROW(fixed.add(4096), Error);
}

TEST(GuestMemoryGrowth, LeavesNothingBehindWhereAListenerRefuses) {
  Told first;
  Told second;
  GuestMemory memory({{.ranges = {{0, 4096}}}}, Cancellation::never(), MemoryRange{kHigh, 8192});
  memory.add_listener(first);
  memory.add_listener(second);
  second.refuses = true;
  EXPECT_THROW(memory.add(4096), Error);
  EXPECT_EQ(first.addresses, std::vector<GuestAddress>{0});
  EXPECT_EQ(memory.regions().size(), 1U);
  EXPECT_FALSE(memory.slice(kHigh, 1));
  second.refuses = false;
  EXPECT_EQ(memory.add(4096).address, kHigh);
  EXPECT_EQ(second.addresses, (std::vector<GuestAddress>{0, kHigh}));
  memory.remove_listener(second);
  memory.remove_listener(first);
}

/// Also under ThreadSanitizer: those who read take no lock.
TEST(GuestMemoryGrowth, IsSeenByReadersAsAWholeOrNotAtAll) {
  GuestMemory memory({{.ranges = {{0, kStep}}}}, Cancellation::never(),
                     MemoryRange{kStep, 8 * kStep});
  std::atomic<bool> done = false;
  std::atomic<uint64_t> torn = 0;
  std::vector<std::thread> readers;
  for (unsigned i = 0; i < 3; ++i) {
    readers.emplace_back([&, own = kStep - 64 * (i + 1)] {
      while (!done) {
        const auto regions = memory.regions();
        const MemoryRegion& last = regions.back();
        const auto end = memory.slice(last.address + last.size - 8, 8);
        const bool whole = regions.size() == 1 || (last.size == kStep && last.host != nullptr);
        // The table may be ahead of what is reached by address, never behind.
        if (!whole || (end && end->data() != last.host + last.size - 8)) ++torn;
        if (!memory.write<uint64_t>(own, 1)) ++torn;
      }
    });
  }
  for (size_t i = 0; i < GuestMemory::kMaxAdditions; ++i) memory.add(kStep);
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(torn, 0U);
  EXPECT_EQ(memory.regions().size(), 9U);
  EXPECT_TRUE(memory.slice(0, 9 * kStep));
}

}  // namespace
}  // namespace tsvmm
