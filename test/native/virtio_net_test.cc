#include <deque>
#include <random>

#include "virtio_net_fixture.h"

namespace tsvmm::virtio_test {
namespace {

using namespace virtio_net;

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

TEST_F(NetTest, ResetsWhileAPauseHasBegunThatOthersKeptFromItsEnd) {
  start({});
  device->begin_pause();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(device->try_reset(Deadline::after(std::chrono::seconds(10))));
}

TEST_F(NetTest, LetsGoOfItsNetworkBeforeItIsGoneItself) {
  start();
  const UniqueFd far = network->other_end();
  device->reset();
  std::array<uint8_t, 1> byte{};
  EXPECT_EQ(::recv(far.get(), byte.data(), byte.size(), MSG_DONTWAIT), -1);
  EXPECT_TRUE(device->try_close(Deadline::never()));
  EXPECT_EQ(::recv(far.get(), byte.data(), byte.size(), MSG_DONTWAIT), 0);
  EXPECT_EQ(counter("tx_frames"), 0u);
  device->reset();
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

}  // namespace
}  // namespace tsvmm::virtio_test
