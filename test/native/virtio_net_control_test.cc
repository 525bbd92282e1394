#include "message_test_support.h"
#include "virtio_net_fixture.h"

/// What a driver asks of a network device by its control queue, and what it makes of its pairs.
namespace tsvmm::virtio_test {
namespace {

using namespace virtio_net;

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
