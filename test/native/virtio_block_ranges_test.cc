#include <fcntl.h>

#include <chrono>
#include <thread>

#include "virtio_block_fixture.h"

/// Discards, write-zeroes, resizing, limits and what a disk that hangs does.
namespace tsvmm::virtio_test {
namespace {

constexpr uint8_t kUnmap = 1;

class BlockRangesTest : public BlockTest {
 protected:
  /// A request of segments, of which the last may be cut short.
  uint8_t ranges(uint32_t type, const std::vector<RangeSegment>& segments, uint32_t length = 0) {
    GuestAddress at = kData;
    for (const RangeSegment& segment : segments) {
      driver.put(at, segment);
      at += sizeof segment;
    }
    put_header(type, 0);
    run({{kHeader, 16},
         {kData, length == 0 ? static_cast<uint32_t>(at - kData) : length},
         {kStatus, 1, kWrite}});
    return status();
  }
  Config config() {
    Config result{};
    device->read_config(0, {reinterpret_cast<uint8_t*>(&result), kConfigSize});
    return result;
  }
  bool reads_as_zeros(uint64_t sector, size_t sectors) {
    return file.read(sector * kSectorSize, sectors * kSectorSize) ==
           std::vector<uint8_t>(sectors * kSectorSize);
  }
};

TEST_F(BlockRangesTest, TellsTheDriverTheLimits) {
  start();
  EXPECT_NE(device->features() & kFeatureDiscard, 0u);
  EXPECT_NE(device->features() & kFeatureWriteZeroes, 0u);
  EXPECT_EQ(config().max_discard_sectors, kMaxDiscardSectors);
  EXPECT_EQ(config().max_discard_seg, kMaxSegments);
  EXPECT_EQ(config().discard_sector_alignment, 8u);
  EXPECT_EQ(config().max_write_zeroes_sectors, kMaxWriteZeroesSectors);
  EXPECT_EQ(config().max_write_zeroes_seg, kMaxSegments);
  EXPECT_EQ(config().write_zeroes_may_unmap, 1);
}

TEST_F(BlockRangesTest, Discards) {
  start();
  EXPECT_EQ(ranges(kRequestDiscard, {{128, 128, 0}, {1024, 8, 0}, {40, 0, 0}}), kStatusOk);
  EXPECT_EQ(file.next_hole(0), 128 * 512);
  EXPECT_EQ(file.next_data(128 * 512), 256 * 512);
  EXPECT_EQ(file.next_hole(256 * 512), 1024 * 512);
  EXPECT_EQ(counter("discard_ops"), 1u);
  EXPECT_EQ(counter("discard_bytes"), 136u * 512);
}

TEST_F(BlockRangesTest, WritesZeroes) {
  start();
  EXPECT_EQ(ranges(kRequestWriteZeroes, {{3, 5, 0}, {100, 64, kUnmap}}), kStatusOk);
  EXPECT_TRUE(reads_as_zeros(3, 5));
  EXPECT_TRUE(reads_as_zeros(100, 64));
  EXPECT_EQ(file.read(0, 3 * 512), original(0, 3 * 512));
  EXPECT_EQ(file.read(8 * 512, 512), original(8, 512));
  EXPECT_EQ(file.read(164 * 512, 512), original(164, 512));
}

TEST_F(BlockRangesTest, AlwaysSettledWhenWritingThrough) {
  start();
  const uint8_t off = 0;
  device->write_config(kWritebackOffset, {&off, 1});
  EXPECT_EQ(ranges(kRequestWriteZeroes, {{3, 5, 0}}), kStatusOk);
  EXPECT_TRUE(reads_as_zeros(3, 5));
}

TEST_F(BlockRangesTest, FlagsThatNobodyKnows) {
  start();
  EXPECT_EQ(ranges(kRequestDiscard, {{8, 8, kUnmap}}), kStatusUnsupported);
  EXPECT_EQ(ranges(kRequestDiscard, {{8, 8, 2}}), kStatusUnsupported);
  EXPECT_EQ(ranges(kRequestWriteZeroes, {{8, 8, 2}}), kStatusUnsupported);
  EXPECT_EQ(ranges(kRequestWriteZeroes, {{8, 8, 0x80000000}}), kStatusUnsupported);
  EXPECT_EQ(file.read(0, kImageSize), file.content);
}

TEST_F(BlockRangesTest, RangesThatLeaveTheDisk) {
  start();
  for (const uint32_t type : {kRequestDiscard, kRequestWriteZeroes}) {
    for (const auto& [sector, count] :
         std::vector<std::pair<uint64_t, uint32_t>>{{kSectors, 1},
                                                    {kSectors - 1, 2},
                                                    {0, kSectors + 1},
                                                    {UINT64_MAX, 1},
                                                    {UINT64_MAX - 6, 8},
                                                    {uint64_t{1} << 55, 1},
                                                    {(uint64_t{1} << 55) + 1, 8},
                                                    {0, UINT32_MAX},
                                                    {0, kMaxDiscardSectors + 1}}) {
      EXPECT_EQ(ranges(type, {{sector, count, 0}}), kStatusIoError) << sector << ", " << count;
      // None of a request's ranges is touched if one of them is wrong.
      EXPECT_EQ(ranges(type, {{0, 8, 0}, {sector, count, 0}}), kStatusIoError);
    }
  }
  EXPECT_EQ(file.read(0, kImageSize), file.content);
}

TEST_F(BlockRangesTest, NoWholeNumberOfSegments) {
  start();
  for (const uint32_t type : {kRequestDiscard, kRequestWriteZeroes}) {
    EXPECT_EQ(ranges(type, {{8, 8, 0}}, 15), kStatusIoError);
    EXPECT_EQ(ranges(type, {{8, 8, 0}, {16, 8, 0}}, 17), kStatusIoError);
    EXPECT_EQ(request(type, 0, 0), kStatusIoError);
    EXPECT_EQ(ranges(type, std::vector<RangeSegment>(kMaxSegments + 1, {8, 8, 0})), kStatusIoError);
  }
  EXPECT_EQ(file.read(0, kImageSize), file.content);
  EXPECT_EQ(ranges(kRequestDiscard, std::vector<RangeSegment>(kMaxSegments, {8, 8, 0})), kStatusOk);
}

TEST_F(BlockRangesTest, SegmentsCutAnyhow) {
  start();
  driver.put(kData, RangeSegment{8, 8, 0});
  put_header(kRequestWriteZeroes, 0);
  run({{kHeader, 16}, {kData, 3}, {kData + 3, 9}, {kData + 12, 4}, {kStatus, 1, kWrite}});
  EXPECT_EQ(status(), kStatusOk);
  EXPECT_TRUE(reads_as_zeros(8, 8));
}

class ReadOnlyRangesTest : public BlockRangesTest {
 protected:
  ReadOnlyRangesTest() { options.read_only = true; }
};

TEST_F(ReadOnlyRangesTest, Refuses) {
  start();
  EXPECT_EQ(device->features() & (kFeatureDiscard | kFeatureWriteZeroes), 0u);
  EXPECT_EQ(ranges(kRequestDiscard, {{8, 8, 0}}), kStatusIoError);
  EXPECT_EQ(ranges(kRequestWriteZeroes, {{8, 8, 0}}), kStatusIoError);
  EXPECT_EQ(file.read(0, kImageSize), file.content);
}

class SolidRangesTest : public BlockRangesTest {
 protected:
  SolidRangesTest() { options.sparse = false; }
};

TEST_F(SolidRangesTest, OffersNothing) {
  start();
  EXPECT_EQ(device->features() & (kFeatureDiscard | kFeatureWriteZeroes), 0u);
  EXPECT_EQ(config().max_discard_sectors, 0u);
  EXPECT_EQ(config().max_write_zeroes_sectors, 0u);
  EXPECT_EQ(ranges(kRequestDiscard, {{8, 8, 0}}), kStatusUnsupported);
  EXPECT_EQ(file.read(0, kImageSize), file.content);
}

class ProtectedRangesTest : public BlockRangesTest {
 protected:
  ProtectedRangesTest() { options.protect_sector0 = true; }
};

TEST_F(ProtectedRangesTest, LeavesTheFirstSectorAlone) {
  start();
  EXPECT_EQ(ranges(kRequestDiscard, {{0, 8, 0}}), kStatusIoError);
  EXPECT_EQ(ranges(kRequestWriteZeroes, {{0, 1, 0}}), kStatusIoError);
  EXPECT_EQ(ranges(kRequestWriteZeroes, {{1, 1, 0}}), kStatusOk);
  EXPECT_EQ(file.read(0, 512), original(0, 512));
}

TEST_F(BlockRangesTest, GrowsAndShrinks) {
  start();
  EXPECT_EQ(request(kRequestIn, kSectors, 512), kStatusIoError);
  device->resize(2 * kImageSize, Deadline::never());
  EXPECT_EQ(host.config_changes, 1);
  EXPECT_EQ(config().capacity, 2 * kSectors);
  EXPECT_EQ(request(kRequestIn, 2 * kSectors - 1, 512), kStatusOk);
  device->resize(kImageSize / 2, Deadline::never());
  EXPECT_EQ(file.size(), static_cast<off_t>(kImageSize / 2));
  EXPECT_EQ(request(kRequestIn, kSectors / 2, 512), kStatusIoError);
  EXPECT_EQ(request(kRequestIn, kSectors / 2 - 1, 512), kStatusOk);
  EXPECT_THROW(device->resize(511, Deadline::never()), Error);
  EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
}

TEST_F(BlockRangesTest, ResizesWhilePaused) {
  start();
  EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
  pause(*device);
  device->resize(2 * kImageSize, Deadline::never());
  device->resume();
  EXPECT_EQ(request(kRequestIn, 2 * kSectors - 1, 512), kStatusOk);
}

/// Requests for adjacent sectors become one operation; each is answered for itself.
class AdjacentRequestsTest : public BlockTest {
 protected:
  static constexpr uint16_t kRequests = 5;

  void submit(uint32_t type) {
    for (uint16_t i = 0; i < kRequests; ++i) {
      const GuestAddress header = kHeader + 32 * i;
      driver.put(header, RequestHeader{type, 0, first + uint64_t{i} * 8});
      driver.put(kStatus + i, kUntouched);
      driver.add({{header, 16},
                  {kData + 8192 * i, 4096, static_cast<uint16_t>(type == kRequestIn ? kWrite : 0)},
                  {kStatus + i, 1, kWrite}},
                 static_cast<uint16_t>(3 * i));
    }
    doorbell.signal();
    ASSERT_TRUE(eventually([&] { return driver.used_index() == kRequests; })) << host.failure();
  }
  uint64_t first = 16;
};

TEST_F(AdjacentRequestsTest, Read) {
  start();
  submit(kRequestIn);
  for (uint16_t i = 0; i < kRequests; ++i) {
    EXPECT_EQ(driver.get<uint8_t>(kStatus + i), kStatusOk);
    EXPECT_EQ(driver.used_length(i), 4097u);
    EXPECT_EQ(guest(kData + 8192 * i, 4096), original(first + uint64_t{i} * 8, 4096));
  }
  EXPECT_EQ(counter("read_ops"), kRequests);
  EXPECT_EQ(counter("read_bytes"), 4096u * kRequests);
}

TEST_F(AdjacentRequestsTest, Write) {
  start();
  for (uint16_t i = 0; i < kRequests; ++i)
    fill(kData + 8192 * i, 4096, static_cast<uint8_t>(0x40 + i));
  submit(kRequestOut);
  for (uint16_t i = 0; i < kRequests; ++i) {
    EXPECT_EQ(driver.get<uint8_t>(kStatus + i), kStatusOk);
    EXPECT_EQ(file.read((first + uint64_t{i} * 8) * 512, 4096),
              std::vector<uint8_t>(4096, static_cast<uint8_t>(0x40 + i)));
  }
}

TEST_F(AdjacentRequestsTest, OnlyThoseThatFailByThemselvesFail) {
  start();
  // The host has cut the file off behind our back, inside the third.
  ASSERT_EQ(::ftruncate(file.fd(), static_cast<off_t>((first + 20) * 512)), 0);
  submit(kRequestIn);
  for (uint16_t i = 0; i < kRequests; ++i) {
    EXPECT_EQ(driver.get<uint8_t>(kStatus + i), i < 2 ? kStatusOk : kStatusIoError) << i;
  }
}

/// A disk whose operations end when the test says so.
class HungDisk : public DiskImage {
 public:
  class Queue : public DiskQueue {
   public:
    explicit Queue(HungDisk& disk) : disk_(disk) {}
    void start(DiskOperation& operation) noexcept override { queued_.push_back(&operation); }
    void submit() noexcept override {
      const std::lock_guard lock(disk_.mutex);
      if (disk_.refuses && !queued_.empty()) {
        ++disk_.refusals;
        // As any engine does: what is on the way tells when it is to be tried again.
        waits_ = !disk_.started.empty();
        return;
      }
      for (DiskOperation* const operation : queued_) disk_.started.push_back(operation);
      queued_.clear();
      if (disk_.answers && !disk_.started.empty()) disk_.event.signal();
    }
    DiskOperation* next_completed() noexcept override {
      const std::lock_guard lock(disk_.mutex);
      (void)disk_.event.consume();
      if (!disk_.answers || disk_.started.empty()) return nullptr;
      waits_ = false;
      DiskOperation* operation = disk_.started.back();
      disk_.started.pop_back();
      if (!disk_.started.empty()) disk_.event.signal();
      operation->error = std::exchange(disk_.fails, false) ? EIO : 0;
      return operation;
    }
    [[nodiscard]] bool needs_submit() const noexcept override {
      return !queued_.empty() && !waits_;
    }
    void wait() noexcept override {}
    [[nodiscard]] int completion_fd() const noexcept override { return disk_.event.fd(); }

   private:
    HungDisk& disk_;
    std::vector<DiskOperation*> queued_;
    bool waits_ = false;
  };

  [[nodiscard]] uint64_t size() const noexcept override { return kImageSize; }
  [[nodiscard]] DiskLimits limits() const noexcept override { return {}; }
  [[nodiscard]] std::unique_ptr<DiskQueue> make_queue(uint16_t /*depth*/) override {
    return std::make_unique<Queue>(*this);
  }
  void resize(uint64_t /*bytes*/) override {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return resizes; });
  }
  ~HungDisk() override {
    if (on_close) on_close();
  }

  void let_resize() {
    const std::lock_guard lock(mutex);
    resizes = true;
    changed.notify_all();
  }
  void answer() {
    const std::lock_guard lock(mutex);
    answers = true;
    event.signal();
  }

  std::mutex mutex;
  EventFd event;
  std::vector<DiskOperation*> started;
  std::condition_variable changed;
  bool answers = false;
  bool resizes = true;
  bool fails = false;                 ///< the next operation that ends
  std::atomic<bool> refuses = false;  ///< what is handed to the host
  std::atomic<int> refusals = 0;
  std::function<void()> on_close;
};

/// When it is known that nothing comes.
Deadline soon() { return Deadline::after(std::chrono::milliseconds(50)); }

class HungDiskTest : public BlockTest {
 protected:
  std::unique_ptr<DiskImage> image() override {
    auto made = std::make_unique<HungDisk>();
    disk = made.get();
    disk->on_close = [this] { closed = true; };
    return made;
  }
  void TearDown() override { device.reset(); }
  void start_reading() {
    start();
    put_header(kRequestIn, 0);
    driver.add({{kHeader, 16}, {kData, 512, kWrite}, {kStatus, 1, kWrite}});
    doorbell.signal();
    ASSERT_TRUE(eventually([&] {
      const std::lock_guard lock(disk->mutex);
      return disk->started.size() == 1;
    }));
  }
  HungDisk* disk = nullptr;
  std::atomic<bool> closed = false;
};

TEST_F(HungDiskTest, PauseGivesUpAndTheDeviceGoesOn) {
  start_reading();
  device->begin_pause();
  EXPECT_FALSE(device->wait_paused(soon()));
  device->resume();
  EXPECT_EQ(driver.used_index(), 0);
  disk->answer();
  EXPECT_TRUE(eventually([&] { return driver.used_index() == 1; }));
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
  pause(*device);
  device->resume();
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
}

TEST_F(HungDiskTest, ResizeGivesUpAndTheDeviceGoesOn) {
  start_reading();
  EXPECT_THROW(device->resize(kImageSize, soon()), Error);
  disk->answer();
  EXPECT_TRUE(eventually([&] { return driver.used_index() == 1; }));
}

TEST_F(HungDiskTest, ResetGoesOnAfterItsDeadline) {
  start_reading();
  EXPECT_FALSE(device->try_reset(soon()));
  EXPECT_FALSE(device->try_reset(Deadline::now()));
  // Nor can the machine be paused: the host may still write into guest memory.
  device->begin_pause();
  EXPECT_FALSE(device->wait_paused(soon()));
  device->resume();
  disk->answer();
  EXPECT_TRUE(device->try_reset(Deadline::never()));
  driver = DriverQueue(memory, kRings + 0x4000, kQueueSize);
  activate();
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
}

TEST_F(HungDiskTest, APauseThatIsTakenBackAndBegunAgainEnds) {
  start_reading();
  for (int i = 0; i < 100; ++i) {
    device->begin_pause();
    device->resume();
  }
  device->begin_pause();
  disk->answer();
  EXPECT_TRUE(device->wait_paused(Deadline::never()));
  EXPECT_EQ(driver.used_index(), 1);
  device->resume();
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
}

/// io_uring refuses what it has no memory for, and tells nobody when it has. Here those are
/// requests that are done one by one because they failed together, and nothing else is on the way.
class RefusingDiskTest : public HungDiskTest {
 protected:
  void start_two() {
    start();
    for (uint16_t i = 0; i < 2; ++i) {
      const GuestAddress header = kHeader + 32 * i;
      driver.put(header, RequestHeader{kRequestIn, 0, uint64_t{i} * 8});
      driver.add({{header, 16}, {kData + 8192 * i, 4096, kWrite}, {kStatus + i, 1, kWrite}},
                 static_cast<uint16_t>(3 * i));
    }
    doorbell.signal();
    ASSERT_TRUE(eventually([&] {
      const std::lock_guard lock(disk->mutex);
      return disk->started.size() == 1;
    }));
  }
  void refuse_for_a_while() {
    disk->fails = true;
    disk->refuses = true;
    disk->answer();
    ASSERT_TRUE(eventually([&] { return disk->refusals != 0; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(driver.used_index(), 0);
    disk->refuses = false;
  }
};

TEST_F(RefusingDiskTest, IsAskedAgain) {
  start_two();
  refuse_for_a_while();
  EXPECT_TRUE(eventually([&] { return driver.used_index() == 2; }));
  EXPECT_EQ(driver.get<uint8_t>(kStatus), kStatusOk);
}

TEST_F(RefusingDiskTest, IsAskedAgainByAQueueThatIsHeld) {
  start_two();
  device->begin_pause();
  EXPECT_FALSE(device->wait_paused(soon()));
  refuse_for_a_while();
  EXPECT_TRUE(device->wait_paused(Deadline::after(std::chrono::seconds(10))));
  EXPECT_EQ(driver.used_index(), 2);
  device->resume();
}

/// Also where it was not when it refused first.
TEST_F(RefusingDiskTest, IsAskedAgainByAQueueThatIsHeldMeanwhile) {
  start();
  disk->refuses = true;
  disk->answer();
  put_header(kRequestIn, 0);
  driver.add({{kHeader, 16}, {kData, 512, kWrite}, {kStatus, 1, kWrite}});
  doorbell.signal();
  ASSERT_TRUE(eventually([&] { return disk->refusals != 0; }));
  device->begin_pause();
  EXPECT_FALSE(device->wait_paused(soon()));
  disk->refuses = false;
  EXPECT_TRUE(device->wait_paused(Deadline::after(std::chrono::seconds(10))));
  EXPECT_EQ(driver.used_index(), 1);
  device->resume();
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
}

/// However long that lasts: nobody asks all the time.
TEST_F(RefusingDiskTest, IsAskedAgainWhenWhatIsOnTheWayHasEnded) {
  for (const bool held : {false, true}) {
    start_reading();
    disk->refuses = true;
    for (uint16_t i = 1; i <= 2; ++i) {
      const GuestAddress header = kHeader + 32 * i;
      driver.put(header, RequestHeader{kRequestIn, 0, 8 * uint64_t{i}});
      driver.add({{header, 16}, {kData + 8192 * i, 4096, kWrite}, {kStatus + i, 1, kWrite}},
                 static_cast<uint16_t>(3 * i));
    }
    doorbell.signal();
    ASSERT_TRUE(eventually([&] { return disk->refusals != 0; }));
    if (held) device->begin_pause();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_LT(disk->refusals, 10);
    EXPECT_EQ(driver.used_index(), 0);
    disk->refuses = false;
    disk->answer();
    EXPECT_TRUE(eventually([&] { return driver.used_index() == 3; }));
    if (held) {
      EXPECT_TRUE(device->wait_paused(Deadline::after(std::chrono::seconds(10))));
      device->resume();
    }
    device.reset();
    driver = DriverQueue(memory, kRings + 0x4000, kQueueSize);
  }
}

/// A disk whose size takes its time to change.
class SlowResizeTest : public HungDiskTest {};

TEST_F(SlowResizeTest, OutlivesItsDeadlineAndHoldsNobodyElse) {
  start();
  disk->resizes = false;
  EXPECT_THROW(device->resize(kImageSize / 2, soon()), Error);
  EXPECT_THROW(device->resize(kImageSize / 2, soon()), Error) << "one at a time";
  EXPECT_FALSE(device->try_reset(soon()));
  disk->answer();
  disk->let_resize();
  EXPECT_TRUE(eventually([&] { return host.config_changes == 1; }));
  EXPECT_TRUE(device->try_reset(Deadline::never()));
  device->resize(kImageSize, Deadline::never());
  EXPECT_EQ(host.config_changes, 2);
}

TEST_F(SlowResizeTest, OfAPausedMachineLeavesItPaused) {
  start();
  disk->answer();
  pause(*device);
  device->resize(kImageSize / 2, Deadline::never());
  put_header(kRequestFlush, 0);
  driver.add({{kHeader, 16}, {kStatus, 1, kWrite}});
  doorbell.signal();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(driver.used_index(), 0);
  device->resume();
  EXPECT_TRUE(eventually([&] { return driver.used_index() == 1; }));
}

TEST_F(HungDiskTest, AnImageIsClosedOnceItAnswers) {
  start_reading();
  EXPECT_FALSE(device->try_reset(soon()));
  disk->answer();
  EXPECT_TRUE(device->try_reset(Deadline::never()));
  EXPECT_TRUE(device->try_close(Deadline::never()));
  EXPECT_TRUE(closed);
}

/// What the host answers later, by an interrupt, and not at once as the page cache does.
class DirectBlockTest : public BlockTest {
 protected:
  std::unique_ptr<DiskImage> image() override {
    const std::string path = "/proc/self/fd/" + std::to_string(big.fd());
    direct.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT));
    return std::make_unique<RawImage>(direct.get(), true);
  }
  TempImage big{kImageSize, "/var/tmp"};
  UniqueFd direct;
};

TEST_F(DirectBlockTest, AnswersComeWithoutDoorbells) {
  const UniqueFd probe(
      ::open(("/proc/self/fd/" + std::to_string(big.fd())).c_str(), O_RDWR | O_CLOEXEC | O_DIRECT));
  if (!probe.valid()) GTEST_SKIP() << "no direct I/O on this file system";
  start();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(request(kRequestOut, 8, 4096), kStatusOk);
    ASSERT_EQ(request(kRequestIn, 8, 4096), kStatusOk);
    ASSERT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
  }
}

class LimitedBlockTest : public BlockTest {
 protected:
  /// Four operations at once, and then four each `refill_ms`.
  void start_with(uint64_t refill_ms) {
    options.rate_limiter = std::make_shared<RateLimiter>(RateLimiterConfig{
        .bandwidth = {},
        .operations = {.size = 4, .one_time_burst = 0, .refill_time_ms = refill_ms}});
    start();
  }
};

TEST_F(LimitedBlockTest, WaitsForTokens) {
  start_with(200);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
  // The serial number is no operation of the disk.
  EXPECT_EQ(request(kRequestGetId, 0, 20), kStatusOk);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(150));
}

TEST_F(LimitedBlockTest, GoesAwayWhileItWaits) {
  start_with(3'600'000);
  for (uint16_t i = 0; i < 5; ++i) {
    put_header(kRequestIn, 0);
    driver.add({{kHeader, 16}, {kData, 512, kWrite}, {kStatus, 1, kWrite}},
               static_cast<uint16_t>(3 * i));
  }
  doorbell.signal();
  EXPECT_TRUE(eventually([&] { return driver.used_index() == 4; }));
  pause(*device);
  device->resume();
  device->reset();
}

class PinnedBlockTest : public BlockTest {
 protected:
  PinnedBlockTest() { options.queue_cpus = {{100000}}; }
};

TEST_F(PinnedBlockTest, ACpuThatIsNotThereIsReported) {
  start();
  EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
  EXPECT_TRUE(host.notes_contain("queue 0 runs on any host CPU"));
}

TEST_F(BlockTest, TellsItsEngineOnce) {
  start();
  EXPECT_EQ(host.notes_count(), 1u);
  EXPECT_TRUE(host.last_note().starts_with("I/O by "));
  device->reset();
  driver = DriverQueue(memory, kRings + 0x4000, kQueueSize);
  activate();
  EXPECT_EQ(host.notes_count(), 1u);
}

TEST_F(BlockTest, CountsLatenciesInClasses) {
  start();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
  EXPECT_EQ(request(kRequestFlush, 0, 0), kStatusOk);
  EXPECT_EQ(counter("flush_ops"), 1u);
  uint64_t before = 0;
  for (uint64_t us = 1; us <= 1 << 20; us *= 2) {
    const uint64_t up_to = counter("read_latency_le_" + std::to_string(us));
    EXPECT_GE(up_to, before);
    EXPECT_EQ(up_to == 3, us >= counter("read_latency_max") + 1 || up_to == 3);
    before = up_to;
  }
  EXPECT_LE(before, counter("read_ops"));
  EXPECT_EQ(counter("write_latency_le_1048576"), 0u);
  EXPECT_GE(counter("read_latency_sum"), counter("read_latency_max"));
}

}  // namespace
}  // namespace tsvmm::virtio_test
