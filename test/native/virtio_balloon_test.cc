#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "virtio/balloon.h"
#include "virtio_loop_fixture.h"

namespace tsvmm::virtio_test {
namespace {

constexpr uint64_t kPage = BalloonPages::kPageSize;
constexpr GuestAddress kData = 0x100000;   // page numbers, statistics
constexpr GuestAddress kPages = 0x400000;  // what goes into the balloon
constexpr uint64_t kStatistics = 1 << 1;
constexpr uint64_t kDeflateOnOom = 1 << 2;
constexpr uint64_t kPoison = 1 << 4;
constexpr uint64_t kReporting = 1 << 5;

class BalloonTest : public LoopDeviceTest {
 protected:
  static constexpr uint16_t kQueues = 5;

  void put_pages(const std::vector<uint32_t>& pages) {
    for (size_t i = 0; i < pages.size(); ++i) {
      ASSERT_TRUE(memory.write<uint32_t>(kData + 4 * i, pages[i]));
    }
  }
  /// Page numbers as a driver sends them.
  void send_pages(uint16_t queue, const std::vector<uint32_t>& pages) {
    put_pages(pages);
    send(queue, {{kData, static_cast<uint32_t>(4 * pages.size())}});
  }
  void fill(GuestAddress address, uint64_t length, uint8_t value = 0xa5) {
    const auto bytes = memory.slice(address, length).value();
    std::ranges::fill(bytes, value);
  }
  bool is(GuestAddress address, uint64_t length, uint8_t value) {
    const auto bytes = memory.slice(address, length).value();
    return std::ranges::all_of(bytes, [value](uint8_t byte) { return byte == value; });
  }
  static std::map<std::string, uint64_t> counters(const VirtioBalloon& balloon) {
    std::map<std::string, uint64_t> all;
    for (const Counter& counter : balloon.counters()) all[counter.name] = counter.value;
    return all;
  }
};

TEST_F(BalloonTest, OffersWhatItWasConfiguredFor) {
  const VirtioBalloon plain(loop, {});
  EXPECT_EQ(plain.features() & (kStatistics | kDeflateOnOom | kPoison | kReporting), kStatistics);
  EXPECT_EQ(plain.queue_sizes().size(), 3U);
  const VirtioBalloon full(loop, {.deflate_on_oom = true, .free_page_reporting = true});
  EXPECT_EQ(full.features() & (kStatistics | kDeflateOnOom | kPoison | kReporting),
            kStatistics | kDeflateOnOom | kPoison | kReporting);
  EXPECT_EQ(full.queue_sizes(), (std::vector<uint16_t>{128, 128, 128, 32, 32}));
}

TEST_F(BalloonTest, TellsItsTargetAndHearsTheActualSize) {
  VirtioBalloon balloon(loop, {.size = 16 << 20});
  balloon.connect(host);
  std::array<uint8_t, 16> config{};
  balloon.read_config(0, config);
  EXPECT_EQ(load<uint32_t>(config, 0), 4096U);
  EXPECT_EQ(load<uint32_t>(config, 4), 0U);
  balloon.resize(8 << 20);
  balloon.resize(8 << 20);
  EXPECT_EQ(host.config_changes, 1);
  balloon.read_config(0, config);
  EXPECT_EQ(load<uint32_t>(config, 0), 2048U);
  std::array<uint8_t, 4> actual{};
  store<uint32_t>(std::span<uint8_t>(actual), 300);
  balloon.write_config(4, actual);
  EXPECT_EQ(balloon.actual_size(), 300 * kPage);
  // Anything else of the structure, and odd widths, change nothing.
  balloon.write_config(0, actual);
  balloon.write_config(5, std::span(actual).first(2));
  balloon.write_config(4, std::span(actual).first(1));
  balloon.read_config(0, config);
  EXPECT_EQ(load<uint32_t>(config, 0), 2048U);
  EXPECT_EQ(load<uint32_t>(config, 4), 300U);
  balloon.resize(UINT64_MAX);
  balloon.read_config(0, config);
  EXPECT_EQ(load<uint32_t>(config, 0), UINT32_MAX);
}

TEST_F(BalloonTest, InflatedPagesGoBackToTheHost) {
  VirtioBalloon balloon(loop, {});
  activate(balloon, {0, 1});
  fill(kPages, 16 * kPage);
  const auto first = static_cast<uint32_t>(kPages / kPage);
  // Neighbours out of order, one twice, one alone.
  send_pages(0, {first + 3, first + 1, first + 2, first + 1, first + 7});
  EXPECT_TRUE(is(kPages, kPage, 0xa5));
  EXPECT_TRUE(is(kPages + kPage, 3 * kPage, 0));
  EXPECT_TRUE(is(kPages + 4 * kPage, 3 * kPage, 0xa5));
  EXPECT_TRUE(is(kPages + 7 * kPage, kPage, 0));
  EXPECT_TRUE(is(kPages + 8 * kPage, 8 * kPage, 0xa5));
  EXPECT_EQ(counters(balloon)["inflated_bytes"], 5 * kPage);
  send_pages(1, {first + 3, first + 7});
  EXPECT_EQ(counters(balloon)["deflated_bytes"], 2 * kPage);
  EXPECT_EQ(host.failure(), "");
}

TEST_F(BalloonTest, PagesOutsideMemoryAreIgnored) {
  VirtioBalloon balloon(loop, {});
  activate(balloon, {0, 1});
  fill(kPages, 2 * kPage);
  const auto last = static_cast<uint32_t>(kMemorySize / kPage - 1);
  fill(kMemorySize - kPage, kPage);
  send_pages(0, {UINT32_MAX, UINT32_MAX - 1, last + 1, last + 2, 0x100000, last,
                 static_cast<uint32_t>(kPages / kPage)});
  EXPECT_TRUE(is(kPages, kPage, 0));
  EXPECT_TRUE(is(kPages + kPage, kPage, 0xa5));
  EXPECT_TRUE(is(kMemorySize - kPage, kPage, 0));
  send_pages(1, {UINT32_MAX, last + 1, 0x80000000});
  EXPECT_EQ(host.failure(), "");
}

TEST_F(BalloonTest, BuffersOfOddLengthsAreTakenForWhatIsWhole) {
  VirtioBalloon balloon(loop, {});
  activate(balloon, {0, 1});
  fill(kPages, 4 * kPage);
  const auto first = static_cast<uint32_t>(kPages / kPage);
  put_pages({first, first + 1, first + 2});
  send(0, {{kData, 7}});                     // one number and three bytes of the next
  send(0, {{kData + 4, 3}});                 // not even one
  send(0, {{kData, 64, kWrite}});            // none that the device may read
  send(0, {{kData + 8, 4}, {kData, 4, 2}});  // the second is the device's to write
  EXPECT_TRUE(is(kPages, kPage, 0));
  EXPECT_TRUE(is(kPages + kPage, kPage, 0xa5));
  EXPECT_TRUE(is(kPages + 2 * kPage, kPage, 0));
  EXPECT_EQ(host.failure(), "");
}

TEST_F(BalloonTest, BuffersLongerThanDriversMakeThemAreSkipped) {
  VirtioBalloon balloon(loop, {});
  activate(balloon, {0, 1});
  fill(kPages, 400 * kPage);
  std::vector<uint32_t> pages(400);
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<uint32_t>(kPages / kPage + i);
  put_pages(pages);
  send(0, {{kData, 1028}, {kData, 4}});
  EXPECT_TRUE(is(kPages, kPage, 0));
  EXPECT_TRUE(is(kPages + kPage, 399 * kPage, 0xa5));
  send(0, {{kData, 1024}});
  EXPECT_TRUE(is(kPages, 256 * kPage, 0));
  EXPECT_TRUE(is(kPages + 256 * kPage, 144 * kPage, 0xa5));
}

TEST_F(BalloonTest, SharedMemoryIsPunchedOutOfItsFile) {
  GuestMemory shared({range(0, kMemorySize)}, {.shared = true});
  const auto bytes = shared.slice(kPages, 4 * kPage).value();
  std::ranges::fill(bytes, uint8_t{1});
  struct stat before {};
  ASSERT_EQ(::fstat(shared.regions()[0].fd, &before), 0);
  BalloonPages pages(shared);
  std::vector<uint32_t> numbers{kPages / kPage, kPages / kPage + 1};
  EXPECT_EQ(pages.inflate(numbers), 2 * kPage);
  struct stat after {};
  ASSERT_EQ(::fstat(shared.regions()[0].fd, &after), 0);
  EXPECT_EQ(before.st_blocks - after.st_blocks, 2 * static_cast<int64_t>(kPage) / 512);
  EXPECT_EQ(bytes[0], 0);
  EXPECT_EQ(bytes[2 * kPage], 1);
}

TEST_F(BalloonTest, RunsEndWhereRegionsDo) {
  GuestMemory two({range(0, 4 * kPage), range(4 * kPage, 4 * kPage)}, {});
  for (GuestAddress at = 0; at < 8 * kPage; at += kPage) ASSERT_TRUE(two.write<uint32_t>(at, 7));
  BalloonPages pages(two);
  std::vector<uint32_t> numbers{5, 2, 3, 4, 8, 9};
  EXPECT_EQ(pages.inflate(numbers), 4 * kPage);
  for (uint32_t page = 0; page < 8; ++page) {
    EXPECT_EQ(two.read<uint32_t>(page * kPage), page >= 2 && page <= 5 ? 0U : 7U) << page;
  }
}

TEST_F(BalloonTest, ReportedRangesGoBackToTheHost) {
  VirtioBalloon balloon(loop, {.free_page_reporting = true});
  // Linux, with statistics, numbers the reporting queue 3; the specification says 4.
  for (const uint16_t queue : {3, 4}) {
    activate(balloon, {0, 1, 2, 3, 4}, kStatistics | kReporting);
    fill(kPages, 8 * kPage);
    send(queue, {{kPages + kPage, 2 * kPage, kWrite}, {kPages + 4 * kPage, kPage, kWrite}});
    EXPECT_TRUE(is(kPages, kPage, 0xa5));
    EXPECT_TRUE(is(kPages + kPage, 2 * kPage, 0));
    EXPECT_TRUE(is(kPages + 4 * kPage, kPage, 0));
    EXPECT_TRUE(is(kPages + 5 * kPage, 3 * kPage, 0xa5));
    balloon.reset();
    for (int i = 0; i < kQueues; ++i) {
      drivers[i] = DriverQueue(memory, 0x10000 + 0x1000 * (i + 1), kQueueSize);
    }
  }
  EXPECT_EQ(counters(balloon)["reported_bytes"], 6 * kPage);
}

TEST_F(BalloonTest, WithoutStatisticsTheReportingQueueIsTheThird) {
  VirtioBalloon balloon(loop, {.free_page_reporting = true});
  activate(balloon, {0, 1, 2}, kReporting);
  fill(kPages, kPage);
  send(2, {{kPages, kPage, kWrite}});
  EXPECT_TRUE(is(kPages, kPage, 0));
}

TEST_F(BalloonTest, OnlyWholePagesOfAReportGo) {
  VirtioBalloon balloon(loop, {.free_page_reporting = true});
  activate(balloon, {2}, kReporting);
  fill(kPages, 4 * kPage);
  send(2, {{kPages + 100, 2 * kPage, kWrite}, {kPages + 3 * kPage, 100, kWrite}});
  EXPECT_TRUE(is(kPages, kPage, 0xa5));
  EXPECT_TRUE(is(kPages + kPage, kPage, 0));
  EXPECT_TRUE(is(kPages + 2 * kPage, 2 * kPage, 0xa5));
  // What is only readable is no report.
  send(2, {{kPages, kPage}});
  EXPECT_TRUE(is(kPages, kPage, 0xa5));
}

TEST_F(BalloonTest, ReportedPagesKeepTheGuestsPoison) {
  VirtioBalloon balloon(loop, {.free_page_reporting = true});
  activate(balloon, {2}, kReporting | kPoison);
  std::array<uint8_t, 4> poison{};
  store<uint32_t>(std::span<uint8_t>(poison), 0xaaaaaaaa);
  balloon.write_config(12, poison);
  fill(kPages, kPage, 0xaa);
  send(2, {{kPages, kPage, kWrite}});
  EXPECT_TRUE(is(kPages, kPage, 0xaa));
  balloon.write_config(12, std::array<uint8_t, 4>{});
  send(2, {{kPages, kPage, kWrite}});
  EXPECT_TRUE(is(kPages, kPage, 0));
}

class BalloonStatisticsTest : public BalloonTest {
 protected:
  void put_statistics(const std::vector<std::pair<uint16_t, uint64_t>>& entries) {
    for (size_t i = 0; i < entries.size(); ++i) {
      ASSERT_TRUE(memory.write(kData + 10 * i, entries[i].first));
      ASSERT_TRUE(memory.write(kData + 10 * i + 2, entries[i].second));
    }
  }
};

TEST_F(BalloonStatisticsTest, AreCountersAndNewerOnRequest) {
  VirtioBalloon balloon(loop, {});
  put_statistics({{4, 111}, {5, 222}, {6, 333}, {999, 1}});
  drivers[2].add({{kData, 40}});
  const auto begin = std::chrono::steady_clock::now();
  activate(balloon, {0, 1, 2}, kStatistics);
  ASSERT_TRUE(eventually([&] { return counters(balloon).contains("free_bytes"); }));
  auto seen = counters(balloon);
  EXPECT_EQ(seen["free_bytes"], 111U);
  EXPECT_EQ(seen["total_bytes"], 222U);
  EXPECT_EQ(seen["available_bytes"], 333U);
  const bool returned = drivers[2].used_index() != 0;
  const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - begin);
  EXPECT_LE(seen["statistics_age_ms"], static_cast<uint64_t>(age.count()));
  EXPECT_FALSE(returned && age < std::chrono::seconds(1))
      << "fresh values: nobody bothers the guest";
  // A second later, the buffer goes back when somebody asks.
  ASSERT_TRUE(eventually([&] {
    (void)counters(balloon);
    return drivers[2].used_index() == 1;
  }));
  put_statistics({{4, 99}});
  drivers[2].add({{kData, 10}});
  doorbells[2].signal();
  EXPECT_TRUE(eventually([&] { return counters(balloon)["free_bytes"] == 99; }));
  EXPECT_EQ(counters(balloon)["total_bytes"], 222U);
}

TEST_F(BalloonStatisticsTest, OfAnyShapeAreRead) {
  BalloonStatistics statistics;
  std::vector<uint8_t> bytes(10 * 3 + 7);
  store<uint16_t>(std::span(bytes), 0xffff, 0);
  store<uint16_t>(std::span(bytes), 15, 10);
  store<uint64_t>(std::span(bytes), UINT64_MAX, 12);
  store<uint16_t>(std::span(bytes), 16, 20);
  store<uint16_t>(std::span(bytes), 3, 30);
  statistics.record(bytes, 5'000'000);
  std::vector<Counter> counters;
  statistics.append_to(counters, 7'000'000);
  ASSERT_EQ(counters.size(), 2U);
  EXPECT_EQ(counters[0].value, 2U);
  EXPECT_STREQ(counters[1].name, "reclaimed_by_allocations");
  EXPECT_EQ(counters[1].value, UINT64_MAX);
}

TEST_F(BalloonStatisticsTest, AGuestThatFloodsTheQueueIsHeardOnce) {
  VirtioBalloon balloon(loop, {});
  put_statistics({{4, 1}});
  activate(balloon, {0, 1, 2}, kStatistics);
  for (uint16_t i = 0; i < kQueueSize; ++i) drivers[2].add({{kData, 10}}, i);
  for (int i = 0; i < 1000; ++i) doorbells[2].signal();
  settle();
  EXPECT_EQ(drivers[2].used_index(), 0);
  EXPECT_EQ(host.failure(), "");
}

TEST_F(BalloonStatisticsTest, CountersMayBeReadWhileTheDeviceIsReset) {
  VirtioBalloon balloon(loop, {});
  std::atomic<bool> done = false;
  std::thread reader([&] {
    while (!done) (void)counters(balloon);
  });
  for (int i = 0; i < 200; ++i) {
    activate(balloon, {0, 1, 2}, kStatistics);
    balloon.reset();
  }
  done = true;
  reader.join();
  EXPECT_EQ(host.failure(), "");
}

TEST_F(BalloonTest, BrokenRingsFailTheDeviceAndAResetHealsIt) {
  for (const uint16_t queue : {0, 1, 2, 3}) {
    VirtioBalloon balloon(loop, {.free_page_reporting = true});
    RecordingTransport own;
    activate(balloon, {0, 1, 2, 3}, kStatistics | kReporting);
    balloon.connect(own);
    host.failures.clear();
    drivers[queue].set_available_index(1000);
    doorbells[queue].signal();
    EXPECT_TRUE(eventually([&] { return !host.failure().empty() || !own.failure().empty(); }))
        << queue;
    balloon.reset();
    EXPECT_EQ(balloon.actual_size(), 0U);
    drivers[queue] = DriverQueue(memory, drivers[queue].config().descriptor_table, kQueueSize);
    fill(drivers[queue].config().descriptor_table, kPage, 0);
  }
}

TEST_F(BalloonTest, AFloodOfRequestsLeavesTheLoopToOthers) {
  VirtioBalloon balloon(loop, {});
  activate(balloon, {0, 1});
  put_pages({UINT32_MAX});
  expect_turns_beside_a_flood(0, {kData, 4});
}

TEST(HugePageTally, IsCompleteOnceEveryPartIsInside) {
  HugePageTally tally(1024, 512);
  for (uint64_t page = 512; page < 1023; ++page) ASSERT_FALSE(tally.add(page));
  EXPECT_FALSE(tally.add(600)) << "named twice";
  tally.remove(600);
  tally.remove(600);
  EXPECT_FALSE(tally.add(1023)) << "one is still the guest's";
  EXPECT_EQ(tally.add(600), 1U);
  EXPECT_FALSE(tally.add(600));
  tally.remove(1023);
  EXPECT_EQ(tally.add(1023), 1U);
}

TEST(BalloonHugePages, GoBackAsAWhole) {
  constexpr uint64_t kHuge = 2 << 20;
  std::unique_ptr<GuestMemory> memory;
  try {
    memory = std::make_unique<GuestMemory>(std::vector{range(0, 2 * kHuge)},
                                           MemoryOptions{.hugepage_size = kHuge});
  } catch (const Error& error) {
    GTEST_SKIP() << "this machine has no huge pages set aside: " << error.what();
  }
  const auto bytes = memory->slice(0, 2 * kHuge).value();
  std::ranges::fill(bytes, uint8_t{7});
  BalloonPages pages(*memory);
  std::vector<uint32_t> numbers(256);
  for (uint32_t i = 0; i < numbers.size(); ++i) numbers[i] = 512 + i;
  EXPECT_EQ(pages.inflate(numbers), 0U);
  EXPECT_EQ(bytes[kHuge], 7) << "a part must not go: it would be cleared";
  for (uint32_t i = 0; i < numbers.size(); ++i) numbers[i] = 768 + i;
  EXPECT_EQ(pages.inflate(numbers), kHuge);
  EXPECT_EQ(bytes[0], 7);
  EXPECT_EQ(bytes[kHuge], 0);
}

}  // namespace
}  // namespace tsvmm::virtio_test
