#include "memory/memory_blocks.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "core/error.h"
#include "memory/lost_pages.h"
#include "memory_arena.h"
#include "refused_mappings.h"
#include "small_file_system.h"

namespace tsvmm::memory_test {
namespace {

constexpr uint64_t kBlock = Arena::kBlock;

/// Of 2 MiB.
uint64_t free_huge_pages() {
  uint64_t pages = 0;
  std::ifstream("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") >> pages;
  return pages;
}

TEST(MemoryBlocks, BlocksThatTheGuestDoesNotHaveAreTheSameFewPages) {
  const Arena arena(8);
  const auto blocks = arena.blocks();
  EXPECT_EQ(blocks->filler_size(), kBlock);
  for (size_t i = 1; i < 8; ++i) EXPECT_TRUE(arena.same_memory(0, i));
}

/// Somebody has made the zone's file shorter: what it lost is not handed out.
TEST(MemoryBlocks, AreNotPluggedBehindTheEndOfTheirFile) {
  const Arena arena(8, {.shared = true});
  HotplugBacking backing = arena.backing();
  backing.is_named = true;
  MemoryBlocks blocks(backing, kBlock);
  ASSERT_EQ(::ftruncate(backing.piece.fd, 4 * kBlock), 0);
  EXPECT_FALSE(blocks.plug(3 * kBlock, 2 * kBlock));
  arena.fill(4, 1);
  EXPECT_TRUE(arena.is(4, 1)) << "as before";
  EXPECT_TRUE(blocks.plug(3 * kBlock, kBlock));
}

TEST(MemoryBlocks, RefusesBlocksThatDoNotFit) {
  const Arena arena(4);
  for (const uint64_t size : {uint64_t{0}, uint64_t{2048}, 3 * kBlock, 8 * kBlock}) {
    EXPECT_THROW(MemoryBlocks(arena.backing(), size), Error);
  }
  HotplugBacking unaligned = arena.backing();
  unaligned.address += 4096;
  EXPECT_THROW(MemoryBlocks(unaligned, kBlock), Error);
}

TEST(MemoryBlocks, FillerIsAThousandthOfALargeRegion) {
  const Arena arena(16 << 10);  // 32 GiB
  const auto blocks = arena.blocks();
  EXPECT_EQ(blocks->filler_size(), 32U << 20);
  EXPECT_TRUE(arena.same_memory(3, 19));
  EXPECT_TRUE(arena.same_memory(3, (16 << 10) - 13));
}

TEST(MemoryBlocks, APluggedBlockIsMemoryOfItsOwn) {
  const Arena arena(8);
  const auto blocks = arena.blocks();
  arena.fill(0, 0x55);
  ASSERT_TRUE(blocks->plug(2 * kBlock, 2 * kBlock));
  EXPECT_TRUE(arena.is(2, 0));
  arena.fill(2, 0xa1);
  arena.fill(3, 0xa2);
  EXPECT_TRUE(arena.is(1, 0x55));
  EXPECT_TRUE(arena.is(4, 0x55));
  ASSERT_TRUE(unplug(*blocks, 2 * kBlock, kBlock));
  EXPECT_TRUE(arena.same_memory(2, 1));
  EXPECT_TRUE(arena.is(3, 0xa2));
  ASSERT_TRUE(blocks->plug(2 * kBlock, kBlock));
  EXPECT_TRUE(arena.is(2, 0)) << "what was in it is gone";
}

TEST(MemoryBlocks, TheFilesPagesGoBackToTheHost) {
  const Arena arena(8, {.shared = true, .thp = false});
  const auto blocks = arena.blocks();
  arena.fill(1, 1);
  EXPECT_EQ(arena.allocated(), 0U);
  ASSERT_TRUE(blocks->plug(kBlock, 4 * kBlock));
  EXPECT_EQ(arena.allocated(), 0U);
  for (size_t i = 1; i < 5; ++i) arena.fill(i, 7);
  EXPECT_EQ(arena.allocated(), 4 * kBlock);
  ASSERT_TRUE(unplug(*blocks, 2 * kBlock, 2 * kBlock));
  EXPECT_EQ(arena.allocated(), 2 * kBlock);
  EXPECT_TRUE(arena.is(1, 7));
  EXPECT_TRUE(arena.is(4, 7));
}

TEST(MemoryBlocks, PagesAreThereBeforehandIfAskedFor) {
  for (const bool shared : {false, true}) {
    const Arena arena(4, {.shared = shared, .prefault = true, .thp = false});
    const auto blocks = arena.blocks();
    ASSERT_TRUE(blocks->plug(kBlock, kBlock));
    if (shared) {
      EXPECT_EQ(arena.allocated(), kBlock);
    } else {
      EXPECT_TRUE(arena.is_resident(1));
    }
  }
}

/// A process has only so many mappings.
TEST(MemoryBlocks, NeighboursAreOneMappingHoweverTheyCame) {
  for (const bool prefault : {false, true}) {
    const Arena arena(64, {.prefault = prefault, .thp = false});
    const auto blocks = arena.blocks();
    // What is not plugged in is one for each block: as long as the filler is.
    ASSERT_EQ(arena.mappings(), 64U);
    for (size_t i = 0; i < 32; ++i) {
      ASSERT_TRUE(blocks->plug(i * kBlock, kBlock));
      arena.fill(i, 1);
    }
    EXPECT_EQ(arena.mappings(), 1 + 32U);
  }
}

TEST(MemoryBlocks, WhatIsCalledOffChangesNothing) {
  for (const bool shared : {false, true}) {
    const Arena arena(64, {.shared = shared, .prefault = true, .thp = false});
    const auto blocks = arena.blocks();
    int looks = 0;
    EXPECT_FALSE(blocks->plug(kBlock, 63 * kBlock, [&] { return ++looks == 2; }));
    EXPECT_EQ(looks, shared ? 3 : 2) << "once more between two pieces that go back";
    for (size_t i = 1; i < 64; ++i) EXPECT_TRUE(arena.same_memory(0, i));
    if (shared) EXPECT_EQ(arena.allocated(), 0U);
  }
}

/// A process may be out of mappings in that moment; the guest must not keep what was made for it.
TEST(MemoryBlocks, WhatCannotBeTakenBackAfterAFailureIsTakenBackLater) {
  for (const bool shared : {false, true}) {
    SCOPED_TRACE(shared ? "shared" : "private");
    const Arena arena(64, {.shared = shared, .prefault = true, .thp = false});
    const auto blocks = arena.blocks();
    const RefusedMappings mappings(MAP_FIXED | MAP_SHARED | MAP_NORESERVE);
    std::thread([&] {
      mappings.begin();
      int looks = 0;
      const auto stop = [&] {
        RefusedMappings::refuses = ++looks == 2;
        return RefusedMappings::refuses.load();
      };
      EXPECT_FALSE(blocks->plug(kBlock, 63 * kBlock, stop));
      EXPECT_FALSE(blocks->is_released());
      EXPECT_FALSE(blocks->plug(0, kBlock));
      RefusedMappings::refuses = false;
      EXPECT_TRUE(blocks->plug(0, kBlock));
      EXPECT_TRUE(blocks->is_released());
    }).join();
    for (size_t i = 1; i < 64; ++i) EXPECT_TRUE(arena.same_memory(1, i)) << i;
    EXPECT_FALSE(arena.same_memory(0, 1));
    if (shared) EXPECT_EQ(arena.allocated(), kBlock);
    EXPECT_TRUE(blocks->plug(kBlock, 63 * kBlock));
  }
}

TEST(MemoryBlocks, AGuestThatIsGivenHugePagesThatAreNotThereIsRefused) {
  const uint64_t free = free_huge_pages();
  const Arena arena(free + 2, {.hugepage_size = kBlock});
  HotplugBacking backing = arena.backing();
  const UniqueFd file(::memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB));
  if (!file.valid()) GTEST_SKIP() << "the host has no huge pages of 2 MiB";
  ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(arena.size())), 0);
  backing.piece.fd = file.get();
  MemoryBlocks blocks(backing, kBlock);
  EXPECT_FALSE(blocks.plug(0, arena.size()));
  EXPECT_EQ(free_huge_pages(), free) << "those that there were are free again";
  arena.fill(0, 1);
  arena.fill(1, 2);
  EXPECT_TRUE(arena.same_memory(0, 1));
  if (free == 0) return;
  ASSERT_TRUE(blocks.plug(0, kBlock));
  EXPECT_FALSE(arena.same_memory(0, 1));
  EXPECT_EQ(free_huge_pages(), free - 1);
  ASSERT_TRUE(unplug(blocks, 0, kBlock));
  EXPECT_EQ(free_huge_pages(), free);
}

TEST(MemoryBlocks, AFilesOwnContentIsCopiedOnWrite) {
  const Arena arena(4);
  HotplugBacking backing = arena.backing();
  const UniqueFd file(::memfd_create("named", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(arena.size())), 0);
  const uint8_t content = 0x99;
  ASSERT_EQ(::pwrite(file.get(), &content, 1, 2 * kBlock), 1);
  backing.piece.fd = file.get();
  backing.piece.copy_on_write = true;
  backing.is_named = true;
  MemoryBlocks blocks(backing, kBlock);
  ASSERT_TRUE(blocks.plug(2 * kBlock, kBlock));
  EXPECT_EQ(*arena.host(2), content);
  arena.fill(2, 1);
  ASSERT_TRUE(unplug(blocks, 2 * kBlock, kBlock));
  uint8_t kept = 0;
  ASSERT_EQ(::pread(file.get(), &kept, 1, 2 * kBlock), 1);
  EXPECT_EQ(kept, content);
}

TEST(MemoryBlocks, AFullFileSystemRefusesAndHarmsNobody) {
  const disk_test::SmallFileSystem file_system("size=4m");
  REQUIRE_MOUNTED(file_system);
  const Arena arena(8);
  HotplugBacking backing = arena.backing();
  backing.options.shared = true;
  backing.is_named = true;
  const UniqueFd file = file_system.file("ram", arena.size());
  backing.piece.fd = file.get();
  MemoryBlocks blocks(backing, kBlock);
  EXPECT_TRUE(blocks.plug(0, kBlock));
  EXPECT_FALSE(blocks.plug(kBlock, 3 * kBlock));
  for (size_t i = 1; i < 8; ++i) arena.fill(i, 1);
  EXPECT_TRUE(blocks.plug(5 * kBlock, kBlock));
  EXPECT_FALSE(blocks.plug(6 * kBlock, kBlock));
  EXPECT_TRUE(unplug(blocks, 0, kBlock));
  EXPECT_TRUE(blocks.plug(6 * kBlock, kBlock));
}

/// Blocks that the guest does not have are holes in the file, and none that the hypervisor's
/// trouble with another page is to fill.
TEST(MemoryBlocks, HolesInTheFileStay) {
  const Arena arena(4, {.shared = true, .thp = false});
  const auto blocks = arena.blocks();
  {
    LostPages lost(arena.host(0), arena.size(), arena.backing().piece.fd, 0,
                   LostPages::Holes::kOneByOne);
    EXPECT_FALSE(lost.replace());
    EXPECT_EQ(arena.allocated(), 0U);
  }
  LostPages lost(arena.host(0), arena.size(), arena.backing().piece.fd, 0,
                 LostPages::Holes::kAtOnce);
  EXPECT_TRUE(lost.replace());
  EXPECT_EQ(arena.allocated(), 4096U) << "it has looked whether there is room";
}

/// Nor where the host cannot give what is asked for.
TEST(MemoryBlocks, WhoeverAccessesThemWhileThatFailsMeetsNoHole) {
  constexpr uint32_t kNoNode = 1000;
  const Arena arena(1, {.shared = true, .thp = false, .host_node = kNoNode});
  const auto blocks = arena.blocks();
  std::atomic<bool> done = false;
  std::thread guest([&] {
    while (!done) std::atomic_ref<uint8_t>(*arena.host(0)).fetch_add(1);
  });
  for (int round = 0; round < 20'000; ++round) ASSERT_FALSE(blocks->plug(0, kBlock));
  done = true;
  guest.join();
}

TEST(MemoryBlocks, WhoeverAccessesThemMeanwhileMeetsNoHole) {
  constexpr size_t kBlocks = 16;
  const Arena arena(kBlocks);
  const auto blocks = arena.blocks();
  std::atomic<bool> done = false;
  std::vector<std::thread> guests;
  for (int i = 0; i < 4; ++i) {
    guests.emplace_back([&, i] {
      for (uint64_t at = static_cast<uint64_t>(i) * 4096; !done;
           at = (at + 12289 * 64) % arena.size()) {
        std::atomic_ref<uint8_t>(*(arena.host(0) + at)).fetch_add(1);
      }
    });
  }
  for (int round = 0; round < 200; ++round) {
    const uint64_t first = static_cast<uint64_t>(round) % kBlocks;
    const uint64_t count = 1 + static_cast<uint64_t>(round) % (kBlocks - first);
    ASSERT_TRUE(blocks->plug(first * kBlock, count * kBlock));
    ASSERT_TRUE(unplug(*blocks, first * kBlock, count * kBlock));
  }
  done = true;
  for (std::thread& guest : guests) guest.join();
}

}  // namespace
}  // namespace tsvmm::memory_test
