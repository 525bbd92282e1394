#include "core/error.h"
#include "virtio/queue.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {
namespace {

constexpr uint16_t kSize = 8;
constexpr GuestAddress kRings = 0x1000;
constexpr GuestAddress kData = 0x8000;
constexpr uint64_t kRam = 1 << 20;
constexpr uint64_t kAllFeatures =
    virtio_feature::kVersion1 | virtio_feature::kEventIndex | virtio_feature::kIndirectDescriptors;

class SplitQueueTest : public testing::Test {
 protected:
  SplitQueue make(uint64_t features = kAllFeatures, SplitQueueState begin = {}) {
    state = begin;
    return SplitQueue(memory, {.rings = driver.config(), .state = &state}, features);
  }
  /// The reason for which the next pop() breaks the queue.
  std::string break_reason(uint64_t features = kAllFeatures) {
    SplitQueue queue = make(features);
    DescriptorChain chain;
    EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
    EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken) << "must stay broken";
    EXPECT_FALSE(queue.enable_notifications());
    return queue.error() == nullptr ? "" : queue.error();
  }

  GuestMemory memory{{range(0, kRam)}, {}};
  DriverQueue driver{memory, kRings, kSize};
  DescriptorChain chain;
  SplitQueueState state;
};

TEST_F(SplitQueueTest, TakesAChainInOrder) {
  driver.add({{kData, 16}, {kData + 64, 100}, {kData + 512, 4, kWrite}}, 3);
  SplitQueue queue = make();
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(chain.head, 3);
  ASSERT_EQ(chain.readable.size(), 2u);
  ASSERT_EQ(chain.writable.size(), 1u);
  EXPECT_EQ(chain.readable[1].host, memory.slice(kData + 64, 100)->data());
  EXPECT_EQ(chain.readable[1].length, 100u);
  EXPECT_EQ(chain.writable[0].length, 4u);
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kEmpty);
}

TEST_F(SplitQueueTest, UndoneChainComesAgain) {
  driver.add({{kData, 16}}, 5);
  SplitQueue queue = make();
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  queue.undo_pop();
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(chain.head, 5);
}

TEST_F(SplitQueueTest, ResumesFromState) {
  driver.set_available_index(65535);
  SplitQueue queue = make(kAllFeatures, {.next_available = 65535, .next_used = 65534});
  driver.add({{kData, 16}}, 2);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  queue.push_used(2, 7);
  EXPECT_TRUE(queue.publish() || true);
  EXPECT_EQ(driver.used_index(), 65535);
  EXPECT_EQ(driver.used_id(65534), 2u);
  EXPECT_EQ(driver.used_length(65534), 7u);
  EXPECT_EQ(state.next_available, 0);
  EXPECT_EQ(state.next_used, 65535);
}

TEST_F(SplitQueueTest, UsedIndexShowsOnlyAtPublish) {
  driver.add({{kData, 16}}, 0);
  driver.add({{kData, 16}}, 1);
  SplitQueue queue = make(virtio_feature::kVersion1);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  queue.push_used(0, 0);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  queue.push_used(1, 0);
  EXPECT_EQ(driver.used_index(), 0);
  EXPECT_TRUE(queue.publish());
  EXPECT_EQ(driver.used_index(), 2);
  EXPECT_FALSE(queue.publish()) << "nothing new";
}

TEST_F(SplitQueueTest, FlagSuppressesInterruptsAndDoorbells) {
  SplitQueue queue = make(virtio_feature::kVersion1);
  driver.set_no_interrupt(true);
  queue.push_used(0, 0);
  EXPECT_FALSE(queue.publish());
  driver.set_no_interrupt(false);
  queue.push_used(1, 0);
  EXPECT_TRUE(queue.publish());
  queue.disable_notifications();
  EXPECT_EQ(driver.used_flags(), 1);
  EXPECT_FALSE(queue.enable_notifications());
  EXPECT_EQ(driver.used_flags(), 0);
}

TEST_F(SplitQueueTest, EventIndexDecidesOnInterrupts) {
  SplitQueue queue = make();
  driver.set_used_event(2);  // Interrupt when the third is used.
  queue.push_used(0, 0);
  EXPECT_FALSE(queue.publish());
  queue.push_used(1, 0);
  EXPECT_FALSE(queue.publish());
  queue.push_used(2, 0);
  EXPECT_TRUE(queue.publish());
  queue.push_used(3, 0);
  EXPECT_FALSE(queue.publish());
  driver.set_used_event(5);
  for (uint16_t i = 4; i < 8; ++i) queue.push_used(i, 0);
  EXPECT_TRUE(queue.publish()) << "the event lies inside the batch";
}

TEST_F(SplitQueueTest, EventIndexWrapsAround) {
  SplitQueue queue = make(kAllFeatures, {.next_available = 0, .next_used = 65534});
  driver.set_used_event(65535);
  queue.push_used(0, 0);
  EXPECT_FALSE(queue.publish());
  queue.push_used(1, 0);
  queue.push_used(2, 0);
  EXPECT_TRUE(queue.publish());
}

TEST_F(SplitQueueTest, EnableNotificationsTellsOfMissedChains) {
  SplitQueue queue = make();
  EXPECT_FALSE(queue.enable_notifications());
  EXPECT_EQ(driver.available_event(), 0);
  driver.add({{kData, 16}});
  EXPECT_TRUE(queue.enable_notifications());
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_FALSE(queue.enable_notifications());
  EXPECT_EQ(driver.available_event(), 1);
}

TEST_F(SplitQueueTest, DisabledNotificationsStayOffWithEventIndexesToo) {
  SplitQueue queue = make();
  const auto rings = [this](uint16_t from, uint16_t to) {  // §2.7.10
    return static_cast<uint16_t>(to - driver.available_event() - 1) <
           static_cast<uint16_t>(to - from);
  };
  EXPECT_FALSE(queue.enable_notifications());
  EXPECT_TRUE(rings(0, 1));
  queue.disable_notifications();
  for (uint16_t i = 0; i < 4; ++i) {
    EXPECT_FALSE(rings(i, i + 1));
    EXPECT_FALSE(rings(0, i + 1));
    driver.add({{kData, 16}});
  }
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  queue.disable_notifications();
  EXPECT_FALSE(rings(4, 5));
}

TEST_F(SplitQueueTest, FollowsIndirectTables) {
  const GuestAddress table = kData + 4;  // No alignment is asked of indirect tables.
  driver.descriptor_at(table, 0, kData + 256, 16, kNext, 2);
  driver.descriptor_at(table, 2, kData + 512, 32, kWrite);
  driver.descriptor(1, table, 48, kIndirect | kWrite);
  driver.make_available(1);
  SplitQueue queue = make();
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(chain.head, 1);
  EXPECT_EQ(chain.readable.size(), 1u);
  ASSERT_EQ(chain.writable.size(), 1u);
  EXPECT_EQ(chain.writable[0].length, 32u);
}

TEST_F(SplitQueueTest, IndirectTableMayEndAChain) {
  driver.descriptor_at(kData, 0, kData + 512, 32, kWrite);
  driver.descriptor(0, kData + 256, 16, kNext, 1);
  driver.descriptor(1, kData, 16, kIndirect);
  driver.make_available(0);
  SplitQueue queue = make();
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(chain.readable.size(), 1u);
  EXPECT_EQ(chain.writable.size(), 1u);
}

TEST_F(SplitQueueTest, FullIndirectTableIsAllowed) {
  for (uint16_t i = 0; i < kSize; ++i) {
    driver.descriptor_at(kData, i, kData + 512, 8, i + 1 < kSize ? kNext : 0,
                         static_cast<uint16_t>(i + 1));
  }
  driver.descriptor(0, kData, 16 * kSize, kIndirect);
  driver.make_available(0);
  SplitQueue queue = make();
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(chain.readable.size(), size_t{kSize});
}

TEST_F(SplitQueueTest, ZeroLengthBuffersAreSkippedWhereverTheyPoint) {
  driver.add({{0xffffffffffffffff, 0}, {kData, 16}, {kData, 0, kWrite}, {kData, 1, kWrite}});
  SplitQueue queue = make();
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(chain.readable.size(), 1u);
  EXPECT_EQ(chain.writable.size(), 1u);
}

TEST_F(SplitQueueTest, OverlappingBuffersAreTheGuestsBusiness) {
  driver.add({{kData, 64}, {kData + 8, 64}, {kData, 64, kWrite}});
  SplitQueue queue = make();
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
}

TEST_F(SplitQueueTest, ADistanceOfTheWholeQueueIsAllowed) {
  for (uint16_t i = 0; i < kSize; ++i) driver.add({{kData, 16}}, i);
  SplitQueue queue = make();
  for (uint16_t i = 0; i < kSize; ++i) ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kEmpty);
}

// What breaks a queue.

TEST_F(SplitQueueTest, AvailableIndexFarAhead) {
  for (const uint16_t index : {uint16_t{kSize + 1}, uint16_t{0x8000}, uint16_t{0xffff}}) {
    driver.set_available_index(index);
    EXPECT_EQ(break_reason(), "available index is more than the queue size ahead");
  }
}

TEST_F(SplitQueueTest, HeadOutOfRange) {
  driver.make_available(kSize);
  EXPECT_EQ(break_reason(), "descriptor index is out of range");
}

TEST_F(SplitQueueTest, NextOutOfRange) {
  driver.descriptor(0, kData, 16, kNext, 0xffff);
  driver.make_available(0);
  EXPECT_EQ(break_reason(), "descriptor index is out of range");
}

TEST_F(SplitQueueTest, CycleInAChain) {
  driver.descriptor(0, kData, 16, kNext, 1);
  driver.descriptor(1, kData, 16, kNext, 0);
  driver.make_available(0);
  EXPECT_EQ(break_reason(), "descriptor chain is longer than the queue");
}

TEST_F(SplitQueueTest, CycleOfEmptyBuffers) {
  driver.descriptor(0, kData, 0, kNext, 0);
  driver.make_available(0);
  EXPECT_EQ(break_reason(), "descriptor chain is longer than the queue");
}

TEST_F(SplitQueueTest, CycleInAnIndirectTable) {
  driver.descriptor_at(kData, 0, kData, 16, kNext, 0);
  driver.descriptor(0, kData, 16, kIndirect);
  driver.make_available(0);
  EXPECT_EQ(break_reason(), "descriptor chain is longer than the queue");
}

TEST_F(SplitQueueTest, BuffersOutsideMemory) {
  const DriverQueue::Buffer outside[] = {{kRam, 1},
                                         {kRam - 1, 2},
                                         {0, 0xffffffff},
                                         {0xffffffffffffffff, 1},
                                         {0xffffffffffffff00, 0x200},
                                         {1ULL << 63, 16}};
  for (const auto& buffer : outside) {
    driver = DriverQueue(memory, kRings, kSize);
    driver.add({buffer});
    EXPECT_EQ(break_reason(), "buffer is outside guest memory") << std::hex << buffer.address;
  }
}

TEST_F(SplitQueueTest, ReadableAfterWritable) {
  driver.add({{kData, 16, kWrite}, {kData, 16}});
  EXPECT_EQ(break_reason(), "readable descriptor after a writable one");
}

TEST_F(SplitQueueTest, NestedIndirect) {
  driver.descriptor_at(kData, 0, kData, 16, kIndirect);
  driver.descriptor(0, kData, 16, kIndirect);
  driver.make_available(0);
  EXPECT_EQ(break_reason(), "indirect descriptor inside an indirect table");
}

TEST_F(SplitQueueTest, IndirectWithNext) {
  driver.descriptor(0, kData, 16, kIndirect | kNext, 1);
  driver.make_available(0);
  EXPECT_EQ(break_reason(), "indirect descriptor with a next one");
}

TEST_F(SplitQueueTest, IndirectWithBadLength) {
  for (const uint32_t length : {0U, 1U, 15U, 17U, 16U * kSize + 16U, 0xfffffff0U}) {
    driver = DriverQueue(memory, kRings, kSize);
    driver.descriptor(0, kData, length, kIndirect);
    driver.make_available(0);
    EXPECT_EQ(break_reason(), "indirect table has an invalid length") << length;
  }
}

TEST_F(SplitQueueTest, IndirectTableOutsideMemory) {
  driver.descriptor(0, kRam - 16, 32, kIndirect);
  driver.make_available(0);
  EXPECT_EQ(break_reason(), "indirect table is outside guest memory");
}

TEST_F(SplitQueueTest, IndirectWithoutTheFeature) {
  driver.descriptor(0, kData, 16, kIndirect);
  driver.make_available(0);
  EXPECT_EQ(break_reason(virtio_feature::kVersion1), "indirect descriptor without the feature");
}

TEST_F(SplitQueueTest, NextOutsideTheIndirectTable) {
  driver.descriptor_at(kData, 0, kData, 16, kNext, 1);
  driver.descriptor(0, kData, 16, kIndirect);
  driver.make_available(0);
  EXPECT_EQ(break_reason(), "descriptor index is out of range");
}

// What cannot become a queue.

class SplitQueueSetup : public testing::Test {
 protected:
  void expect_refused(const std::function<void(VirtqueueConfig&)>& change) {
    VirtqueueConfig config = DriverQueue(memory, kRings, kSize).config();
    change(config);
    SplitQueueState state;
    EXPECT_THROW(SplitQueue(memory, {.rings = config, .state = &state}, kAllFeatures), Error);
  }
  /// Two regions with a hole between them.
  GuestMemory memory{{range(0, kRam), range(2 * kRam, kRam)}, {}};
};

TEST_F(SplitQueueSetup, SizeMustBeAPowerOfTwo) {
  for (const uint16_t size : {0, 3, 5, 0x8001, 0xffff}) {
    expect_refused([size](auto& config) { config.size = size; });
  }
}

TEST_F(SplitQueueSetup, RingsMustBeAligned) {
  expect_refused([](auto& config) { config.descriptor_table += 8; });
  expect_refused([](auto& config) { config.available_ring += 1; });
  expect_refused([](auto& config) { config.used_ring += 2; });
}

TEST_F(SplitQueueSetup, RingsMustLieInMemory) {
  for (const GuestAddress address :
       {GuestAddress{kRam}, GuestAddress{kRam - 16}, GuestAddress{2 * kRam - 16},
        GuestAddress{3 * kRam - 16}, GuestAddress{0xfffffffffffffff0}, GuestAddress{1} << 63}) {
    expect_refused([address](auto& config) { config.descriptor_table = address; });
    expect_refused([address](auto& config) { config.available_ring = address; });
    expect_refused([address](auto& config) { config.used_ring = address; });
  }
}

TEST_F(SplitQueueSetup, LargestSizeWorks) {
  GuestMemory large({range(0, 4 << 20)}, {});
  const DriverQueue driver(large, 0, 32768);
  SplitQueueState state;
  const SplitQueue queue(large, {.rings = driver.config(), .state = &state}, kAllFeatures);
  EXPECT_EQ(queue.size(), 32768);
}

}  // namespace
}  // namespace tsvmm::virtio_test
