#include <random>

#include "memory_arena.h"
#include "virtio/mem/plugged_blocks.h"

namespace tsvmm::virtio_test {
namespace {

using memory_test::Arena;

constexpr uint64_t kBlock = Arena::kBlock;

TEST(PluggedBlocks, CountsRunsAsPieces) {
  PluggedBlocks blocks(16);
  blocks.mark(true, {2, 3});
  blocks.mark(true, {8, 1});
  EXPECT_EQ(blocks.pieces(), 2U);
  blocks.mark(true, {5, 1});
  blocks.mark(true, {1, 1});
  EXPECT_EQ(blocks.pieces(), 2U) << "each a longer one";
  blocks.mark(false, {3, 1});
  EXPECT_EQ(blocks.pieces(), 3U);
  blocks.mark(false, {1, 2});
  EXPECT_EQ(blocks.pieces(), 2U);
  EXPECT_TRUE(blocks.all_are(true, {4, 2}));
  EXPECT_FALSE(blocks.all_are(true, {4, 3}));
  EXPECT_TRUE(blocks.all_are(false, {0, 4}));
}

TEST(PluggedBlocks, AGapThatIsFilledIsOfOnePieceAndNotOfTheOther) {
  PluggedBlocks blocks(16);
  blocks.mark(true, {0, 2});
  blocks.mark(true, {3, 2});
  blocks.mark(true, {2, 1});
  EXPECT_EQ(blocks.pieces(), 2U);
  blocks.mark(false, {1, 3});
  EXPECT_EQ(blocks.pieces(), 2U) << "what is left of each";
  blocks.mark(false, {0, 1});
  blocks.mark(false, {4, 1});
  EXPECT_EQ(blocks.pieces(), 0U);
}

TEST(PluggedBlocks, FindsEachRun) {
  PluggedBlocks blocks(8);
  blocks.mark(true, {0, 1});
  blocks.mark(true, {5, 3});
  std::vector<size_t> found;
  const auto use = [&found](const PluggedBlocks::Range& run) {
    found.insert(found.end(), {run.first, run.count});
    return true;
  };
  EXPECT_TRUE(blocks.each_run(use));
  EXPECT_EQ(found, (std::vector<size_t>{0, 1, 5, 3}));
  EXPECT_FALSE(blocks.each_run([](const PluggedBlocks::Range&) { return false; }));
}

/// Whatever a guest plugs in and out, and writes to.
TEST(PluggedBlocks, TheHostHasNoMoreMappingsThanPieces) {
  constexpr size_t kBlocks = 64;
  const Arena arena(kBlocks);
  const auto memory = arena.blocks();
  // What is not plugged in is one mapping for each block: as long as the filler is.
  ASSERT_EQ(arena.mappings(), kBlocks);
  PluggedBlocks blocks(kBlocks);
  std::mt19937 random(4711);
  const auto below = [&random](size_t limit) { return random() % limit; };
  for (int round = 0; round < 3000; ++round) {
    const size_t first = below(kBlocks);
    const PluggedBlocks::Range range{first, 1 + below(std::min<size_t>(4, kBlocks - first))};
    const bool plugged = blocks.all_are(true, range);
    if (!plugged && !blocks.all_are(false, range)) continue;
    ASSERT_TRUE(plugged ? memory_test::unplug(*memory, range.first * kBlock, range.count * kBlock)
                        : memory->plug(range.first * kBlock, range.count * kBlock));
    blocks.mark(!plugged, range);
    if (!plugged) *arena.host(first + below(range.count)) = 1;
    const auto all = blocks.copy();
    const auto unplugged = static_cast<size_t>(std::ranges::count(all, false));
    ASSERT_LE(arena.mappings() - unplugged, blocks.pieces()) << "in round " << round;
  }
}

}  // namespace
}  // namespace tsvmm::virtio_test
