#include <cstring>

#include "message_test_support.h"
#include "virtio/iommu.h"
#include "virtio/watchdog.h"
#include "virtio_loop_fixture.h"

namespace tsvmm::virtio_test {
namespace {

using virtio_iommu::RequestType;
using Status = virtio_iommu::Status;

constexpr uint16_t kRequests = 0;
constexpr uint16_t kEvents = 1;
constexpr GuestAddress kRequest = 0x100000;
constexpr GuestAddress kResponse = 0x102000;
constexpr uint8_t kUntouched = 0xee;
constexpr uint32_t kEndpoint = 0x10;
constexpr uint64_t kPage = IommuTables::kPageSize;
constexpr uint32_t kReadWrite = virtio_iommu::kMapRead | virtio_iommu::kMapWrite;

class IommuTest : public LoopDeviceTest {
 protected:
  IommuTest() { start(64); }
  ~IommuTest() override { iommu.reset(); }

  void start(unsigned bits) {
    iommu = std::make_unique<VirtioIommu>(tables, bits, "__iommu");
    activate(*iommu, {kRequests, kEvents});
  }
  /// The bytes that come back to a request; kUntouched where none did.
  std::vector<uint8_t> exchange(const std::vector<uint8_t>& request, uint32_t room) {
    for (size_t i = 0; i < request.size(); ++i) EXPECT_TRUE(memory.write(kRequest + i, request[i]));
    for (uint32_t i = 0; i < 128; ++i) EXPECT_TRUE(memory.write(kResponse + i, kUntouched));
    std::vector<DriverQueue::Buffer> buffers;
    if (!request.empty()) {
      buffers.push_back({kRequest, static_cast<uint32_t>(request.size())});
    }
    if (room != 0) buffers.push_back({kResponse, room, kWrite});
    std::vector<uint8_t> bytes(send(kRequests, buffers));
    if (!bytes.empty()) {
      EXPECT_TRUE(memory.read(kResponse, bytes));
    }
    EXPECT_EQ(memory.read<uint8_t>(kResponse + bytes.size()), kUntouched);
    return bytes;
  }
  template <typename Operands>
  static std::vector<uint8_t> request(RequestType type, const Operands& operands) {
    std::vector<uint8_t> bytes(4 + sizeof operands);
    bytes[0] = static_cast<uint8_t>(type);
    std::memcpy(bytes.data() + 4, &operands, sizeof operands);
    return bytes;
  }
  Status ask(const std::vector<uint8_t>& bytes) {
    const auto answer = exchange(bytes, 4);
    EXPECT_EQ(answer.size(), 4U);
    return static_cast<Status>(answer.at(0));
  }
  Status attach(uint32_t domain, uint32_t endpoint = kEndpoint, uint32_t flags = 0) {
    return ask(request(RequestType::kAttach, virtio_iommu::Attach{domain, endpoint, flags, 0}));
  }
  Status detach(uint32_t domain, uint32_t endpoint = kEndpoint) {
    return ask(request(RequestType::kDetach, virtio_iommu::Detach{domain, endpoint, {}}));
  }
  Status map(uint32_t domain, uint64_t first, uint64_t size, uint64_t address = 0,
             uint32_t flags = kReadWrite) {
    return ask(request(RequestType::kMap,
                       virtio_iommu::Map{domain, first, first + size - 1, address, flags}));
  }
  Status unmap(uint32_t domain, uint64_t first, uint64_t last) {
    return ask(request(RequestType::kUnmap, virtio_iommu::Unmap{domain, first, last, 0}));
  }
  /// Of a queue behind the IOMMU.
  VirtqueueSetup plain() {
    return {.rings = drivers[4].config(), .state = &state, .iommu = endpoint.get()};
  }
  virtio_iommu::Config config() {
    virtio_iommu::Config config{};
    iommu->read_config(0, std::span(reinterpret_cast<uint8_t*>(&config), sizeof config));
    return config;
  }

  std::shared_ptr<IommuTables> tables = std::make_shared<IommuTables>();
  std::shared_ptr<IommuEndpoint> endpoint = tables->add_endpoint(kEndpoint);
  std::unique_ptr<VirtioIommu> iommu;
  SplitQueueState state;
};

TEST_F(IommuTest, SaysWhatItCan) {
  EXPECT_EQ(config().page_size_mask, 0x201000U);
  EXPECT_EQ(config().input_end, UINT64_MAX);
  EXPECT_EQ(config().probe_size, 64U);
  EXPECT_EQ(config().bypass, 1);
  constexpr uint64_t kAlways = virtio_iommu::kFeatureMapUnmap | virtio_iommu::kFeatureProbe |
                               virtio_iommu::kFeatureBypassConfig;
  EXPECT_EQ(iommu->features() & 0xff, kAlways);
  iommu = std::make_unique<VirtioIommu>(tables, 39, "__iommu");
  EXPECT_EQ(iommu->features() & 0xff, kAlways | virtio_iommu::kFeatureInputRange);
  EXPECT_EQ(config().input_end, (1ULL << 39) - 1);
}

TEST_F(IommuTest, MapsAndUnmaps) {
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(map(1, 0x10000, 2 * kPage, 0x5000), Status::kOk);
  const IommuState state = tables->state();
  ASSERT_EQ(state.domains.size(), 1U);
  ASSERT_EQ(state.domains[0].mappings.size(), 1U);
  EXPECT_EQ(state.domains[0].mappings[0].first, 0x10000U);
  EXPECT_EQ(state.domains[0].mappings[0].last, 0x11fffU);
  EXPECT_EQ(state.domains[0].mappings[0].address, 0x5000U);
  EXPECT_EQ(unmap(1, 0x10000, 0x11fff), Status::kOk);
  EXPECT_EQ(tables->mappings(), 0U);
  EXPECT_EQ(detach(1), Status::kOk);
  EXPECT_TRUE(tables->state().domains.empty());
}

TEST_F(IommuTest, RefusesWhatIsNotThere) {
  EXPECT_EQ(attach(1, 99), Status::kNoEntry);
  EXPECT_EQ(detach(1, 99), Status::kNoEntry);
  EXPECT_EQ(detach(1), Status::kInvalid) << "it is in no domain";
  EXPECT_EQ(map(1, 0, kPage), Status::kNoEntry);
  EXPECT_EQ(unmap(1, 0, kPage - 1), Status::kNoEntry);
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(detach(2), Status::kInvalid);
}

TEST_F(IommuTest, RefusesMappingsThatCannotBe) {
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(map(1, 0x800, kPage), Status::kRange) << "no page";
  EXPECT_EQ(map(1, 0, 0x800), Status::kRange);
  EXPECT_EQ(map(1, 0, kPage, 0x800), Status::kRange);
  EXPECT_EQ(map(1, kPage, 0), Status::kInvalid) << "ends before it begins";
  EXPECT_EQ(map(1, 0, 2 * kPage, 0 - kPage), Status::kRange) << "leads beyond the last address";
  EXPECT_EQ(map(1, 0, kPage, 0, 4), Status::kInvalid) << "a flag that is not offered";
  EXPECT_EQ(map(1, 0xfedff000, 2 * kPage), Status::kInvalid) << "where interrupts go";
  EXPECT_EQ(map(1, kPage, kPage), Status::kOk);
  EXPECT_EQ(map(1, kPage, kPage), Status::kInvalid) << "is mapped already";
  EXPECT_EQ(map(1, 0, 4 * kPage), Status::kInvalid);
  EXPECT_EQ(map(1, 0, kPage), Status::kOk);
  EXPECT_EQ(map(1, 2 * kPage, kPage), Status::kOk);
  EXPECT_EQ(attach(2, kEndpoint, virtio_iommu::kAttachBypass), Status::kOk);
  EXPECT_EQ(map(2, 0, kPage), Status::kInvalid) << "nothing is mapped in a domain of its kind";
  EXPECT_EQ(unmap(2, 0, kPage - 1), Status::kInvalid);
}

TEST_F(IommuTest, KeepsToItsAddresses) {
  iommu.reset();
  drivers[kRequests] = DriverQueue(memory, 0x6000, kQueueSize);
  drivers[kEvents] = DriverQueue(memory, 0x7000, kQueueSize);
  start(32);
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(map(1, 0xffff'f000, kPage), Status::kOk);
  EXPECT_EQ(map(1, 0x1'0000'0000, kPage), Status::kRange);
}

TEST_F(IommuTest, AnUnmappingDoesNotCutMappings) {
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(map(1, 4 * kPage, 4 * kPage), Status::kOk);
  EXPECT_EQ(map(1, 10 * kPage, kPage), Status::kOk);
  EXPECT_EQ(unmap(1, 5 * kPage, 20 * kPage), Status::kRange);
  EXPECT_EQ(unmap(1, 0, 6 * kPage - 1), Status::kRange);
  EXPECT_EQ(unmap(1, 5, 4), Status::kInvalid);
  EXPECT_EQ(tables->mappings(), 2U);
  EXPECT_EQ(unmap(1, 0, kPage - 1), Status::kOk) << "where nothing is";
  EXPECT_EQ(unmap(1, 0, UINT64_MAX), Status::kOk);
  EXPECT_EQ(tables->mappings(), 0U);
}

TEST_F(IommuTest, RefusesMalformedRequests) {
  EXPECT_EQ(ask({}), Status::kInvalid);
  EXPECT_EQ(ask({1}), Status::kInvalid);
  EXPECT_EQ(ask({0, 0, 0, 0}), Status::kUnsupported);
  EXPECT_EQ(ask({77, 0, 0, 0}), Status::kUnsupported);
  for (uint8_t type = 1; type <= 4; ++type) {
    EXPECT_EQ(ask({type, 0, 0, 0, 1, 0, 0, 0}), Status::kInvalid) << int{type};
  }
  auto attach = request(RequestType::kAttach, virtio_iommu::Attach{1, kEndpoint, 0, 1});
  EXPECT_EQ(ask(attach), Status::kInvalid) << "reserved";
  attach = request(RequestType::kAttach, virtio_iommu::Attach{1, kEndpoint, 2, 0});
  EXPECT_EQ(ask(attach), Status::kInvalid) << "flags";
  attach = request(RequestType::kAttach, virtio_iommu::Attach{1, kEndpoint, 0, 0});
  for (uint32_t room = 0; room < 4; ++room) EXPECT_TRUE(exchange(attach, room).empty());
  EXPECT_TRUE(tables->state().domains.empty());
  EXPECT_EQ(exchange(attach, 100).size(), 4U) << "more room than needed";
  EXPECT_EQ(tables->state().domains.size(), 1U);
  EXPECT_EQ(host.failure(), "");
}

TEST_F(IommuTest, TellsWhereInterruptsGo) {
  const auto answer =
      exchange(request(RequestType::kProbe, virtio_iommu::Probe{kEndpoint, {}}), 68);
  ASSERT_EQ(answer.size(), 68U);
  EXPECT_EQ(answer[64], 0);
  const auto window = load<virtio_iommu::ReservedMemory>(answer);
  EXPECT_EQ(window.type, virtio_iommu::kPropertyReservedMemory);
  EXPECT_EQ(window.length, 20);
  EXPECT_EQ(window.subtype, virtio_iommu::kReservedForMsi);
  EXPECT_EQ(window.first, 0xfee00000U);
  EXPECT_EQ(window.last, 0xfeefffffU);
  EXPECT_EQ(load<uint32_t>(answer, sizeof window), 0U) << "the end of the list";
  const auto unknown = exchange(request(RequestType::kProbe, virtio_iommu::Probe{9, {}}), 68);
  EXPECT_EQ(unknown.at(64), static_cast<uint8_t>(Status::kNoEntry));
  EXPECT_TRUE(
      exchange(request(RequestType::kProbe, virtio_iommu::Probe{kEndpoint, {}}), 67).empty());
}

TEST_F(IommuTest, TellsTheDriverOfFaults) {
  EXPECT_EQ(attach(1), Status::kOk);
  const auto fail = [&] { EXPECT_THROW(SplitQueue(memory, plain(), 0), Error); };
  fail();
  const auto fault_at = [&](GuestAddress address) {
    std::array<uint8_t, sizeof(virtio_iommu::Fault)> bytes{};
    EXPECT_TRUE(memory.read(address, bytes));
    return load<virtio_iommu::Fault>(std::span<const uint8_t>(bytes));
  };
  drivers[kEvents].add({{kResponse, 24, kWrite}}, 0);
  drivers[kEvents].add({{kResponse + 24, 23, kWrite}}, 1);
  drivers[kEvents].add({{kResponse + 64, 100, kWrite}}, 2);
  doorbells[kEvents].signal();
  ASSERT_TRUE(used(kEvents, 2)) << "one was waiting, and one buffer is too small for any";
  EXPECT_EQ(fault_at(kResponse).endpoint, kEndpoint);
  EXPECT_EQ(fault_at(kResponse).reason, virtio_iommu::FaultReason::kMapping);
  EXPECT_EQ(fault_at(kResponse).address, drivers[4].config().descriptor_table);
  EXPECT_EQ(drivers[kEvents].used_length(0), 24U);
  EXPECT_EQ(drivers[kEvents].used_length(1), 0U);
  fail();
  ASSERT_TRUE(used(kEvents, 3));
  EXPECT_EQ(fault_at(kResponse + 64).endpoint, kEndpoint);
}

TEST_F(IommuTest, FaultsThatNobodyTakesAreBounded) {
  EXPECT_EQ(attach(1), Status::kOk);
  for (size_t i = 0; i < 2 * IommuTables::kMaxFaults; ++i) {
    EXPECT_THROW(SplitQueue(memory, plain(), 0), Error);
  }
  size_t kept = 0;
  while (tables->take_fault()) ++kept;
  EXPECT_EQ(kept, IommuTables::kMaxFaults);
  EXPECT_EQ(tables->faults(), 2 * IommuTables::kMaxFaults);
}

TEST_F(IommuTest, BypassIsTheDriversToChange) {
  const auto write = [&](uint32_t offset, std::vector<uint8_t> bytes) {
    iommu->write_config(offset, bytes);
    return config().bypass;
  };
  EXPECT_EQ(write(36, {0}), 0);
  EXPECT_EQ(write(36, {2}), 0) << "neither of the two";
  EXPECT_EQ(write(36, {1, 0}), 0);
  EXPECT_EQ(write(35, {1}), 0);
  iommu->reset();
  EXPECT_EQ(config().bypass, 0) << "a reset of the device leaves it";
  EXPECT_EQ(write(36, {1}), 1);
}

TEST_F(IommuTest, AResetEndsAllDomains) {
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(map(1, 0, kPage), Status::kOk);
  iommu->reset();
  EXPECT_TRUE(tables->state().domains.empty());
  EXPECT_TRUE(tables->state().attachments.empty());
}

TEST_F(IommuTest, AResetDoesNotWaitForADeviceThatHangs) {
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(map(1, 0, 0x100000, 0), Status::kOk);
  SplitQueue queue(memory, plain(), 0);
  drivers[4].add({{0x8000, 8}});
  DescriptorChain chain;
  ASSERT_EQ(queue.pop(chain), SplitQueue::Pop::kChain);
  const auto unmap = request(RequestType::kUnmap, virtio_iommu::Unmap{1, 0, UINT64_MAX, 0});
  for (size_t i = 0; i < unmap.size(); ++i) ASSERT_TRUE(memory.write(kRequest + i, unmap[i]));
  drivers[kRequests].add({{kRequest, static_cast<uint32_t>(unmap.size())}, {kResponse, 4, kWrite}});
  doorbells[kRequests].signal();
  EXPECT_TRUE(iommu->try_reset(Deadline::after(std::chrono::seconds(20))));
  EXPECT_EQ(tables->mappings(), 0U);
}

/// Each of them waits for a chain in flight as long as a request may.
TEST_F(IommuTest, APauseDoesNotWaitForAllRequests) {
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(map(1, 0, 0x100000, 0), Status::kOk);
  std::optional<SplitQueue> queue(std::in_place, memory, plain(), 0);
  drivers[4].add({{0x8000, 8}});
  DescriptorChain chain;
  ASSERT_EQ(queue->pop(chain), SplitQueue::Pop::kChain);
  const auto unmap = request(RequestType::kUnmap, virtio_iommu::Unmap{1, 0, UINT64_MAX, 0});
  for (size_t i = 0; i < unmap.size(); ++i) ASSERT_TRUE(memory.write(kRequest + i, unmap[i]));
  const uint16_t before = drivers[kRequests].used_index();
  for (uint16_t i = 0; i < kQueueSize / 2; ++i) {
    drivers[kRequests].add(
        {{kRequest, static_cast<uint32_t>(unmap.size())}, {kResponse, 4, kWrite}},
        static_cast<uint16_t>(2 * i));
  }
  doorbells[kRequests].signal();
  ASSERT_TRUE(eventually([this] { return tables->mappings() == 0; })) << "it has begun";
  iommu->begin_pause();
  EXPECT_TRUE(iommu->wait_paused(Deadline::never()));
  EXPECT_LT(drivers[kRequests].used_index() - before, kQueueSize / 2);
  iommu->resume();
  queue.reset();
  EXPECT_TRUE(used(kRequests, static_cast<uint16_t>(before + kQueueSize / 2))) << "it goes on";
}

TEST_F(IommuTest, AnotherOneGoesOnFromItsState) {
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(map(1, 0, 2 * kPage, 0x5000), Status::kOk);
  iommu->write_config(36, std::array<uint8_t, 1>{0});
  pause(*iommu);
  message_test::MessageBuilder written;
  iommu->save(written.writer());
  const auto other = std::make_shared<IommuTables>();
  const auto same = other->add_endpoint(kEndpoint);
  VirtioIommu second(other, 64, "__iommu");
  message_test::read_map(written.take(), [&second](Fields& fields) { second.restore(fields); });
  EXPECT_FALSE(other->bypass());
  ASSERT_EQ(other->state().domains.size(), 1U);
  EXPECT_EQ(other->state().domains[0].mappings[0].address, 0x5000U);
  EXPECT_EQ(other->state().attachments[0].endpoint, kEndpoint);
  EXPECT_EQ(other->detach(1, kEndpoint, Deadline::now()), Status::kOk);
}

TEST_F(IommuTest, CountsWhatItDoes) {
  EXPECT_EQ(attach(1), Status::kOk);
  EXPECT_EQ(map(1, 0, kPage), Status::kOk);
  EXPECT_EQ(map(1, 0, kPage), Status::kInvalid);
  const auto value = [](const std::vector<Counter>& all, std::string_view name) {
    const auto found = std::ranges::find(all, name, &Counter::name);
    return found == all.end() ? UINT64_MAX : found->value;
  };
  EXPECT_EQ(value(iommu->counters(), "requests"), 3U);
  EXPECT_EQ(value(iommu->counters(), "refused_requests"), 1U);
  EXPECT_EQ(value(iommu->status(), "mappings"), 1U);
}

/// A device on PCI, behind the IOMMU.
class IommuTransportTest : public testing::Test {
 protected:
  static constexpr GuestAddress kBar = PciBench::kWindow;
  static constexpr GuestAddress kRings = 0x10000;
  static constexpr GuestAddress kFed = 0x20000;
  static constexpr GuestAddress kShift = 1ULL << 40;
  static constexpr uint32_t kDomain = 1;

  IommuTransportTest() {
    bench.root.add(3, std::make_shared<VirtioPciFunction>(
                          VirtioPciFunction::Options{
                              .id = "_dog", .bar0 = kBar, .iommu = tables->add_endpoint(kEndpoint)},
                          std::make_shared<VirtioWatchdog>(loop, [] {}), bench.memory, bench.fabric,
                          bench.events.report()));
    EXPECT_EQ(tables->attach(kDomain, kEndpoint, 0, Deadline::now()), Status::kOk);
  }
  void start() {
    driver.negotiate(driver.device_features());
    VirtqueueConfig rings = queue.config();
    rings.descriptor_table += kShift;
    rings.available_ring += kShift;
    rings.used_ring += kShift;
    driver.set_up(0, rings);
    driver.start();
  }
  void map(GuestAddress address) {
    EXPECT_EQ(tables->map(kDomain, {.first = address + kShift,
                                    .last = address + kShift + kPage - 1,
                                    .address = address,
                                    .flags = kReadWrite}),
              Status::kOk);
  }

  EventLoop loop{"test-loop"};
  std::shared_ptr<IommuTables> tables = std::make_shared<IommuTables>();
  PciBench bench;
  PciDriver driver{bench, kBar};
  DriverQueue queue{bench.memory, kRings, 8};
};

TEST_F(IommuTransportTest, OffersTheFeatureAndIsTranslated) {
  EXPECT_NE(driver.device_features() & virtio_feature::kAccessPlatform, 0U);
  map(kRings);
  map(kFed);
  start();
  EXPECT_EQ(driver.status(), 15);
  queue.add({{kFed + kShift, 1, kWrite}});
  driver.kick(0);
  EXPECT_TRUE(eventually([&] { return queue.used_index() == 1; }));
  EXPECT_EQ(queue.get<uint8_t>(kFed), 1);
}

TEST_F(IommuTransportTest, ABadAddressIsAFailureOfTheDevice) {
  map(kRings);
  start();
  queue.add({{kFed + kShift, 1, kWrite}});
  driver.kick(0);
  EXPECT_TRUE(eventually([&] { return (driver.status() & virtio_status::kNeedsReset) != 0; }));
  EXPECT_EQ(tables->take_fault()->address, kFed + kShift);
}

TEST_F(IommuTransportTest, RingsThatAreNotMappedAreAFailureOfTheDevice) {
  start();
  EXPECT_NE(driver.status() & virtio_status::kNeedsReset, 0);
  EXPECT_EQ(tables->take_fault()->endpoint, kEndpoint);
  driver.set_status(0);
  EXPECT_EQ(driver.status(), 0);
}

TEST_F(IommuTransportTest, ADeviceThatIsUnpluggedLeavesItsDomain) {
  map(kRings);
  start();
  {
    const auto function = bench.root.remove(3);
    EXPECT_TRUE(tables->has_endpoint(kEndpoint)) << "it is still there";
  }
  EXPECT_FALSE(tables->has_endpoint(kEndpoint));
  EXPECT_TRUE(tables->state().domains.empty());
}

}  // namespace
}  // namespace tsvmm::virtio_test
