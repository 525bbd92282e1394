#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "net_test_support.h"
#include "virtio/net.h"
#include "virtio/net_protocol.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {

using net_test::Bytes;
using net_test::SocketNetwork;

inline constexpr GuestAddress kRings = 0x10000;  // 64 KiB for each queue
inline constexpr GuestAddress kTransmitData = 0x400000;
inline constexpr GuestAddress kReceiveData = 0x800000;
inline constexpr GuestAddress kControlData = 0x300000;
inline constexpr MacAddress kMac{0x2e, 1, 2, 3, 4, 5};
inline constexpr uint64_t kFeatures = kAllRingFeatures | virtio_net::kFeatureMergeableBuffers |
                                      virtio_net::kFeatureControlQueue |
                                      virtio_net::kFeatureGuestChecksum;

/// A header followed by recognizable bytes.
inline Bytes packet(size_t frame_size, uint8_t seed = 0) {
  Bytes bytes(virtio_net::kHeaderSize + frame_size);
  std::iota(bytes.begin() + virtio_net::kHeaderSize, bytes.end(), seed);
  return bytes;
}

/// A network device with all its queues and a driver, without a transport in between.
class NetTest : public testing::Test {
 protected:
  struct Setting {
    uint16_t pairs = 1;
    uint16_t queue_size = 256;
    uint64_t features = kFeatures;
    NetOffloads offloads;
    bool one_by_one = false;
    RateLimiterConfig limit;
  };

  void start(const Setting& setting) {
    auto owned =
        std::make_unique<SocketNetwork>(setting.pairs, setting.offloads, setting.one_by_one);
    network = owned.get();
    VirtioNet::Options options{.id = "_net0", .mac = kMac, .queue_size = setting.queue_size};
    if (setting.limit.limits()) {
      options.receive_limiter = std::make_shared<RateLimiter>(setting.limit);
      options.transmit_limiter = std::make_shared<RateLimiter>(setting.limit);
    }
    device = std::make_unique<VirtioNet>(std::move(owned), std::move(options));
    device->connect(host);
    activate(setting.features, setting.queue_size);
  }
  void start() { start(Setting{}); }

  void activate(uint64_t features, uint16_t queue_size) {
    const auto count = static_cast<uint16_t>(device->queue_sizes().size());
    queues.clear();
    while (doorbells.size() < count) {
      doorbells.push_back(std::make_unique<EventFd>());
      interrupts.push_back(std::make_unique<CountingInterrupt>());
    }
    states.assign(count, {});
    Activation activation{memory, features, {}};
    for (uint16_t i = 0; i < count; ++i) {
      const GuestAddress base = kRings + 0x20000 * uint64_t{i};
      std::ranges::fill(memory.slice(base, 0x20000).value(), uint8_t{0});
      queues.emplace_back(memory, base, queue_size);
      activation.queues.push_back(
          {i, queues[i].config(), doorbells[i].get(), interrupts[i].get(), &states[i]});
    }
    device->activate(activation);
  }

  DriverQueue& receive_queue(uint16_t pair = 0) { return queues.at(2 * pair); }
  DriverQueue& transmit_queue(uint16_t pair = 0) { return queues.at(2 * pair + 1); }
  DriverQueue& control_queue() { return queues.back(); }
  void ring(size_t queue) { doorbells.at(queue)->signal(); }

  void write(GuestAddress address, const Bytes& bytes) {
    ASSERT_TRUE(memory.write(address, bytes));
  }
  Bytes read(GuestAddress address, size_t size) {
    const auto bytes = memory.slice(address, size).value();
    return {bytes.begin(), bytes.end()};
  }

  /// Sends a packet cut into buffers of these sizes (the last one takes the rest).
  void send(const Bytes& bytes, const std::vector<uint32_t>& cuts = {}, uint16_t head = 0) {
    const GuestAddress address = kTransmitData + 0x1000 * uint64_t{head};
    write(address, bytes);
    std::vector<DriverQueue::Buffer> buffers;
    uint32_t done = 0;
    for (const uint32_t size : cuts) {
      buffers.push_back({address + done, size});
      done += size;
    }
    if (done < bytes.size()) {
      buffers.push_back({address + done, static_cast<uint32_t>(bytes.size() - done)});
    }
    transmit_queue().add(buffers, head);
  }
  Bytes expect_sent(uint16_t pair = 0) {
    std::optional<Bytes> sent;
    EXPECT_TRUE(eventually([&] { return (sent = network->take(pair)).has_value(); }))
        << host.failure();
    return sent.value_or(Bytes{});
  }
  void expect_transmitted(uint16_t used) {
    EXPECT_TRUE(eventually([&] { return transmit_queue().used_index() == used; }))
        << transmit_queue().used_index() << " " << host.failure();
  }

  /// Adds a receive buffer at its own place by its head.
  void offer(uint16_t head, uint32_t size, uint16_t pair = 0) {
    sizes[head] = size;
    receive_queue(pair).add({{buffer_of(head, pair), size, kWrite}}, head);
  }
  static GuestAddress buffer_of(uint16_t head, uint16_t pair = 0) {
    return kReceiveData + 0x10000 * uint64_t{head} + 0x400000 * uint64_t{pair};
  }
  /// Takes the next received packet out of as many buffers as its header says.
  Bytes expect_received(uint16_t pair = 0) {
    DriverQueue& queue = receive_queue(pair);
    if (!eventually([&] { return queue.used_index() != seen; })) {
      ADD_FAILURE() << "nothing is received. " << host.failure();
      return {};
    }
    Bytes bytes;
    uint16_t buffers = 1;
    for (uint16_t i = 0; i < buffers; ++i) {
      const uint32_t id = queue.used_id(seen);
      const uint32_t length = queue.used_length(seen);
      ++seen;
      const GuestAddress at = buffer_of(static_cast<uint16_t>(id), pair);
      EXPECT_LE(length, sizes[static_cast<uint16_t>(id)]);
      if (i == 0) buffers = memory.read<uint16_t>(at + virtio_net::kNumBuffersOffset).value();
      const Bytes part = read(at, length);
      bytes.insert(bytes.end(), part.begin(), part.end());
      heads.push_back(static_cast<uint16_t>(id));
      used_buffers = buffers;
    }
    // As it was sent.
    if (bytes.size() >= virtio_net::kHeaderSize)
      bytes[virtio_net::kNumBuffersOffset] = bytes[virtio_net::kNumBuffersOffset + 1] = 0;
    return bytes;
  }

  uint8_t command(const Bytes& bytes) {
    write(kControlData, bytes);
    write(kControlData + 0x1000, {0xee});
    const uint16_t before = control_queue().used_index();
    control_queue().add(
        {{kControlData, static_cast<uint32_t>(bytes.size())}, {kControlData + 0x1000, 1, kWrite}});
    ring(queues.size() - 1);
    EXPECT_TRUE(eventually([&] { return control_queue().used_index() != before; }))
        << host.failure();
    return memory.read<uint8_t>(kControlData + 0x1000).value();
  }

  uint64_t counter(const std::string& name) {
    for (const Counter& entry : device->counters()) {
      if (name == entry.name) return entry.value;
    }
    ADD_FAILURE() << name;
    return 0;
  }
  virtio_net::Config config() {
    std::array<uint8_t, virtio_net::kConfigSize> bytes{};
    device->read_config(0, bytes);
    return load<virtio_net::Config>(bytes);
  }

  GuestMemory memory{{range(0, 32 << 20)}, {}};
  std::vector<DriverQueue> queues;
  std::vector<std::unique_ptr<EventFd>> doorbells;
  std::vector<std::unique_ptr<CountingInterrupt>> interrupts;
  std::vector<SplitQueueState> states;
  RecordingTransport host;
  std::unique_ptr<VirtioNet> device;
  SocketNetwork* network = nullptr;
  uint16_t seen = 0;
  std::vector<uint16_t> heads;         ///< of buffers that came back
  std::map<uint16_t, uint32_t> sizes;  ///< of offered buffers, by head
  uint16_t used_buffers = 0;
};

}  // namespace tsvmm::virtio_test
