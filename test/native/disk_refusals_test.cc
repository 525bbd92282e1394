#include <fcntl.h>

#include <chrono>
#include <functional>

#include "disk/qcow2/image.h"
#include "disk/vhdx/image.h"
#include "disk_refusing_host.h"
#include "image_test_support.h"
#include "virtio_block_fixture.h"

/// Whatever the host refuses of what a disk hands on, each request of the guest's is answered.
namespace tsvmm::virtio_test {
namespace {

using disk_test::Bytes;
using disk_test::Refusal;
using disk_test::RefusingContainer;
using disk_test::RefusingHost;
using disk_test::RefusingImage;

constexpr uint64_t kSize = 4 << 20;
constexpr uint64_t kUnit = 1 << 20;
constexpr uint64_t kCluster = 4096;
constexpr uint32_t kLarge = 80 * kCluster;
constexpr uint64_t kIslands = 24;
constexpr uint8_t kFirstIsland = 0x20;

struct Case {
  const char* name;
  const char* create;  ///< by qemu-img; nullptr for a raw image
  bool has_backing = false;
};

class DiskRefusals : public BlockTest, public testing::WithParamInterface<Case> {
 protected:
  void SetUp() override { REQUIRE_QEMU_IMG(); }
  void TearDown() override { device.reset(); }

  std::unique_ptr<DiskImage> image() override {
    UniqueFd fd = open(path, O_RDWR);
    if (GetParam().create == nullptr) {
      return std::make_unique<RefusingImage>(*refusing, raw(fd.get()));
    }
    auto container = std::make_unique<RefusingContainer>(*refusing, fd.get());
    if (std::string_view(GetParam().name) == "Vhdx") {
      return std::make_unique<vhdx::Image>(std::move(container), false);
    }
    std::unique_ptr<DiskImage> backing;
    if (GetParam().has_backing) {
      backing = std::make_unique<RefusingImage>(*refusing, raw(open(base, O_RDONLY).get()));
    }
    return std::make_unique<qcow2::Image>(std::move(container), std::move(backing),
                                          qcow2::ImageSettings{});
  }
  static UniqueFd open(const std::string& file, int flags) {
    return UniqueFd(check_errno(::open(file.c_str(), flags | O_CLOEXEC), file.c_str()));
  }
  static std::unique_ptr<DiskImage> raw(int fd) {
    return std::make_unique<RawImage>(fd, false, DiskEngines{.io_uring = false});
  }
  void create() {
    disk_test::write_file(base, disk_test::random_bytes(kSize, 1));
    if (GetParam().create == nullptr) {
      disk_test::write_file(path, Bytes(kSize));
    } else {
      disk_test::must(std::string("qemu-img create -q ") + GetParam().create +
                      (GetParam().has_backing ? " -F raw -b " + base : "") + " " + path + " 4M");
    }
    fresh = disk_test::read_file(path);
  }

  void add(uint32_t type, uint64_t offset, uint32_t length, size_t slot = 0) {
    const GuestAddress header = kHeader + 32 * slot;
    driver.put(header, RequestHeader{type, 0, offset / kSectorSize});
    driver.put(kStatus + slot, kUntouched);
    const auto direction = static_cast<uint16_t>(type == kRequestIn ? kWrite : 0);
    std::vector<DriverQueue::Buffer> buffers{{header, 16}};
    if (length != 0) buffers.push_back({kData + slot * kUnit, length, direction});
    buffers.push_back({kStatus + slot, 1, kWrite});
    driver.add(buffers, static_cast<uint16_t>(3 * slot));
    ++added;
  }
  /// All of them are answered. With `pauses` also if a pause begins meanwhile, which has to end.
  void finish(size_t slots = 1) {
    if (pauses) {
      pausing = false;
      refusing->when_taken([this] {
        device->begin_pause();
        pausing = true;
      });
    }
    doorbell.signal();
    if (pauses) {
      ASSERT_TRUE(eventually([&] { return pausing || driver.used_index() == added; }));
      refusing->when_taken(nullptr);
      device->begin_pause();
      ASSERT_TRUE(device->wait_paused(Deadline::after(std::chrono::seconds(10))));
      device->resume();
    }
    ASSERT_TRUE(eventually([&] { return driver.used_index() == added; })) << host.failure();
    for (size_t slot = 0; slot < slots; ++slot) {
      const auto given = driver.get<uint8_t>(kStatus + slot);
      ASSERT_TRUE(given == kStatusOk || (may_fail && given == kStatusIoError)) << int{given};
    }
  }
  void write(uint64_t offset, uint32_t length, uint8_t value) {
    fill(kData, length, value);
    add(kRequestOut, offset, length);
    finish();
  }
  void flush() {
    add(kRequestFlush, 0, 0);
    finish();
  }
  void ranges(uint32_t type, uint64_t offset, uint64_t length) {
    constexpr uint32_t kSegments = 2;
    for (uint32_t i = 0; i < kSegments; ++i) {
      const auto sectors = static_cast<uint32_t>(length / kSectorSize / kSegments);
      driver.put(kData + i * sizeof(RangeSegment),
                 RangeSegment{offset / kSectorSize + uint64_t{i} * sectors, sectors, 0});
    }
    add(type, 0, kSegments * sizeof(RangeSegment));
    finish();
  }
  /// Clusters side by side, and holes between others: more pieces than the queue is deep.
  void live() {
    constexpr uint64_t kHoles = 2 * kUnit - 32 * kCluster;
    constexpr uint64_t kBefore = kHoles - 8 * kCluster;
    std::vector<std::function<void()>> steps{
        [this] { write(kUnit - 8 * kCluster, 16 * kCluster, 0x11); }};
    for (uint64_t i = 0; i < kIslands; ++i) {
      steps.emplace_back([this, i] {
        write(kHoles + 2 * i * kCluster, kCluster, static_cast<uint8_t>(kFirstIsland + i));
      });
    }
    steps.insert(steps.end(), {[this] { flush(); }, [this] { flush(); },
                               [this] { read_together(kUnit - 3 * kCluster); },
                               [this] { read_islands(kBefore, 8 * kCluster); }});
    if (has_ranges()) {
      steps.emplace_back([this] { ranges(kRequestWriteZeroes, kHoles, 8 * kCluster); });
      steps.emplace_back([this] { ranges(kRequestDiscard, kUnit, 8 * kCluster); });
    }
    steps.insert(steps.end(),
                 {[this] { write(kBefore, kLarge, 0x66); },
                  [this] { write(3 * kUnit - 512, 1024, 0x77); }, [this] { flush(); }});
    for (const auto& step : steps) {
      step();
      if (HasFatalFailure()) return;
    }
  }
  void read_together(uint64_t offset) {
    constexpr size_t kRequests = 3;
    for (size_t slot = 0; slot < kRequests; ++slot) {
      add(kRequestIn, offset + slot * 2 * kCluster, 2 * kCluster, slot);
    }
    finish(kRequests);
  }
  void read_islands(uint64_t offset, uint64_t before) {
    add(kRequestIn, offset, kLarge);
    finish();
    if (may_fail || HasFatalFailure()) return;
    const Bytes found = guest(kData, kLarge);
    for (uint64_t i = 0; i < kIslands; ++i) {
      ASSERT_EQ(found[before + 2 * i * kCluster], kFirstIsland + i) << i;
    }
  }
  [[nodiscard]] bool has_ranges() const { return std::string_view(GetParam().name) != "Vhdx"; }
  /// One life with one refusal. False if it ended before that.
  bool live_with(Refusal refusal, uint64_t at) {
    disk_test::write_file(path, fresh);
    refusing = std::make_unique<RefusingHost>(refusal, at);
    may_fail = refusal == Refusal::kOperation;
    std::ranges::fill(memory.slice(kRings, 0x8000).value(), uint8_t{0});
    driver = DriverQueue(memory, kRings, kQueueSize);
    added = 0;
    start(kAllRingFeatures | kFeatureFlush | kFeatureDiscard | kFeatureWriteZeroes);
    live();
    if (!HasFatalFailure()) device.reset();
    return refusing->refused();
  }
  void try_all(Refusal refusal) {
    create();
    for (uint64_t at = 0;; ++at) {
      SCOPED_TRACE("refusal at " + std::to_string(at));
      const bool refused = live_with(refusal, at);
      if (HasFatalFailure()) return;
      if (refused) continue;
      ASSERT_GT(at, 5U) << "a disk's life hands on more than that";
      return;
    }
  }

  disk_test::TempFolder folder;
  const std::string path = folder / "disk";
  const std::string base = folder / "base";
  Bytes fresh;
  std::unique_ptr<RefusingHost> refusing;
  uint16_t added = 0;
  bool may_fail = false;
  bool pauses = false;
  std::atomic<bool> pausing = false;
};

TEST_P(DiskRefusals, AreTriedAgain) { try_all(Refusal::kSubmission); }

TEST_P(DiskRefusals, AreTriedAgainByADeviceThatIsToPause) {
  pauses = true;
  try_all(Refusal::kSubmission);
}

TEST_P(DiskRefusals, OfOperationsAreAnswered) { try_all(Refusal::kOperation); }

INSTANTIATE_TEST_SUITE_P(Formats, DiskRefusals,
                         testing::Values(Case{"Raw", nullptr},
                                         Case{"Qcow2", "-f qcow2 -o cluster_size=4k"},
                                         Case{"Qcow2Overlay", "-f qcow2 -o cluster_size=4k", true},
                                         Case{"Vhdx", "-f vhdx -o block_size=1M"}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tsvmm::virtio_test
