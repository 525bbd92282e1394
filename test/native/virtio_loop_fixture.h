#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {

/// A device on a shared loop, with a driver and its queues, without a transport in between.
class LoopDeviceTest : public testing::Test {
 protected:
  static constexpr uint16_t kQueueSize = 8;
  static constexpr uint64_t kMemorySize = 32 << 20;

  /// With the queues that have these indexes.
  void activate(VirtioDevice& device, const std::vector<uint16_t>& queues, uint64_t features = 0) {
    device.connect(host);
    Activation activation{memory, features | kAllRingFeatures, {}};
    for (const uint16_t i : queues) {
      states[i] = {};
      activation.queues.push_back(
          {i, drivers[i].config(), &doorbells[i], &interrupts[i], &states[i]});
    }
    device.activate(activation);
  }
  /// Waits until the device has used so many buffers.
  bool used(uint16_t queue, uint16_t count) {
    return eventually([&] { return drivers[queue].used_index() == count; });
  }
  /// Makes a chain available, rings and waits until it is used; its used length.
  uint32_t send(uint16_t queue, const std::vector<DriverQueue::Buffer>& buffers) {
    const uint16_t before = drivers[queue].used_index();
    drivers[queue].add(buffers);
    doorbells[queue].signal();
    EXPECT_TRUE(used(queue, static_cast<uint16_t>(before + 1)));
    return drivers[queue].used_length(before);
  }
  /// Waits until the loop has done what was asked of it so far.
  void settle() {
    for (int i = 0; i < 3; ++i) loop.call([] {});
  }
  /// A driver that never stops leaves the loop to others.
  void expect_turns_beside_a_flood(uint16_t queue, const DriverQueue::Buffer& buffer) {
    std::atomic<bool> done = false;
    std::thread flood([&] {
      for (uint16_t added = 0; !done; ++added) {
        while (static_cast<uint16_t>(added - drivers[queue].used_index()) == kQueueSize) {
          if (done) return;
        }
        drivers[queue].add({buffer}, added % kQueueSize);
        doorbells[queue].signal();
      }
    });
    std::atomic<int> turns = 0;
    for (int i = 0; i < 100; ++i) loop.call([&] { ++turns; });
    done = true;
    flood.join();
    EXPECT_EQ(turns, 100);
    EXPECT_EQ(host.failure(), "");
  }

  GuestMemory memory{{range(0, kMemorySize)}, {.thp = false}};
  std::array<DriverQueue, 5> drivers{{{memory, 0x1000, kQueueSize},
                                      {memory, 0x2000, kQueueSize},
                                      {memory, 0x3000, kQueueSize},
                                      {memory, 0x4000, kQueueSize},
                                      {memory, 0x5000, kQueueSize}}};
  std::array<EventFd, 5> doorbells;
  std::array<CountingInterrupt, 5> interrupts;
  std::array<SplitQueueState, 5> states;
  RecordingTransport host;
  EventLoop loop{"test-loop"};
};

}  // namespace tsvmm::virtio_test
