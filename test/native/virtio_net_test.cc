#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <random>

#include "message_test_support.h"
#include "net_test_support.h"
#include "virtio/net.h"
#include "virtio/net_protocol.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {
namespace {

using namespace virtio_net;
using net_test::Bytes;
using net_test::SocketNetwork;

constexpr GuestAddress kRings = 0x10000;  // 64 KiB for each queue
constexpr GuestAddress kTransmitData = 0x400000;
constexpr GuestAddress kReceiveData = 0x800000;
constexpr GuestAddress kControlData = 0x300000;
constexpr MacAddress kMac{0x2e, 1, 2, 3, 4, 5};
constexpr uint64_t kFeatures =
    kAllRingFeatures | kFeatureMergeableBuffers | kFeatureControlQueue | kFeatureGuestChecksum;

/// A header followed by recognizable bytes.
Bytes packet(size_t frame_size, uint8_t seed = 0) {
  Bytes bytes(kHeaderSize + frame_size);
  std::iota(bytes.begin() + kHeaderSize, bytes.end(), seed);
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
      if (i == 0) buffers = memory.read<uint16_t>(at + kNumBuffersOffset).value();
      const Bytes part = read(at, length);
      bytes.insert(bytes.end(), part.begin(), part.end());
      heads.push_back(static_cast<uint16_t>(id));
      used_buffers = buffers;
    }
    // As it was sent.
    if (bytes.size() >= kHeaderSize) bytes[kNumBuffersOffset] = bytes[kNumBuffersOffset + 1] = 0;
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
  Config config() {
    std::array<uint8_t, kConfigSize> bytes{};
    device->read_config(0, bytes);
    return load<Config>(bytes);
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

TEST_F(NetTest, TransmitsAFrameWithItsHeader) {
  start();
  Bytes bytes = packet(60);
  bytes[0] = 1;
  send(bytes);
  ring(1);
  EXPECT_EQ(expect_sent(), bytes);
  expect_transmitted(1);
  EXPECT_EQ(transmit_queue().used_length(0), 0u);
  EXPECT_EQ(counter("tx_frames"), 1u);
  EXPECT_EQ(counter("tx_bytes"), 60u);
  EXPECT_EQ(counter("tx_drops"), 0u);
}

TEST_F(NetTest, TransmitsAFrameInManyPieces) {
  start();
  const Bytes bytes = packet(100);
  send(bytes, std::vector<uint32_t>(100, 1));
  ring(1);
  EXPECT_EQ(expect_sent(), bytes);
}

TEST_F(NetTest, TransmitsAFrameInMorePiecesThanOneCallTakes) {
  start({.queue_size = 2048});
  const Bytes bytes = packet(1500);
  send(packet(20), {}, 2000);
  send(bytes, std::vector<uint32_t>(1400, 1));
  send(packet(30), {}, 2001);
  ring(1);
  EXPECT_EQ(expect_sent(), packet(20));
  EXPECT_EQ(expect_sent(), bytes);
  EXPECT_EQ(expect_sent(), packet(30));
}

TEST_F(NetTest, TransmitsManyFramesInOrder) {
  for (const bool one_by_one : {false, true}) {
    start({.one_by_one = one_by_one});
    pause(*device);  // it would send one by one what it sees come one by one
    for (uint16_t i = 0; i < 200; ++i) send(packet(20, static_cast<uint8_t>(i)), {}, i);
    ring(1);
    device->resume();
    for (uint16_t i = 0; i < 200; ++i)
      EXPECT_EQ(expect_sent(), packet(20, static_cast<uint8_t>(i)));
    expect_transmitted(200);
    for (uint16_t i = 0; i < 200; ++i) EXPECT_EQ(transmit_queue().used_id(i), i);
    EXPECT_EQ(counter("tx_frames"), 200u);
    EXPECT_LT(counter("tx_batches"), 20u);
    device->reset();
  }
}

TEST_F(NetTest, DropsWhatIsNoFrameAndGoesOn) {
  start();
  const std::vector<Bytes> bad{packet(0), Bytes(5), Bytes(1)};
  uint16_t head = 0;
  for (const Bytes& bytes : bad) {
    send(packet(30, static_cast<uint8_t>(head)), {}, head);
    ++head;
    send(bytes, {}, head++);
  }
  // Nothing but room that the device could write to.
  transmit_queue().add({{kTransmitData, 64, kWrite}}, head++);
  // An empty buffer.
  transmit_queue().add({{kTransmitData, 0}}, head++);
  // Larger than any frame.
  transmit_queue().add({{kTransmitData, 40000}, {kTransmitData, 40000}}, head);
  head += 2;
  // A frame with room behind it that has no meaning.
  transmit_queue().add({{kTransmitData, 42}, {kReceiveData, 10, kWrite}}, head);
  ring(1);
  for (uint8_t i = 0; i < 6; i += 2) EXPECT_EQ(expect_sent(), packet(30, i));
  EXPECT_EQ(expect_sent(), packet(30));
  expect_transmitted(10);
  EXPECT_EQ(counter("tx_frames"), 4u);
  EXPECT_EQ(counter("tx_drops"), 6u);
  EXPECT_EQ(host.failure(), "");
}

TEST_F(NetTest, TransmitsTheLargestFrameAndNoLargerOne) {
  start();
  const Bytes largest = packet(NetQueue::kMaxFrameSize - kHeaderSize);
  send(largest, {12, 30000});
  ring(1);
  EXPECT_EQ(expect_sent(), largest);
  expect_transmitted(1);
  send(packet(NetQueue::kMaxFrameSize - kHeaderSize + 1), {12, 30000}, 4);
  ring(1);
  expect_transmitted(2);
  EXPECT_EQ(counter("tx_drops"), 1u);
}

TEST_F(NetTest, WaitsForANetworkThatTakesNoMore) {
  start({.one_by_one = true});
  const Bytes large = packet(60000);
  write(kTransmitData, large);
  // More than the socket has room for.
  size_t sent = 0;
  for (; sent < 250; ++sent) {
    transmit_queue().add({{kTransmitData, static_cast<uint32_t>(large.size())}},
                         static_cast<uint16_t>(sent));
  }
  ring(1);
  for (size_t i = 0; i < sent; ++i) EXPECT_EQ(expect_sent().size(), large.size());
  expect_transmitted(250);
  EXPECT_EQ(counter("tx_frames"), 250u);
  EXPECT_EQ(counter("tx_drops"), 0u);
}

TEST_F(NetTest, ReceivesAFrame) {
  start();
  offer(0, 2048);
  ring(0);
  ASSERT_TRUE(network->give(packet(60, 7)));
  EXPECT_EQ(expect_received(), packet(60, 7));
  EXPECT_EQ(used_buffers, 1);
  EXPECT_TRUE(eventually([&] { return interrupts[0]->count >= 1; }));
  EXPECT_EQ(counter("rx_frames"), 1u);
  EXPECT_EQ(counter("rx_bytes"), 60u);
}

TEST_F(NetTest, TellsNothingOfChecksumsToADriverThatDoesNotAsk) {
  start({.features = kFeatures & ~kFeatureGuestChecksum});
  offer(0, 2048);
  ring(0);
  Bytes bytes = packet(60);
  bytes[0] = 2;
  ASSERT_TRUE(network->give(bytes));
  EXPECT_EQ(expect_received(), packet(60));
}

TEST_F(NetTest, SpreadsALargeFrameOverBuffers) {
  start();
  for (uint16_t i = 0; i < 8; ++i) offer(i, 1024);
  ring(0);
  ASSERT_TRUE(network->give(packet(3000)));
  EXPECT_EQ(expect_received(), packet(3000));
  EXPECT_EQ(used_buffers, 3);
}

TEST_F(NetTest, ReceivesIntoScatteredBuffers) {
  start();
  // Even the header is cut.
  receive_queue().add(
      {{buffer_of(0), 5, kWrite}, {buffer_of(0) + 5, 6, kWrite}, {buffer_of(0) + 11, 100, kWrite}});
  sizes[0] = 111;
  ring(0);
  ASSERT_TRUE(network->give(packet(60)));
  EXPECT_EQ(expect_received(), packet(60));
}

/// What a driver with 256 buffers does that refills its queue now and then.
class NetMixTest : public NetTest, public testing::WithParamInterface<bool> {
 protected:
  void offer_all(uint32_t size) {
    for (; !free.empty(); free.pop_back()) offer(free.back(), size);
    ring(0);
  }
  void give_some(bool small, bool large) {
    for (unsigned i = random() % 40; i-- > 0;) {
      const bool is_small = small && (!large || random() % 4 != 0);
      const size_t size = is_small ? 14 + random() % 100 : 14 + random() % 60000;
      const Bytes bytes = packet(size, static_cast<uint8_t>(random()));
      if (!network->give(bytes)) return;
      expected.push_back(bytes);
    }
  }
  std::mt19937 random{1};
  std::vector<uint16_t> free;
  std::deque<Bytes> expected;
};

TEST_P(NetMixTest, ReceivesAnyMixOfSizes) {
  start({.one_by_one = GetParam()});
  free.resize(256);
  std::iota(free.begin(), free.end(), uint16_t{0});
  constexpr std::array<uint32_t, 5> kSizes{1536, 4096, 512, 65000, 2000};
  size_t received = 0;
  for (size_t round = 0; round < 60; ++round) {
    // Phases of small frames, of large ones, and of both.
    give_some(round % 3 != 1, round % 3 != 0);
    for (; !expected.empty(); expected.pop_front()) {
      if (free.size() > random() % 200) offer_all(kSizes[round / 4 % kSizes.size()]);
      heads.clear();
      ASSERT_EQ(expect_received(), expected.front()) << "frame " << received;
      ++received;
      free.insert(free.end(), heads.begin(), heads.end());
    }
  }
  EXPECT_EQ(counter("rx_frames"), received);
  EXPECT_EQ(counter("rx_drops"), 0u);
  EXPECT_EQ(host.failure(), "");
}

INSTANTIATE_TEST_SUITE_P(Queues, NetMixTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "OneByOne" : "InBatches"; });

TEST_F(NetTest, DropsAFrameThatDoesNotFitIfItMayNotBeSpread) {
  start({.features = kFeatures & ~kFeatureMergeableBuffers});
  for (uint16_t i = 0; i < 4; ++i) offer(i, 1000);
  ASSERT_TRUE(network->give(packet(2000)));
  ASSERT_TRUE(network->give(packet(988, 1)));
  ASSERT_TRUE(network->give(packet(989)));
  ASSERT_TRUE(network->give(packet(60, 2)));
  ring(0);
  EXPECT_EQ(expect_received(), packet(988, 1));
  EXPECT_EQ(expect_received(), packet(60, 2));
  EXPECT_EQ(counter("rx_drops"), 2u);
  EXPECT_EQ(heads, (std::vector<uint16_t>{0, 1}));
}

TEST_F(NetTest, DropsAFrameThatAllBuffersTogetherAreTooSmallFor) {
  start({.queue_size = 8});
  for (uint16_t i = 0; i < 8; ++i) offer(i, 100);
  ring(0);
  ASSERT_TRUE(network->give(packet(5000)));
  ASSERT_TRUE(network->give(packet(150)));
  EXPECT_EQ(expect_received(), packet(150));
  EXPECT_EQ(counter("rx_drops"), 1u);
}

TEST_F(NetTest, FailsForAReceiveBufferWithoutRoomForAHeader) {
  for (const std::vector<DriverQueue::Buffer>& chain :
       {std::vector<DriverQueue::Buffer>{{kReceiveData, 11, kWrite}},
        std::vector<DriverQueue::Buffer>{{kReceiveData, 100}},
        std::vector<DriverQueue::Buffer>{{kReceiveData, 0, kWrite}}}) {
    start();
    receive_queue().add(chain);
    ring(0);
    EXPECT_TRUE(eventually([&] { return !host.failure().empty(); }));
    EXPECT_EQ(host.failure(), "a receive buffer has no room for a header");
    device->reset();
    host.failures.clear();
    seen = 0;
    activate(kFeatures, 256);
    offer(0, 100);
    ring(0);
    ASSERT_TRUE(network->give(packet(60)));
    EXPECT_EQ(expect_received(), packet(60));
    device.reset();
    seen = 0;
  }
}

TEST_F(NetTest, FailsForABrokenTransmitRing) {
  start();
  transmit_queue().set_available_index(1000);
  ring(1);
  EXPECT_TRUE(eventually([&] { return !host.failure().empty(); }));
  EXPECT_EQ(host.failure(), "available index is more than the queue size ahead");
}

TEST_F(NetTest, ReadableBuffersOfAReceiveChainAreLeftAlone) {
  start();
  write(kReceiveData + 0x8000, Bytes(16, 0x77));
  receive_queue().add({{kReceiveData + 0x8000, 16}, {buffer_of(0), 1000, kWrite}});
  sizes[0] = 1000;
  ring(0);
  ASSERT_TRUE(network->give(packet(60)));
  EXPECT_EQ(expect_received(), packet(60));
  EXPECT_EQ(read(kReceiveData + 0x8000, 16), Bytes(16, 0x77));
}

TEST_F(NetTest, SleepsWhileFramesComeThatThereAreNoBuffersFor) {
  start();
  ring(0);
  ring(1);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(network->give(packet(60, static_cast<uint8_t>(i))));
  EXPECT_TRUE(settles_down());
  for (uint16_t i = 0; i < 50; ++i) offer(i, 200);
  ring(0);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(expect_received(), packet(60, static_cast<uint8_t>(i)));
}

TEST_F(NetTest, LimitsWhatIsSent) {
  // Two frames at once, then two every 100 ms.
  start({.limit = {.bandwidth = {}, .operations = {.size = 2, .refill_time_ms = 100}}});
  const auto begin = std::chrono::steady_clock::now();
  for (uint16_t i = 0; i < 6; ++i) send(packet(60, static_cast<uint8_t>(i)), {}, i);
  ring(1);
  for (uint16_t i = 0; i < 6; ++i) EXPECT_EQ(expect_sent(), packet(60, static_cast<uint8_t>(i)));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(190));
}

TEST_F(NetTest, LimitsWhatIsReceived) {
  start({.limit = {.bandwidth = {.size = 2000, .refill_time_ms = 100}, .operations = {}}});
  const auto begin = std::chrono::steady_clock::now();
  for (uint16_t i = 0; i < 18; ++i) offer(i, 500);
  for (uint16_t i = 0; i < 6; ++i) {
    ASSERT_TRUE(network->give(packet(1000, static_cast<uint8_t>(i))));
  }
  ring(0);
  for (uint16_t i = 0; i < 6; ++i)
    EXPECT_EQ(expect_received(), packet(1000, static_cast<uint8_t>(i)));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(190));
}

TEST_F(NetTest, TellsOfANetworkThatIsGone) {
  start();
  EXPECT_EQ(config().status, kStatusLinkUp);
  offer(0, 1000);
  ring(0);
  network->hang_up();
  EXPECT_TRUE(eventually([&] { return host.config_changes == 1; }));
  EXPECT_EQ(config().status, 0);
  send(packet(60));
  ring(1);
  expect_transmitted(1);
  EXPECT_EQ(counter("tx_drops"), 1u);
}

TEST_F(NetTest, GoesOnAfterAResetAndAPause) {
  start();
  offer(0, 1000);
  ring(0);
  device->reset();
  device->reset();
  ASSERT_TRUE(network->give(packet(60)));
  activate(kFeatures, 256);
  pause(*device);
  offer(0, 1000);
  ring(0);
  send(packet(70));
  ring(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(receive_queue().used_index(), 0);
  EXPECT_EQ(network->take(), std::nullopt);
  device->resume();
  EXPECT_EQ(expect_received(), packet(60));
  EXPECT_EQ(expect_sent(), packet(70));
  // Deleted while it is paused.
  pause(*device);
  device.reset();
}

TEST_F(NetTest, ServesOnePairUntilTheDriverAsksForMore) {
  start({.pairs = 3, .features = kFeatures | kFeatureMultiQueue});
  EXPECT_EQ(config().max_virtqueue_pairs, 3);
  EXPECT_EQ(network->active, 1);
  offer(0, 1000, 2);
  ASSERT_TRUE(network->give(packet(60, 9), 2));
  EXPECT_EQ(command({kClassMultiQueue, kMultiQueuePairsSet, 3, 0}), kAckOk);
  EXPECT_EQ(network->active, 3);
  EXPECT_EQ(expect_received(2), packet(60, 9));
  write(kTransmitData, packet(50));
  transmit_queue(1).add({{kTransmitData, 62}});
  ring(3);
  EXPECT_EQ(expect_sent(1), packet(50));
  EXPECT_TRUE(eventually([&] { return counter("tx_frames") == 1; }));

  for (const uint8_t count : {0, 4}) {
    EXPECT_EQ(command({kClassMultiQueue, kMultiQueuePairsSet, count, 0}), kAckError);
  }
  EXPECT_EQ(command({kClassMultiQueue, kMultiQueuePairsSet, 1, 0}), kAckOk);
  EXPECT_EQ(command({kClassMultiQueue, kMultiQueuePairsSet, 2, 0}), kAckOk);
  EXPECT_EQ(network->active, 2);
  device->reset();
  EXPECT_EQ(network->active, 1);
}

TEST_F(NetTest, APairThatIsSwitchedOffAndOnGoesOnInItsRings) {
  start({.pairs = 2, .features = kFeatures | kFeatureMultiQueue});
  for (uint16_t head = 0; head < 8; ++head) offer(head, 1000, 1);
  const auto switch_to = [&](uint8_t pairs) {
    EXPECT_EQ(command({kClassMultiQueue, kMultiQueuePairsSet, pairs, 0}), kAckOk);
  };
  for (uint16_t turn = 0; turn < 3; ++turn) {
    switch_to(2);
    const Bytes first = packet(60 + size_t{turn}, 1);
    const Bytes second = packet(80 + size_t{turn}, 2);
    ASSERT_TRUE(network->give(first, 1) && network->give(second, 1));
    EXPECT_EQ(expect_received(1), first);
    EXPECT_EQ(expect_received(1), second);
    const Bytes sent = packet(100 + size_t{turn}, 3);
    write(kTransmitData, sent);
    transmit_queue(1).add({{kTransmitData, static_cast<uint32_t>(sent.size())}}, turn);
    ring(3);
    EXPECT_EQ(expect_sent(1), sent);
    EXPECT_TRUE(eventually([&] { return transmit_queue(1).used_index() == turn + 1; }));
    switch_to(1);
  }
  EXPECT_EQ(heads, (std::vector<uint16_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(host.failure(), "");
}

TEST_F(NetTest, ControlQueueIsTheThirdWithoutMultiQueue) {
  start({.pairs = 2, .features = kFeatures | kFeatureControlReceive});
  write(kControlData, {kClassReceive, 0, 1});
  queues[2].add({{kControlData, 3}, {kControlData + 16, 1, kWrite}});
  ring(2);
  EXPECT_TRUE(eventually([&] { return queues[2].used_index() == 1; }));
  EXPECT_EQ(memory.read<uint8_t>(kControlData + 16), kAckOk);
}

TEST_F(NetTest, ChangesItsMacAddress) {
  start({.features = kFeatures | kFeatureControlMac});
  EXPECT_EQ(std::to_array(config().mac), kMac);
  EXPECT_EQ(command({kClassMac, kMacAddressSet, 1, 2, 3, 4, 5}), kAckError);
  EXPECT_EQ(command({kClassMac, kMacAddressSet, 2, 2, 2, 2, 2, 2}), kAckOk);
  EXPECT_EQ(std::to_array(config().mac), (MacAddress{2, 2, 2, 2, 2, 2}));
  device->reset();
  EXPECT_EQ(std::to_array(config().mac), kMac);
}

TEST_F(NetTest, SwitchesOffloadsThatWereNegotiated) {
  start({.features = kFeatures | kFeatureControlGuestOffloads | kFeatureGuestTso4,
         .offloads = {.checksum = true, .tso4 = true, .tso6 = true}});
  EXPECT_EQ(network->guest, (NetOffloads{.checksum = true, .tso4 = true}));
  const auto set = [this](uint8_t low) {
    return command({kClassGuestOffloads, kGuestOffloadsSet, low, 0, 0, 0, 0, 0, 0, 0});
  };
  EXPECT_EQ(set(0x02), kAckOk);
  EXPECT_EQ(network->guest, (NetOffloads{.checksum = true}));
  EXPECT_EQ(set(0x82), kAckOk);
  EXPECT_EQ(network->guest, (NetOffloads{.checksum = true, .tso4 = true}));
  EXPECT_EQ(set(0x01), kAckError);  // no offload of the guest's
  EXPECT_EQ(command({kClassGuestOffloads, kGuestOffloadsSet, 2, 0, 0, 0, 1, 0, 0, 0}), kAckError);
  EXPECT_EQ(command({kClassGuestOffloads, kGuestOffloadsSet, 2}), kAckError);
  EXPECT_EQ(network->guest, (NetOffloads{.checksum = true, .tso4 = true}));
}

TEST_F(NetTest, WhatTheGuestSwitchedIsPartOfItsState) {
  const Setting setting{
      .pairs = 3,
      .features = kFeatures | kFeatureMultiQueue | kFeatureControlGuestOffloads | kFeatureGuestTso4,
      .offloads = {.checksum = true, .tso4 = true}};
  start(setting);
  EXPECT_EQ(command({kClassMultiQueue, kMultiQueuePairsSet, 2, 0}), kAckOk);
  EXPECT_EQ(command({kClassGuestOffloads, kGuestOffloadsSet, 2, 0, 0, 0, 0, 0, 0, 0}), kAckOk);
  device->announce();
  pause(*device);
  message_test::MessageBuilder state;
  device->save(state.writer());
  device.reset();

  auto owned = std::make_unique<SocketNetwork>(setting.pairs, setting.offloads);
  network = owned.get();
  device = std::make_unique<VirtioNet>(std::move(owned), VirtioNet::Options{.id = "_net0"});
  device->connect(host);
  message_test::read_map(state.take(), [this](Fields& fields) { device->restore(fields); });
  EXPECT_EQ(config().status, kStatusLinkUp | kStatusAnnounce);
  EXPECT_EQ(std::to_array(config().mac), kMac);
  activate(setting.features, setting.queue_size);
  EXPECT_EQ(network->active, 2);
  EXPECT_EQ(network->guest, (NetOffloads{.checksum = true}));
  write(kTransmitData, packet(50));
  transmit_queue(1).add({{kTransmitData, 62}});
  ring(3);
  EXPECT_EQ(expect_sent(1), packet(50));
  device->reset();
  activate(setting.features, setting.queue_size);
  EXPECT_EQ(network->active, 1) << "a new driver begins anew";
  EXPECT_EQ(network->guest, (NetOffloads{.checksum = true, .tso4 = true}));
}

TEST_F(NetTest, MorePairsThanThereAreAreRefused) {
  start();
  message_test::MessageBuilder state;
  state.writer().map(3).key("mac").bytes(kMac);
  state.writer().key("announce").boolean(false).field("pairs", 2);
  EXPECT_THROW(
      message_test::read_map(state.take(), [this](Fields& fields) { device->restore(fields); }),
      Error);
}

TEST_F(NetTest, Announces) {
  start({.features = kFeatures | kFeatureGuestAnnounce});
  device->announce();
  EXPECT_EQ(host.config_changes, 1);
  EXPECT_EQ(config().status, kStatusLinkUp | kStatusAnnounce);
  EXPECT_EQ(command({kClassAnnounce, kAnnounceAck, 0}), kAckError);
  EXPECT_EQ(command({kClassAnnounce, kAnnounceAck}), kAckOk);
  EXPECT_EQ(config().status, kStatusLinkUp);
}

TEST_F(NetTest, AcceptsReceiveModes) {
  start({.features = kFeatures | kFeatureControlReceive});
  for (uint8_t mode = 0; mode <= kReceiveNoBroadcast; ++mode) {
    EXPECT_EQ(command({kClassReceive, mode, 1}), kAckOk);
  }
  EXPECT_EQ(command({kClassReceive, 6, 1}), kAckError);
  EXPECT_EQ(command({kClassReceive, 0, 2}), kAckError);
  EXPECT_EQ(command({kClassReceive, 0}), kAckError);
  Bytes table{kClassMac, kMacTableSet, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0};
  EXPECT_EQ(command(table), kAckOk);
  table.pop_back();
  EXPECT_EQ(command(table), kAckError);
}

TEST_F(NetTest, RefusesCommandsThatWereNotNegotiatedOrAreNone) {
  start();
  for (const Bytes& bytes : std::vector<Bytes>{{kClassReceive, 0, 1},
                                               {kClassMac, kMacTableSet, 0, 0, 0, 0, 0, 0, 0, 0},
                                               {kClassMac, kMacAddressSet, 2, 2, 2, 2, 2, 2},
                                               {kClassMac, 2},
                                               {kClassAnnounce, kAnnounceAck},
                                               {kClassMultiQueue, kMultiQueuePairsSet, 1, 0},
                                               {kClassMultiQueue, 1, 1, 0},
                                               {kClassGuestOffloads, 0, 0, 0, 0, 0, 0, 0, 0, 0},
                                               {2, 0, 1, 0},
                                               {0xff, 0xff},
                                               {0}}) {
    EXPECT_EQ(command(bytes), kAckError);
  }
  EXPECT_EQ(std::to_array(config().mac), kMac);
  // Without room for an answer; without a command; in pieces and with too much room.
  control_queue().add({{kControlData, 4}});
  control_queue().add({{kControlData, 1, kWrite}}, 1);
  control_queue().add({{kControlData, 1}, {kControlData + 1, 1}, {kControlData + 9, 9, kWrite}}, 2);
  const uint16_t before = control_queue().used_index();
  ring(2);
  EXPECT_TRUE(eventually(
      [&] { return control_queue().used_index() == static_cast<uint16_t>(before + 3); }));
  EXPECT_EQ(control_queue().used_length(before), 0u);
  EXPECT_EQ(control_queue().used_length(static_cast<uint16_t>(before + 1)), 1u);
  EXPECT_EQ(control_queue().used_length(static_cast<uint16_t>(before + 2)), 1u);
  EXPECT_EQ(host.failure(), "");
}

TEST(NetFeatures, OffloadsAreThoseOfTheNetworkThatTheOptionsAllow) {
  constexpr NetOffloads kAll{
      .checksum = true, .tso4 = true, .tso6 = true, .ecn = true, .ufo = true, .uso = true};
  constexpr uint64_t kTso = kFeatureHostTso4 | kFeatureHostTso6 | kFeatureHostEcn |
                            kFeatureGuestTso4 | kFeatureGuestTso6 | kFeatureGuestEcn;
  constexpr uint64_t kUfo =
      kFeatureHostUfo | kFeatureGuestUfo | kFeatureHostUso | kFeatureGuestUso4 | kFeatureGuestUso6;
  constexpr uint64_t kChecksum =
      kFeatureChecksum | kFeatureGuestChecksum | kFeatureControlGuestOffloads;
  const auto features = [](const NetOffloads& offloads, VirtioNet::Options options) {
    VirtioNet net(std::make_unique<SocketNetwork>(1, offloads), std::move(options));
    return net.features() & (kTso | kUfo | kChecksum);
  };
  EXPECT_EQ(features(kAll, {}), kTso | kUfo | kChecksum);
  EXPECT_EQ(features(kAll, {.tso = false}), kUfo | kChecksum);
  EXPECT_EQ(features(kAll, {.ufo = false}), kTso | kChecksum);
  EXPECT_EQ(features(kAll, {.checksum = false}), 0u);
  EXPECT_EQ(features({}, {}), 0u);
  EXPECT_EQ(features({.checksum = true, .tso4 = true}, {}),
            kChecksum | kFeatureHostTso4 | kFeatureGuestTso4);
}

TEST(NetFeatures, MtuAndPairs) {
  VirtioNet plain(std::make_unique<SocketNetwork>(), {});
  EXPECT_EQ(plain.features() & (kFeatureMtu | kFeatureMultiQueue), 0u);
  EXPECT_EQ(plain.queue_sizes(), (std::vector<uint16_t>{256, 256, 256}));
  VirtioNet other(std::make_unique<SocketNetwork>(uint16_t{2}), {.mtu = 9000, .queue_size = 512});
  EXPECT_EQ(other.features() & (kFeatureMtu | kFeatureMultiQueue),
            kFeatureMtu | kFeatureMultiQueue);
  EXPECT_EQ(other.queue_sizes(), std::vector<uint16_t>(5, 512));
  std::array<uint8_t, 2> mtu{};
  other.read_config(10, mtu);
  EXPECT_EQ(load<uint16_t>(mtu), 9000);
  for (const uint16_t size : {0, 1, 3, 65535}) {
    EXPECT_THROW(VirtioNet(std::make_unique<SocketNetwork>(), {.queue_size = size}), Error);
  }
}

/// Serves as vhost does: no thread here, and switching takes a while.
class KernelPair final : public NetPair {
 public:
  explicit KernelPair(std::atomic<int>& resumed) : resumed_(resumed) {}
  void pause() override {}
  void resume() noexcept override {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    touched_ = true;  // a use after free if it is gone
    ++resumed_;
  }
  void stop() noexcept override {}

 private:
  std::atomic<int>& resumed_;
  volatile bool touched_ = false;
};

class ResumedPairsTest : public NetTest {
 protected:
  /// The guest asks for fewer and more pairs just before each pause.
  void run(bool kernel_pairs) {
    auto owned = std::make_unique<SocketNetwork>(3, NetOffloads{}, true);
    network = owned.get();
    VirtioNet::Options options{.id = "_net0", .mac = kMac, .queue_size = 256};
    if (kernel_pairs) {
      options.make_pair = [this](const NetPairSetup& setup) -> std::unique_ptr<NetPair> {
        // As without a vector for the first pair's queues.
        if (setup.index == 0) return nullptr;
        return std::make_unique<KernelPair>(resumed);
      };
    }
    device = std::make_unique<VirtioNet>(std::move(owned), std::move(options));
    device->connect(host);
    activate(kFeatures | kFeatureMultiQueue, 256);
    ASSERT_EQ(command({kClassMultiQueue, kMultiQueuePairsSet, 3, 0}), kAckOk);
    for (int round = 0; round < 100; ++round) {
      pause(*device);
      const uint16_t before = control_queue().used_index();
      for (uint16_t i = 0; i < 8; ++i) {
        const GuestAddress at = kControlData + 0x100 * uint64_t{i};
        const auto pairs = static_cast<uint8_t>(i % 2 != 0 ? 3 : 1);
        write(at, {kClassMultiQueue, kMultiQueuePairsSet, pairs, 0});
        control_queue().add({{at, 4}, {at + 0x80, 1, kWrite}}, static_cast<uint16_t>(2 * i));
      }
      ring(queues.size() - 1);
      device->resume();
      ASSERT_TRUE(eventually(
          [&] { return static_cast<uint16_t>(control_queue().used_index() - before) == 8; }));
    }
  }
  std::atomic<int> resumed = 0;
};

TEST_F(ResumedPairsTest, OfThreads) { run(false); }

TEST_F(ResumedPairsTest, OfTheKernel) {
  run(true);
  EXPECT_EQ(resumed, 200);
}

TEST_F(NetTest, APauseThatIsTakenBackLeavesThePairsToTheGuest) {
  start({.pairs = 3, .features = kFeatures | kFeatureMultiQueue});
  for (uint8_t round = 0; round < 50; ++round) {
    device->begin_pause();
    device->resume();
    const auto pairs = static_cast<uint8_t>(1 + round % 3);
    ASSERT_EQ(command({kClassMultiQueue, kMultiQueuePairsSet, pairs, 0}), kAckOk);
  }
  send(packet(70));
  ring(1);
  EXPECT_EQ(expect_sent(), packet(70));
}

}  // namespace
}  // namespace tsvmm::virtio_test
