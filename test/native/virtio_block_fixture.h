#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "disk/raw_image.h"
#include "disk_test_support.h"
#include "virtio/block.h"
#include "virtio/block_protocol.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {
using disk_test::TempImage;
using namespace virtio_block;

inline constexpr size_t kImageSize = 1 << 20;
inline constexpr uint64_t kSectors = kImageSize / kSectorSize;
inline constexpr uint16_t kQueueSize = 16;
inline constexpr GuestAddress kRings = 0x10000;
inline constexpr GuestAddress kHeader = 0x20000;
inline constexpr GuestAddress kStatus = 0x21000;
inline constexpr GuestAddress kData = 0x100000;
inline constexpr uint8_t kUntouched = 0xee;

/// A block device with one queue and a driver, without a transport in between.
class BlockTest : public testing::Test {
 protected:
  virtual std::unique_ptr<DiskImage> image() {
    return std::make_unique<RawImage>(file.fd(), false);
  }
  void start(uint64_t features = kAllRingFeatures | kFeatureFlush) {
    device = std::make_unique<VirtioBlock>(image(), options);
    device->connect(host);
    activate(features);
  }
  void activate(uint64_t features = kAllRingFeatures | kFeatureFlush) {
    state = {};
    device->activate({memory, features, {{0, driver.config(), &doorbell, &interrupt, &state}}});
  }
  void put_header(uint32_t type, uint64_t sector) {
    driver.put(kHeader, RequestHeader{type, 0, sector});
    driver.put(kStatus, kUntouched);
  }
  uint8_t status() { return driver.get<uint8_t>(kStatus); }
  /// Adds the chain, rings and waits; the used length.
  uint32_t run(const std::vector<DriverQueue::Buffer>& buffers) {
    const uint16_t before = driver.used_index();
    driver.add(buffers);
    doorbell.signal();
    EXPECT_TRUE(eventually([&] { return driver.used_index() != before; })) << host.failure();
    EXPECT_EQ(driver.used_id(before), 0u);
    return driver.used_length(before);
  }
  uint8_t request(uint32_t type, uint64_t sector, uint32_t length) {
    put_header(type, sector);
    const uint16_t direction = type == kRequestOut ? 0 : kWrite;
    std::vector<DriverQueue::Buffer> buffers{{kHeader, 16}};
    if (length != 0) buffers.push_back({kData, length, direction});
    buffers.push_back({kStatus, 1, kWrite});
    used_length = run(buffers);
    return status();
  }
  std::vector<uint8_t> guest(GuestAddress address, size_t size) {
    const auto bytes = memory.slice(address, size).value();
    return {bytes.begin(), bytes.end()};
  }
  std::vector<uint8_t> original(uint64_t sector, size_t size) const {
    const auto begin = file.content.begin() + static_cast<ptrdiff_t>(sector * kSectorSize);
    return {begin, begin + static_cast<ptrdiff_t>(size)};
  }
  void fill(GuestAddress address, size_t size, uint8_t value) {
    std::ranges::fill(memory.slice(address, size).value(), value);
  }
  uint64_t counter(const std::string& name) {
    for (const Counter& entry : device->counters()) {
      if (name == entry.name) return entry.value;
    }
    ADD_FAILURE() << name;
    return 0;
  }
  /// The driver does this and the device fails instead of crashing, with this reason.
  void expect_failure(const std::function<void()>& attack, const std::string& reason) {
    start();
    attack();
    doorbell.signal();
    EXPECT_TRUE(eventually([&] { return !host.failure().empty(); }));
    EXPECT_EQ(host.failure(), reason);
    // After a reset all is well again.
    device->reset();
    driver = DriverQueue(memory, kRings + 0x4000, kQueueSize);
    activate();
    EXPECT_EQ(request(kRequestIn, 0, 512), kStatusOk);
  }

  TempImage file{kImageSize};
  GuestMemory memory{{range(0, 8 << 20)}, {}};
  DriverQueue driver{memory, kRings, kQueueSize};
  EventFd doorbell;
  CountingInterrupt interrupt;
  SplitQueueState state;
  RecordingTransport host;
  /// Of what start() makes.
  VirtioBlock::Options options{.id = "_disk0", .queue_size = kQueueSize, .serial = "serial-number"};
  std::unique_ptr<VirtioBlock> device;
  uint32_t used_length = 0;
};

}  // namespace tsvmm::virtio_test
