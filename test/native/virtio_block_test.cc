#include <algorithm>
#include <atomic>
#include <cerrno>
#include <random>

#include "host_calls.h"
#include "virtio_block_fixture.h"

namespace tsvmm::virtio_test {
namespace {

TEST_F(BlockTest, Reads) {
  start();
  EXPECT_EQ(request(kRequestIn, 3, 4096), kStatusOk);
  EXPECT_EQ(used_length, 4097u);
  EXPECT_EQ(guest(kData, 4096), original(3, 4096));
  EXPECT_TRUE(eventually([&] { return interrupt.count >= 1; }));
  EXPECT_EQ(counter("read_ops"), 1u);
  EXPECT_EQ(counter("read_bytes"), 4096u);
  EXPECT_LE(counter("read_latency_min"), counter("read_latency_max"));
}

TEST_F(BlockTest, HasNoLatencyBeforeTheFirstOperation) {
  const auto latencies = [&] {
    std::vector<std::string> names;
    for (const Counter& entry : device->counters()) {
      const std::string name = entry.name;
      const bool is_histogram = name.find("_le_") != std::string::npos;
      if (name.starts_with("read_latency_") && !is_histogram) names.push_back(name);
    }
    return names;
  };
  start();
  EXPECT_EQ(latencies(), std::vector<std::string>{"read_latency_sum"});
  EXPECT_EQ(request(kRequestIn, 3, 512), kStatusOk);
  EXPECT_EQ(latencies(), (std::vector<std::string>{"read_latency_sum", "read_latency_min",
                                                   "read_latency_max", "read_latency_avg"}));
}

TEST_F(BlockTest, Writes) {
  start();
  fill(kData, 1024, 0x5a);
  EXPECT_EQ(request(kRequestOut, 2, 1024), kStatusOk);
  EXPECT_EQ(used_length, 1u);
  EXPECT_EQ(file.read(1024, 1024), std::vector<uint8_t>(1024, 0x5a));
  EXPECT_EQ(counter("write_bytes"), 1024u);
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
  EXPECT_EQ(counter("write_ops"), 1u);
}

TEST_F(BlockTest, WriteThroughWhenTheDriverCannotFlush) {
  start(kAllRingFeatures);
  uint8_t writeback = 1;
  device->read_config(kWritebackOffset, {&writeback, 1});
  EXPECT_EQ(writeback, 0);
  fill(kData, 512, 0x5b);
  EXPECT_EQ(request(kRequestOut, 0, 512), kStatusOk);
  EXPECT_EQ(file.read(0, 512), std::vector<uint8_t>(512, 0x5b));
}

/// The host fails for a while.
class FailingHost final : public disk_test::HostCalls {
 public:
  ssize_t write(int fd, const iovec* buffers, int count, off_t offset, int flags) override {
    if (writes_fail) return failed(ENOSPC);
    return HostCalls::write(fd, buffers, count, offset, flags);
  }
  int sync(int fd) override {
    if (syncs_fail) return failed(EIO);
    return HostCalls::sync(fd);
  }
  std::atomic<bool> writes_fail = false;
  std::atomic<bool> syncs_fail = false;

 private:
  static int failed(int error) {
    errno = error;
    return -1;
  }
};

TEST_F(BlockTest, ErrorsOfTheHostAreCountedAndToldOnce) {
  FailingHost failing;
  start();
  failing.writes_fail = true;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(request(kRequestOut, 2, 1024), kStatusIoError);
  failing.writes_fail = false;
  EXPECT_EQ(request(kRequestOut, 2, 1024), kStatusOk);
  EXPECT_EQ(counter("write_errors"), 3U);
  EXPECT_EQ(counter("write_ops"), 1U);
  auto warnings = host.all_warnings();
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_TRUE(warnings[0].starts_with("writing to the image failed: No space")) << warnings[0];

  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
  failing.syncs_fail = true;
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusIoError);
  failing.syncs_fail = false;
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusIoError) << "what was lost stays lost";
  // Also for the driver that comes next.
  device->reset();
  driver = DriverQueue(memory, kRings + 0x4000, kQueueSize);
  activate();
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusIoError);
  EXPECT_EQ(counter("flush_errors"), 3U);
  warnings = host.all_warnings();
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_TRUE(warnings[1].starts_with("flushing the image failed: Input/output")) << warnings[1];
}

TEST_F(BlockTest, HeaderDataAndStatusCutAnyhow) {
  start();
  put_header(kRequestIn, 1);
  EXPECT_EQ(run({{kHeader, 1},
                 {kHeader + 1, 14},
                 {kHeader + 15, 1},
                 {kData, 100, kWrite},
                 {kData + 100, 1, kWrite},
                 {kData + 101, 412, kWrite}}),
            513u);
  EXPECT_EQ(guest(kData, 512), original(1, 512));
  EXPECT_EQ(driver.get<uint8_t>(kData + 512), kStatusOk);

  put_header(kRequestOut, 7);
  fill(kData, 512, 0x33);
  driver.put(kData - 16, RequestHeader{kRequestOut, 0, 7});
  EXPECT_EQ(run({{kData - 16, 528}, {kStatus, 1, kWrite}}), 1u);
  EXPECT_EQ(status(), kStatusOk);
  EXPECT_EQ(file.read(7 * 512, 512), std::vector<uint8_t>(512, 0x33));
}

TEST_F(BlockTest, GivesItsSerialNumber) {
  start();
  fill(kData, 32, kUntouched);
  EXPECT_EQ(request(kRequestGetId, 0, 20), kStatusOk);
  EXPECT_EQ(used_length, 21u);
  std::vector<uint8_t> id(20);
  std::copy_n("serial-number", 13, id.begin());
  EXPECT_EQ(guest(kData, 20), id);
  EXPECT_EQ(driver.get<uint8_t>(kData + 20), kUntouched);
  EXPECT_EQ(request(kRequestGetId, 0, 4), kStatusOk);
  EXPECT_EQ(used_length, 5u);
}

TEST_F(BlockTest, UnknownRequestsAreUnsupported) {
  start();
  for (const uint32_t type : {2U, 3U, 5U, 12U, 14U, 0x80000000U, 0xffffffffU}) {
    EXPECT_EQ(request(type, 0, 512), kStatusUnsupported);
    EXPECT_EQ(used_length, 1u);
  }
}

TEST_F(BlockTest, SectorsPastTheEnd) {
  start();
  EXPECT_EQ(request(kRequestIn, kSectors - 1, 512), kStatusOk);
  for (const uint32_t type : {kRequestIn, kRequestOut}) {
    for (const uint64_t sector : {kSectors, kSectors + 1, uint64_t{1} << 55,
                                  (uint64_t{1} << 55) + 1, UINT64_MAX, UINT64_MAX - 1}) {
      EXPECT_EQ(request(type, sector, 512), kStatusIoError) << sector;
    }
    EXPECT_EQ(request(type, kSectors - 1, 1024), kStatusIoError);
    EXPECT_EQ(request(type, 1, kImageSize), kStatusIoError);
  }
  EXPECT_EQ(file.size(), static_cast<off_t>(kImageSize));
}

TEST_F(BlockTest, OddLengthsFail) {
  start();
  for (const uint32_t length : {1U, 511U, 513U}) {
    EXPECT_EQ(request(kRequestIn, 0, length), kStatusIoError);
  }
  EXPECT_EQ(request(kRequestIn, 0, 0), kStatusOk);
}

TEST_F(BlockTest, HugeOverlappingBuffersFailWithoutAllocation) {
  start();
  put_header(kRequestIn, 0);
  std::vector<DriverQueue::Buffer> buffers{{kHeader, 16}};
  for (int i = 0; i < 14; ++i) buffers.push_back({0x100000, 7 << 20, kWrite});
  buffers.push_back({kStatus, 1, kWrite});
  EXPECT_EQ(run(buffers), 1u);
  EXPECT_EQ(status(), kStatusIoError);
}

TEST_F(BlockTest, RandomRequestsKeepTheImageIntact) {
  start();
  std::mt19937 random(1);
  std::vector<uint8_t> expected = file.content;
  for (int i = 0; i < 500; ++i) {
    const uint32_t count = 1 + random() % 16;
    const uint64_t sector = random() % (kSectors - count);
    const auto begin = expected.begin() + static_cast<ptrdiff_t>(sector * kSectorSize);
    const uint32_t length = count * kSectorSize;
    if (random() % 2 == 0) {
      const auto value = static_cast<uint8_t>(random());
      fill(kData, length, value);
      ASSERT_EQ(request(kRequestOut, sector, length), kStatusOk);
      std::fill_n(begin, length, value);
    } else {
      ASSERT_EQ(request(kRequestIn, sector, length), kStatusOk);
      ASSERT_EQ(guest(kData, length), std::vector<uint8_t>(begin, begin + length));
    }
  }
  EXPECT_EQ(file.read(0, kImageSize), expected);
}

TEST_F(BlockTest, AFullQueueAtOnce) {
  start();
  for (uint16_t i = 0; i < kQueueSize / 4; ++i) {
    const GuestAddress header = kHeader + 32 * i;
    driver.put(header, RequestHeader{kRequestIn, 0, uint64_t{i} * 8});
    driver.add({{header, 16}, {kData + 4096 * i, 4096, kWrite}, {kStatus + i, 1, kWrite}},
               static_cast<uint16_t>(4 * i));
  }
  doorbell.signal();
  ASSERT_TRUE(eventually([&] { return driver.used_index() == kQueueSize / 4; }));
  for (uint16_t i = 0; i < kQueueSize / 4; ++i) {
    EXPECT_EQ(guest(kData + 4096 * i, 4096), original(uint64_t{i} * 8, 4096));
  }
}

TEST_F(BlockTest, ServesWhatWasAvailableBeforeActivation) {
  put_header(kRequestIn, 0);
  driver.add({{kHeader, 16}, {kData, 512, kWrite}, {kStatus, 1, kWrite}});
  start();
  EXPECT_TRUE(eventually([&] { return driver.used_index() == 1; }));
}

TEST_F(BlockTest, ConfigurationShowsTheDisk) {
  start();
  Config config{};
  device->read_config(0, {reinterpret_cast<uint8_t*>(&config), kConfigSize});
  EXPECT_EQ(config.capacity, kSectors);
  EXPECT_EQ(config.seg_max, kQueueSize - 2u);
  EXPECT_EQ(config.blk_size, 512u);
  EXPECT_EQ(config.writeback, 1);
  EXPECT_EQ(config.num_queues, 1);
  const uint8_t off = 0;
  device->write_config(kWritebackOffset, {&off, 1});
  device->read_config(0, {reinterpret_cast<uint8_t*>(&config), kConfigSize});
  EXPECT_EQ(config.writeback, 0);
}

TEST_F(BlockTest, PauseHoldsAndResumeGoesOn) {
  start();
  EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
  pause(*device);
  put_header(kRequestIn, 1);
  driver.add({{kHeader, 16}, {kData, 512, kWrite}, {kStatus, 1, kWrite}});
  doorbell.signal();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(driver.used_index(), 1);
  device->resume();
  EXPECT_TRUE(eventually([&] { return driver.used_index() == 2; }));
  EXPECT_EQ(guest(kData, 512), original(1, 512));
}

TEST_F(BlockTest, GoesAwayWhilePaused) {
  start();
  pause(*device);
  device.reset();
}

TEST_F(BlockTest, ResetWithRequestsInFlight) {
  start();
  for (int round = 0; round < 50; ++round) {
    for (uint16_t i = 0; i < 5; ++i) {
      driver.put(kHeader, RequestHeader{kRequestIn, 0, i});
      driver.add({{kHeader, 16}, {kData, 65536, kWrite}, {kStatus, 1, kWrite}},
                 static_cast<uint16_t>(3 * i));
    }
    doorbell.signal();
    device->reset();
    driver = DriverQueue(memory, kRings, kQueueSize);
    fill(kRings, 0x1000, 0);
    activate();
  }
  EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
}

class ReadOnlyBlockTest : public BlockTest {
 protected:
  ReadOnlyBlockTest() { options.read_only = true; }
};

TEST_F(ReadOnlyBlockTest, RefusesWrites) {
  start();
  EXPECT_NE(device->features() & kFeatureReadOnly, 0u);
  fill(kData, 512, 0);
  EXPECT_EQ(request(kRequestOut, 0, 512), kStatusIoError);
  EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
  EXPECT_EQ(file.read(0, kImageSize), file.content);
}

class ProtectedBlockTest : public BlockTest {
 protected:
  ProtectedBlockTest() { options.protect_sector0 = true; }
};

TEST_F(ProtectedBlockTest, RefusesWritesToTheFirstSector) {
  start();
  fill(kData, 1024, 0);
  EXPECT_EQ(request(kRequestOut, 0, 1024), kStatusIoError);
  EXPECT_EQ(request(kRequestOut, 1, 512), kStatusOk);
  EXPECT_EQ(file.read(0, 512), original(0, 512));
}

TEST_F(ProtectedBlockTest, RefusesAFooterInTheLastSector) {
  start();
  constexpr std::string_view kCookie = "conectix";
  fill(kData, 1024, 'a');
  const auto footer = memory.slice(kData + 512, 512).value();
  std::ranges::copy(kCookie, footer.begin());
  EXPECT_EQ(request(kRequestOut, kSectors - 2, 1024), kStatusIoError);
  EXPECT_EQ(file.read(kImageSize - 1024, 1024), original(kSectors - 2, 1024));
  // It is one nowhere else, nor if it is not complete.
  EXPECT_EQ(request(kRequestOut, kSectors - 3, 1024), kStatusOk);
  footer[7] = 'X';
  EXPECT_EQ(request(kRequestOut, kSectors - 2, 1024), kStatusOk);
  EXPECT_EQ(file.read(kImageSize - 1024, 1024), guest(kData, 1024));
}

TEST_F(ProtectedBlockTest, FindsAFooterHoweverItIsCutIntoBuffers) {
  start();
  fill(kData, 1024, 'a');
  const auto bytes = memory.slice(kData, 1024).value();
  std::ranges::copy(std::string_view("conectix"), bytes.begin() + 512);
  const std::vector<DriverQueue::Buffer> chain{{kHeader, 16},      {kData, 500},
                                               {kData + 500, 15},  {kData + 515, 3},
                                               {kData + 518, 506}, {kStatus, 1, kWrite}};
  put_header(kRequestOut, kSectors - 2);
  run(chain);
  EXPECT_EQ(status(), kStatusIoError);
  EXPECT_EQ(file.read(kImageSize - 1024, 1024), original(kSectors - 2, 1024));
  bytes[512] = 'C';
  put_header(kRequestOut, kSectors - 2);
  run(chain);
  EXPECT_EQ(status(), kStatusOk);
  EXPECT_EQ(file.read(kImageSize - 1024, 1024), guest(kData, 1024));
}

TEST_F(ProtectedBlockTest, IsNotMadeSmaller) {
  start();
  EXPECT_THROW(device->resize(kImageSize / 2, Deadline::never()), Error);
  device->resize(2 * kImageSize, Deadline::never());
  // The last sector is another one now.
  fill(kData, 512, 0);
  std::ranges::copy(std::string_view("conectix"), memory.slice(kData, 512).value().begin());
  EXPECT_EQ(request(kRequestOut, kSectors - 1, 512), kStatusOk);
  EXPECT_EQ(request(kRequestOut, 2 * kSectors - 1, 512), kStatusIoError);
}

class LongQueueBlockTest : public BlockTest {
 protected:
  static constexpr uint16_t kLong = 1024;
  LongQueueBlockTest() { options.queue_size = kLong; }
};

TEST_F(LongQueueBlockTest, ManyRequestsOfManyBuffersThroughIndirectTables) {
  driver = DriverQueue(memory, kRings, kLong);
  // Each of 200 requests has the same table of 1,024 buffers: more than may be on the way at a
  // time.
  const GuestAddress table = 0x200000;
  driver.put(kHeader, RequestHeader{kRequestIn, 0, 8});
  driver.descriptor_at(table, 0, kHeader, 16, kNext, 1);
  for (uint16_t i = 1; i < kLong - 1; ++i) {
    driver.descriptor_at(table, i, kData + 512 * i, 512, kWrite | kNext,
                         static_cast<uint16_t>(i + 1));
  }
  driver.descriptor_at(table, kLong - 1, kStatus, 1, kWrite);
  start();
  constexpr uint16_t kRequests = 200;
  for (uint16_t i = 0; i < kRequests; ++i) {
    driver.descriptor(i, table, 16 * kLong, kIndirect);
    driver.make_available(i);
  }
  doorbell.signal();
  ASSERT_TRUE(eventually([&] { return driver.used_index() == kRequests; })) << host.failure();
  EXPECT_EQ(status(), kStatusOk);
  EXPECT_EQ(guest(kData + 512, 4096), original(8, 4096));
  EXPECT_EQ(counter("read_ops"), kRequests);
}

TEST_F(BlockTest, ChainsThatAreNoRequest) {
  expect_failure([&] { driver.add({{kHeader, 16}}); }, "block request without a status byte");
}

TEST_F(BlockTest, ChainWithoutAHeader) {
  expect_failure(
      [&] {
        driver.add({{kStatus, 1, kWrite}});
      },
      "block request without a whole header");
}

TEST_F(BlockTest, ChainWithHalfAHeader) {
  expect_failure(
      [&] {
        driver.add({{kHeader, 15}, {kStatus, 1, kWrite}});
      },
      "block request without a whole header");
}

TEST_F(BlockTest, BrokenRingStopsTheDeviceOnly) {
  expect_failure([&] { driver.set_available_index(0x7000); },
                 "available index is more than the queue size ahead");
}

TEST_F(BlockTest, RefusesRingsOutsideMemory) {
  device = std::make_unique<VirtioBlock>(image(), options);
  device->connect(host);
  VirtqueueConfig config = driver.config();
  config.used_ring = (8 << 20) - 4;
  EXPECT_THROW(
      device->activate({memory, kAllRingFeatures, {{0, config, &doorbell, &interrupt, &state}}}),
      Error);
  device->reset();
  activate();
  EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
}

TEST_F(BlockTest, RefusesBadOptions) {
  auto bad = options;
  bad.queue_size = 100;
  EXPECT_THROW(VirtioBlock(image(), bad), Error);
  bad = options;
  bad.serial = std::string(21, 'x');
  EXPECT_THROW(VirtioBlock(image(), bad), Error);
  bad = options;
  bad.num_queues = 0;
  EXPECT_THROW(VirtioBlock(image(), bad), Error);
}

TEST(MultiQueueBlock, EachQueueHasItsThread) {
  TempImage file(kImageSize);
  PciBench bench;
  constexpr GuestAddress kBar = PciBench::kWindow;
  VirtioBlock::Options options;
  options.id = "_disk3";
  options.num_queues = 2;
  options.queue_size = 8;
  bench.add(1, "_disk3",
            std::make_shared<VirtioBlock>(std::make_unique<RawImage>(file.fd(), false), options),
            kBar, false);
  PciDriver driver(bench, kBar);
  EXPECT_NE(driver.device_features() & kFeatureMultiQueue, 0u);
  driver.negotiate(driver.device_features());
  DriverQueue queues[] = {{bench.memory, 0x1000, 8}, {bench.memory, 0x2000, 8}};
  driver.set_up(0, queues[0].config());
  driver.set_up(1, queues[1].config());
  driver.start();
  ASSERT_EQ(driver.status(), 15);
  for (uint16_t i = 0; i < 2; ++i) {
    queues[i].put(kHeader, RequestHeader{kRequestIn, 0, 0});
    queues[i].add({{kHeader, 16}, {kData, 512, kWrite}, {kStatus, 1, kWrite}});
    driver.kick(i);
    EXPECT_TRUE(eventually([&] { return queues[i].used_index() == 1; }));
  }
  queues[1].set_available_index(999);
  driver.kick(1);
  EXPECT_TRUE(eventually([&] { return driver.status() == (64 | 15); }));
  driver.set_status(0);
  EXPECT_EQ(driver.status(), 0);
}

}  // namespace
}  // namespace tsvmm::virtio_test
