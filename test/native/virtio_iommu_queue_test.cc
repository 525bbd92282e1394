#include <optional>
#include <random>
#include <thread>

#include "core/error.h"
#include "virtio/iommu/queue.h"
#include "virtio/iommu/tables.h"
#include "virtio/queue.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {
namespace {

using Status = virtio_iommu::Status;

constexpr uint64_t kPage = IommuTables::kPageSize;
constexpr uint16_t kSize = 8;
constexpr uint32_t kEndpoint = 0x18;
constexpr uint32_t kDomain = 7;
constexpr uint32_t kBoth = virtio_iommu::kMapRead | virtio_iommu::kMapWrite;
/// Where the device finds what is at 0: no guest physical address.
constexpr GuestAddress kShift = 1ULL << 40;
constexpr uint64_t kRam = 0x200000;
constexpr GuestAddress kRings = 0x1000;
constexpr GuestAddress kData = 0x10000;
constexpr std::chrono::milliseconds kShort{20};

VirtqueueConfig shifted(VirtqueueConfig config) {
  config.descriptor_table += kShift;
  config.available_ring += kShift;
  config.used_ring += kShift;
  return config;
}

class IommuQueueTest : public testing::Test {
 protected:
  IommuQueueTest() {
    EXPECT_EQ(tables->attach(kDomain, kEndpoint, 0, Deadline::now()), Status::kOk);
    map(kRings, 2 * kPage, kBoth);
  }
  void map(GuestAddress address, uint64_t size, uint32_t flags) {
    EXPECT_EQ(tables->map(kDomain, {.first = address + kShift,
                                    .last = address + kShift + size - 1,
                                    .address = address,
                                    .flags = flags}),
              Status::kOk);
  }
  /// A page.
  void map_to(GuestAddress address, GuestAddress target) {
    EXPECT_EQ(tables->map(kDomain, {.first = address + kShift,
                                    .last = address + kShift + kPage - 1,
                                    .address = target,
                                    .flags = kBoth}),
              Status::kOk);
  }
  Status unmap(GuestAddress address, uint64_t size, Deadline deadline = Deadline::now()) {
    return tables->unmap(kDomain, address + kShift, address + kShift + size - 1, deadline);
  }
  SplitQueue make() { return SplitQueue(memory, setup(driver), kAllRingFeatures); }
  /// Of a queue that begins.
  VirtqueueSetup setup(const DriverQueue& of) {
    state = {};
    return {.rings = shifted(of.config()), .state = &state, .iommu = endpoint.get()};
  }
  /// A chain of one buffer.
  void offer(GuestAddress address, uint32_t length, uint16_t flags = 0, uint16_t head = 0) {
    driver.add({{address + kShift, length, flags}}, head);
  }
  const uint8_t* host(GuestAddress address) { return memory.slice(address, 1)->data(); }
  void expect_fault(virtio_iommu::FaultReason reason, uint32_t flags, GuestAddress address) {
    const auto fault = tables->take_fault();
    ASSERT_TRUE(fault);
    EXPECT_EQ(fault->reason, reason);
    EXPECT_EQ(fault->flags, flags | virtio_iommu::kFaultAddress);
    EXPECT_EQ(fault->endpoint, kEndpoint);
    EXPECT_EQ(fault->address, address);
    EXPECT_FALSE(tables->take_fault());
  }

  GuestMemory memory{{range(0, kRam)}, {}};
  std::shared_ptr<IommuTables> tables = std::make_shared<IommuTables>();
  std::shared_ptr<IommuEndpoint> endpoint = tables->add_endpoint(kEndpoint);
  DriverQueue driver{memory, kRings, kSize};
  SplitQueueState state;
  DescriptorChain chain;
};

TEST_F(IommuQueueTest, TranslatesRingsAndBuffers) {
  map(kData, kPage, kBoth);
  SplitQueue queue = make();
  offer(kData + 100, 50, kWrite);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  ASSERT_EQ(chain.writable.size(), 1U);
  EXPECT_EQ(chain.writable[0].host, host(kData + 100));
  EXPECT_EQ(chain.writable[0].length, 50U);
  queue.push_used(0, 50);
  EXPECT_TRUE(queue.publish());
  EXPECT_EQ(driver.used_index(), 1);
  EXPECT_EQ(driver.used_length(0), 50U);
}

TEST_F(IommuQueueTest, ABufferAcrossTwoMappingsIsTwo) {
  map_to(kData, kData + kPage);
  map_to(kData + kPage, kData);
  SplitQueue queue = make();
  const GuestAddress boundary = kShift + kData + kPage;
  driver.add({{boundary - 16, 32}, {boundary - 1, 3, kWrite}});
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  ASSERT_EQ(chain.readable.size(), 2U);
  EXPECT_EQ(chain.readable[0].host, host(kData + 2 * kPage - 16));
  EXPECT_EQ(chain.readable[0].length, 16U);
  EXPECT_EQ(chain.readable[1].host, host(kData));
  EXPECT_EQ(chain.readable[1].length, 16U);
  ASSERT_EQ(chain.writable.size(), 2U);
  EXPECT_EQ(chain.writable[1].length, 2U);
}

TEST_F(IommuQueueTest, MappingsThatLeadToOnePlaceAreOneBuffer) {
  for (uint64_t at = 0; at < 4; ++at) map(kData + at * kPage, kPage, kBoth);
  SplitQueue queue = make();
  offer(kData + 1, 4 * kPage - 2);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  ASSERT_EQ(chain.readable.size(), 1U);
  EXPECT_EQ(chain.readable[0].length, 4 * kPage - 2);
}

/// Each ring crosses pages at one of these offsets, and the pages lie in reverse order.
TEST_F(IommuQueueTest, RingsMayLieInSeveralPlaces) {
  constexpr uint16_t kEntries = 256;
  constexpr uint64_t kPages = 4;
  constexpr GuestAddress kArea = 0x40000;
  for (uint64_t page = 0; page < kPages; ++page) {
    map_to(kArea + page * kPage, kArea + (kPages - 1 - page) * kPage);
  }
  map(kData, kPage, kBoth);
  for (const uint64_t skew : {0x800, 0xe80}) {
    const auto at = [](GuestAddress offset) {
      return kArea + (kPages - 1 - offset / kPage) * kPage + offset % kPage;
    };
    const auto put = [&](GuestAddress offset, auto value) {
      ASSERT_TRUE(memory.write(at(offset), value));
    };
    const GuestAddress available = skew + 16 * kEntries;
    const GuestAddress used = (available + 6 + 2 * kEntries + 3) & ~GuestAddress{3};
    std::ranges::fill(memory.slice(kArea, kPages * kPage).value(), uint8_t{0});
    state = {};
    const VirtqueueSetup scattered{.rings = {.size = kEntries,
                                             .descriptor_table = kShift + kArea + skew,
                                             .available_ring = kShift + kArea + available,
                                             .used_ring = kShift + kArea + used},
                                   .state = &state,
                                   .iommu = endpoint.get()};
    SplitQueue queue(memory, scattered, kAllRingFeatures);
    for (uint16_t turn = 0; turn < 600; ++turn) {
      const auto head = static_cast<uint16_t>(turn % kEntries);
      put(skew + 16 * head, kData + kShift + head);
      put(skew + 16 * head + 8, 1U);
      put(available + 4 + 2 * head, head);
      put(available + 2, static_cast<uint16_t>(turn + 1));
      ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain) << turn << ": " << queue.error();
      ASSERT_EQ(chain.head, head);
      ASSERT_EQ(chain.readable[0].host, host(kData + head));
      queue.push_used(head, turn);
      (void)queue.publish();
      ASSERT_EQ(memory.read<uint16_t>(at(used + 2)), turn + 1);
      ASSERT_EQ(memory.read<uint32_t>(at(used + 4 + 8 * head)), head);
      ASSERT_EQ(memory.read<uint32_t>(at(used + 8 + 8 * head)), turn);
      EXPECT_FALSE(queue.enable_notifications());
      ASSERT_EQ(memory.read<uint16_t>(at(used + 4 + 8 * kEntries)), turn + 1);
    }
  }
}

TEST_F(IommuQueueTest, AnIndirectTableMayLieInTwoPlaces) {
  constexpr GuestAddress kTables = 0x40000;
  map_to(kTables, kTables + kPage);
  map_to(kTables + kPage, kTables);
  map(kData, kPage, kBoth);
  const GuestAddress table = kPage - 24;  // cuts its second entry
  const auto put = [&](GuestAddress offset, auto value) {
    std::array<uint8_t, sizeof value> bytes{};
    store(std::span<uint8_t>(bytes), value);
    for (uint64_t i = 0; i < bytes.size(); ++i) {
      const GuestAddress place = table + offset + i;
      ASSERT_TRUE(
          memory.write(kTables + (place < kPage ? kPage + place : place - kPage), bytes[i]));
    }
  };
  for (uint16_t i = 0; i < 3; ++i) {
    put(16 * i, kData + kShift + 8 * i);
    put(16 * i + 8, 8U);
    put(16 * i + 12, static_cast<uint16_t>(i == 2 ? 0 : kNext));
    put(16 * i + 14, static_cast<uint16_t>(i + 1));
  }
  SplitQueue queue = make();
  driver.add({{kTables + table + kShift, 48, kIndirect}});
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain) << queue.error();
  ASSERT_EQ(chain.readable.size(), 3U);
  EXPECT_EQ(chain.readable[2].host, host(kData + 16));
}

TEST_F(IommuQueueTest, WhatIsNotMappedBreaksTheQueueAndIsAFault) {
  map(kData, kPage, kBoth);
  SplitQueue queue = make();
  offer(kData + kPage - 4, 8);
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
  EXPECT_STREQ(queue.error(), "buffer is not mapped by the IOMMU, or not for that");
  expect_fault(virtio_iommu::FaultReason::kMapping, virtio_iommu::kFaultRead,
               kData + kShift + kPage - 4);
  EXPECT_EQ(unmap(kData, kPage), Status::kOk) << "a chain that is not taken uses nothing";
}

TEST_F(IommuQueueTest, AMappingIsForWhatItWasMadeFor) {
  map(kData, kPage, virtio_iommu::kMapRead);
  map(kData + kPage, kPage, virtio_iommu::kMapWrite);
  map(kData + 2 * kPage, kPage, 0);
  const auto refused = [&](GuestAddress address, uint16_t flags) {
    DriverQueue fresh(memory, kRings, kSize);
    fresh.set_available_index(0);
    SplitQueue queue(memory, setup(fresh), kAllRingFeatures);
    fresh.add({{address + kShift, 8, flags}});
    return queue.pop(chain) == SplitQueue::Pop::kBroken;
  };
  EXPECT_FALSE(refused(kData, 0));
  EXPECT_TRUE(refused(kData, kWrite));
  expect_fault(virtio_iommu::FaultReason::kMapping, virtio_iommu::kFaultWrite, kData + kShift);
  EXPECT_TRUE(refused(kData + kPage, 0));
  EXPECT_FALSE(refused(kData + kPage, kWrite));
  EXPECT_TRUE(refused(kData + 2 * kPage, 0));
}

TEST_F(IommuQueueTest, AMappingMayLeadToNothing) {
  map(kRam, kPage, kBoth);
  SplitQueue queue = make();
  offer(kRam, 8);
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
}

TEST_F(IommuQueueTest, AddressesDoNotWrap) {
  EXPECT_EQ(
      tables->map(kDomain, {.first = 0 - kPage, .last = UINT64_MAX, .address = 0, .flags = 3}),
      Status::kOk);
  EXPECT_EQ(tables->map(kDomain, {.first = 0, .last = kPage - 1, .address = 0, .flags = 3}),
            Status::kOk);
  SplitQueue queue = make();
  driver.add({{0ULL - 16, 16}});
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  driver.add({{0ULL - 16, 17}}, 1);
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
}

TEST_F(IommuQueueTest, RingsThatAreNotMappedAreRefused) {
  EXPECT_EQ(unmap(kRings, 2 * kPage), Status::kOk);
  EXPECT_THROW(make(), Error);
  map(kRings, 2 * kPage, virtio_iommu::kMapRead);
  EXPECT_THROW(make(), Error) << "the used ring is written";
}

TEST_F(IommuQueueTest, AnUnmappingWaitsForChainsInFlight) {
  map(kData, kPage, kBoth);
  map(kData + kPage, kPage, kBoth);
  SplitQueue queue = make();
  offer(kData, 8, kWrite);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(unmap(kData + kPage, kPage), Status::kOk) << "which nobody uses";
  EXPECT_EQ(unmap(kData, kPage, Deadline::after(kShort)), Status::kDeviceError);
  EXPECT_EQ(tables->state().domains[0].mappings.size(), 2U) << "it is still there";
  std::atomic<bool> returned = false;
  std::thread device([&] {
    std::this_thread::sleep_for(kShort);
    returned = true;
    queue.push_used(0, 8);
  });
  EXPECT_EQ(unmap(kData, kPage, Deadline::never()), Status::kOk);
  EXPECT_TRUE(returned);
  device.join();
}

TEST_F(IommuQueueTest, AChainThatIsGivenBackIsTakenAgain) {
  map(kData, kPage, kBoth);
  SplitQueue queue = make();
  offer(kData, 8);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  queue.undo_pop();
  EXPECT_EQ(unmap(kData, kPage), Status::kDeviceError) << "the device may take it as it was";
  queue.redo_pop(1);
  queue.undo_pop();
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  queue.push_used(0, 0);
  EXPECT_EQ(unmap(kData, kPage), Status::kOk);
}

TEST_F(IommuQueueTest, TheEndOfAQueueEndsAllUse) {
  map(kData, kPage, kBoth);
  {
    SplitQueue queue = make();
    offer(kData, 8);
    ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
    EXPECT_EQ(unmap(kData, kPage), Status::kDeviceError);
  }
  EXPECT_EQ(unmap(kData, kPage), Status::kOk);
}

TEST_F(IommuQueueTest, AHeadThatTheDeviceHasIsNotTakenAgain) {
  map(kData, kPage, kBoth);
  SplitQueue queue = make();
  offer(kData, 8);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  driver.make_available(0);
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
  EXPECT_STREQ(queue.error(), "descriptor chain is available while the device has it");
  queue.push_used(0, 0);
  EXPECT_EQ(unmap(kData, kPage), Status::kOk);
}

TEST_F(IommuQueueTest, RingsThatAreUnmappedAreUsedNoMore) {
  map(kData, kPage, kBoth);
  SplitQueue queue = make();
  offer(kData, 8, kWrite);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(unmap(kRings, 2 * kPage), Status::kOk) << "nobody is waited for";
  const uint16_t flags = driver.used_flags();
  const uint16_t event = driver.available_event();
  queue.push_used(0, 8);
  EXPECT_FALSE(queue.publish());
  queue.disable_notifications();
  EXPECT_TRUE(queue.has_available());
  EXPECT_TRUE(queue.enable_notifications()) << "so that somebody looks";
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
  EXPECT_STREQ(queue.error(), "the IOMMU does not lead to the rings any more");
  EXPECT_EQ(driver.used_index(), 0);
  EXPECT_EQ(driver.used_flags(), flags);
  EXPECT_EQ(driver.available_event(), event);
  EXPECT_EQ(unmap(kData, kPage), Status::kOk) << "the chain was returned all the same";
}

TEST_F(IommuQueueTest, AnEndpointThatMovesLeavesItsQueuesBehind) {
  map(kData, kPage, kBoth);
  SplitQueue queue = make();
  offer(kData, 8);
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(tables->attach(kDomain + 1, kEndpoint, 0, Deadline::after(kShort)),
            Status::kDeviceError)
      << "its chain is in flight";
  queue.push_used(0, 0);
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
  EXPECT_EQ(tables->attach(kDomain + 1, kEndpoint, 0, Deadline::now()), Status::kOk);
  EXPECT_EQ(tables->mappings(), 0U) << "a domain goes with its last endpoint";
}

TEST_F(IommuQueueTest, AQueueThatBeginsWhileItsEndpointMovesIsLeftBehindAsWell) {
  map(kData, kPage, kBoth);
  std::optional<SplitQueue> first;
  first.emplace(memory, setup(driver), kAllRingFeatures);
  offer(kData, 8);
  ASSERT_EQ(first->pop(chain), SplitQueue::Pop::kChain);
  Status status = Status::kDeviceError;
  std::thread mover([&] {
    status = tables->attach(kDomain + 1, kEndpoint, 0, Deadline::after(std::chrono::seconds(60)));
  });
  // It waits for the chain as soon as the rings are taken away.
  while (!first->has_available()) std::this_thread::yield();
  SplitQueue second = make();
  first.reset();
  mover.join();
  EXPECT_EQ(status, Status::kOk);
  EXPECT_EQ(second.pop(chain), SplitQueue::Pop::kBroken);
  EXPECT_FALSE(tables->take_fault()) << "it found the chain in rings of the domain that was left";
}

TEST_F(IommuQueueTest, OutsideOfDomainsAddressesAreTheGuestsOrNone) {
  EXPECT_EQ(tables->detach(kDomain, kEndpoint, Deadline::now()), Status::kOk);
  const VirtqueueSetup plain{.rings = driver.config(), .state = &state, .iommu = endpoint.get()};
  {
    SplitQueue queue(memory, plain, kAllRingFeatures);
    driver.add({{kData, 8}});
    ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
    EXPECT_EQ(chain.readable[0].host, host(kData));
    queue.push_used(0, 0);
    EXPECT_TRUE(tables->set_bypass(false, Deadline::now()));
    EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
  }
  EXPECT_THROW(SplitQueue(memory, plain, kAllRingFeatures), Error);
  expect_fault(virtio_iommu::FaultReason::kDomain, virtio_iommu::kFaultRead, kRings);
  EXPECT_EQ(tables->attach(9, kEndpoint, virtio_iommu::kAttachBypass, Deadline::now()),
            Status::kOk);
  driver.set_available_index(0);
  state = {};
  SplitQueue queue(memory, plain, kAllRingFeatures);
  driver.add({{kData, 8}});
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
}

/// A thread that the host keeps in the middle of its rings: who takes them away gives up in time,
/// and nothing has changed but that they are of no use any more.
TEST_F(IommuQueueTest, NobodyWaitsWithoutEndForRingsInUse) {
  map(kData, kPage, kBoth);
  const auto in_use = [&](GuestAddress rings, bool in_domain) {
    auto queue = IommuQueue::make(*endpoint, memory, kSize);
    if (in_domain) EXPECT_TRUE(queue->ring(rings, kPage, false));
    EXPECT_TRUE(queue->enter());
    return queue;
  };
  {
    const auto queue = in_use(kRings + kShift, true);
    EXPECT_EQ(unmap(kRings, 2 * kPage, Deadline::after(kShort)), Status::kDeviceError);
    EXPECT_EQ(tables->mappings(), 2U);
    queue->leave();
    EXPECT_FALSE(queue->enter());
    EXPECT_EQ(unmap(kData, kPage), Status::kOk);
    EXPECT_EQ(unmap(kRings, 2 * kPage), Status::kOk);
  }
  {
    const auto queue = in_use(0, false);
    EXPECT_EQ(tables->detach(kDomain, kEndpoint, Deadline::after(kShort)), Status::kDeviceError);
    EXPECT_EQ(tables->state().attachments.size(), 1U);
    queue->leave();
    EXPECT_EQ(tables->detach(kDomain, kEndpoint, Deadline::now()), Status::kOk);
  }
  const auto queue = in_use(0, false);
  EXPECT_FALSE(tables->set_bypass(false, Deadline::after(kShort)));
  EXPECT_FALSE(tables->bypass());
  EXPECT_FALSE(tables->set_bypass(false, Deadline::after(kShort))) << "nor has it ended by now";
  queue->leave();
  EXPECT_TRUE(tables->set_bypass(false, Deadline::now()));
}

TEST_F(IommuQueueTest, AResetOfTheIommuTakesRingsAway) {
  SplitQueue queue = make();
  tables->clear();
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
  EXPECT_TRUE(tables->state().domains.empty());
}

TEST_F(IommuQueueTest, ADeviceThatGoesIsDetached) {
  endpoint.reset();
  EXPECT_FALSE(tables->has_endpoint(kEndpoint));
  EXPECT_TRUE(tables->state().attachments.empty());
  endpoint = tables->add_endpoint(kEndpoint);
  EXPECT_THROW((void)tables->add_endpoint(kEndpoint), Error);
  EXPECT_TRUE(tables->has_endpoint(kEndpoint));
}

TEST_F(IommuQueueTest, GoesOnFromItsState) {
  map(kData, kPage, kBoth);
  EXPECT_TRUE(tables->set_bypass(false, Deadline::now()));
  const IommuState state = tables->state();
  tables = std::make_shared<IommuTables>(state);
  endpoint = tables->add_endpoint(kEndpoint);
  EXPECT_FALSE(tables->bypass());
  EXPECT_EQ(tables->mappings(), 2U);
  SplitQueue queue = make();
  offer(kData, 8);
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  IommuState nonsense = state;
  nonsense.domains[0].mappings.push_back(nonsense.domains[0].mappings[0]);
  EXPECT_THROW(IommuTables{nonsense}, Error);
  nonsense = state;
  nonsense.attachments.push_back({1, 99});
  EXPECT_THROW(IommuTables{nonsense}, Error);
}

TEST_F(IommuQueueTest, MappingsAreBounded) {
  const auto at = [](uint64_t n) {
    return IommuMapping{
        .first = n * 2 * kPage, .last = n * 2 * kPage + kPage - 1, .address = 0, .flags = kBoth};
  };
  constexpr size_t kMax = 3000;  // more than are removed at once
  tables = std::make_shared<IommuTables>(IommuState{}, kMax);
  endpoint = tables->add_endpoint(kEndpoint);
  EXPECT_EQ(tables->attach(kDomain, kEndpoint, 0, Deadline::now()), Status::kOk);
  for (uint64_t n = 0; n < kMax; ++n) ASSERT_EQ(tables->map(kDomain, at(n)), Status::kOk);
  EXPECT_EQ(tables->map(kDomain, at(kMax)), Status::kNoMemory);
  EXPECT_EQ(tables->unmap(kDomain, 0, UINT64_MAX, Deadline::now()), Status::kOk);
  EXPECT_EQ(tables->mappings(), 0U);
}

TEST_F(IommuQueueTest, AChainUsesNoMoreThanABoundedNumberOfMappings) {
  constexpr uint64_t kPages = 8192;
  for (uint64_t page = 0; page < kPages; ++page) {
    ASSERT_EQ(tables->map(kDomain, {.first = kShift * 2 + page * kPage,
                                    .last = kShift * 2 + (page + 1) * kPage - 1,
                                    .address = kData,
                                    .flags = kBoth}),
              Status::kOk);
  }
  SplitQueue queue = make();
  driver.add({{kShift * 2, static_cast<uint32_t>(512 * kPage)}});
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  EXPECT_EQ(chain.readable.size(), 512U);
  driver.add({{kShift * 2, static_cast<uint32_t>(kPages * kPage)}}, 1);
  EXPECT_EQ(queue.pop(chain), SplitQueue::Pop::kBroken);
}

/// Devices that write into what is mapped while others take it away: where an unmapping has ended,
/// nobody writes any more.
TEST_F(IommuQueueTest, NothingIsWrittenThroughWhatIsUnmapped) {
  constexpr int kDevices = 3;
  constexpr int kRounds = 40;
  constexpr GuestAddress kArea = 0x100000;
  constexpr uint32_t kShare = kPage / 4;  // of each device
  std::atomic<bool> done = false;
  std::atomic<uint64_t> writes = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kDevices; ++i) {
    threads.emplace_back([&, i] {
      const auto own = tables->add_endpoint(static_cast<uint32_t>(i));
      DriverQueue ring(memory, 0x4000 + static_cast<uint64_t>(i) * kPage, kSize);
      while (!done) {
        // A domain of its own, or the one that is being changed.
        (void)tables->map(kDomain, {.first = kShift + 0x4000 + static_cast<uint64_t>(i) * kPage,
                                    .last = kShift + 0x4fff + static_cast<uint64_t>(i) * kPage,
                                    .address = 0x4000 + static_cast<uint64_t>(i) * kPage,
                                    .flags = kBoth});
        {
          const auto state = tables->state();
          if (std::ranges::find(state.attachments, static_cast<uint32_t>(i),
                                &IommuState::Attachment::endpoint) == state.attachments.end()) {
            std::this_thread::yield();
            continue;
          }
        }
        ring.set_available_index(0);
        try {
          SplitQueueState own_state;
          const VirtqueueSetup own_setup{
              .rings = shifted(ring.config()), .state = &own_state, .iommu = own.get()};
          SplitQueue queue(memory, own_setup, kAllRingFeatures);
          for (uint16_t head = 0;; head = static_cast<uint16_t>((head + 1) % kSize)) {
            ring.add({{kArea + kShift + static_cast<uint64_t>(i) * kShare, kShare, kWrite}}, head);
            DescriptorChain taken;
            if (queue.pop(taken) != SplitQueue::Pop::kChain) break;
            std::memset(taken.writable[0].host, 0xd0, taken.writable[0].length);
            ++writes;
            queue.push_used(taken.head, kShare);
            (void)queue.publish();
          }
        } catch (const Error&) {
          // Its rings were taken away just then.
        }
      }
    });
  }
  std::mt19937 random(1);
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kDevices; ++i) {
      (void)tables->attach(kDomain, static_cast<uint32_t>(i), 0, Deadline::never());
    }
    map(kArea, kPage, kBoth);
    for (int i = 0; i < 20; ++i) std::this_thread::yield();
    if (random() % 4 == 0) {
      (void)tables->detach(kDomain, random() % kDevices, Deadline::never());
    }
    ASSERT_EQ(unmap(kArea, kPage, Deadline::never()), Status::kOk);
    const auto page = memory.slice(kArea, kPage).value();
    std::ranges::fill(page, uint8_t{0x11});
    for (int i = 0; i < 20; ++i) std::this_thread::yield();
    ASSERT_TRUE(std::ranges::all_of(page, [](uint8_t byte) { return byte == 0x11; })) << round;
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(writes, 0U);
}

}  // namespace
}  // namespace tsvmm::virtio_test
