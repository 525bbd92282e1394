#include "vsock_fixture.h"

/// Guests that send what they must not, or more than anybody takes.
namespace tsvmm::virtio_test {
namespace {

TEST_F(VsockActiveTest, PacketsForNobody) {
  for (const auto operation :
       {Operation::kInvalid, Operation::kResponse, Operation::kShutdown, Operation::kData,
        Operation::kCreditUpdate, Operation::kCreditRequest, static_cast<Operation>(77)}) {
    guest.send(operation, 10, 20);
    const auto reset = guest.receive(Operation::kReset).value();
    EXPECT_EQ(reset.header.src_port, 20u);
    EXPECT_EQ(reset.header.dst_port, 10u);
  }
  guest.send(Operation::kReset, 10, 20);
  EXPECT_TRUE(guest.nothing());
}

TEST_F(VsockStreamTest, PacketsWithWrongAddresses) {
  Header header = guest.header(Operation::kData, stream);
  header.src_cid = 7;
  guest.send(header, "forged");
  EXPECT_TRUE(guest.nothing()) << "cannot be answered";
  header = guest.header(Operation::kRequest, stream);
  header.dst_cid = 1000;
  guest.send(header);
  EXPECT_EQ(guest.receive(Operation::kReset)->header.src_cid, 1000u);
  header = guest.header(Operation::kRequest, 1, 99);
  header.type = 2;
  guest.send(header);
  EXPECT_EQ(guest.receive(Operation::kReset)->header.type, 2u);
  guest.send_data(stream, "alive");
  EXPECT_EQ(stream.host.read(5), "alive");
}

TEST_F(VsockActiveTest, WhatBreaksAStreamEndsIt) {
  uint64_t count = 0;
  const auto expect_reset = [&](VsockGuest::Connection& stream) {
    EXPECT_TRUE(guest.receive(Operation::kReset)) << "case " << count;
    EXPECT_TRUE(stream.host.ended()) << "case " << count;
    ++count;
    EXPECT_TRUE(guest.streams(0));
  };
  for (const auto operation : {Operation::kInvalid, Operation::kRequest, Operation::kResponse,
                               static_cast<Operation>(9), static_cast<Operation>(0xffff)}) {
    auto stream = guest.accept_from_host(1);
    guest.send(operation, stream);
    expect_reset(stream);
  }
  {
    auto stream = guest.accept_from_host(1);
    guest.send(Operation::kShutdown, stream, vsock::kWillNotSend);
    EXPECT_TRUE(stream.host.ended());
    guest.send_data(stream, "no, more");
    expect_reset(stream);
  }
  for (const uint32_t length : {6U, 4096U, 0x80000000U, UINT32_MAX}) {
    auto stream = guest.accept_from_host(1);
    Header header = guest.header(Operation::kData, stream);
    header.len = length;
    guest.put(header, "short");
    guest.ring();
    EXPECT_TRUE(guest.all_taken());
    expect_reset(stream);
  }
  EXPECT_EQ(guest.host.failure(), "");
}

TEST_F(VsockStreamTest, BytesBehindThePayloadAreNothing) {
  Header header = guest.header(Operation::kData, stream);
  header.len = 4;
  guest.put(header, "goodbad");
  guest.ring();
  ASSERT_TRUE(guest.all_taken());
  guest.send_data(stream, " end");
  EXPECT_EQ(stream.host.read(8), "good end");
}

TEST_F(VsockTest, BrokenRingsFailTheDevice) {
  const std::vector<std::function<void()>> cases{
      [&] { guest.queues[0].set_available_index(5000); },
      [&] { guest.queues[1].set_available_index(5000); },
      [&] {
        guest.queues[1].add({{0x100000, 43}});
      },
      [&] {
        guest.queues[1].add({{0x100000, 4096, kWrite}});
      },
      [&] {
        guest.queues[0].add({{0x100000, 44, kWrite}});
      },
      [&] {
        guest.queues[0].add({{0x100000, 4096}});
      },
      [&] {
        guest.queues[0].add({{uint64_t{1} << 40, 4096, kWrite}});
      },
  };
  for (const auto& breaks : cases) {
    guest.host.failures.clear();
    guest.activate();
    HostSocket client = guest.ask_for(1);
    breaks();
    guest.ring();
    guest.doorbells[0].signal();
    EXPECT_TRUE(eventually([&] { return !guest.host.failure().empty(); }));
    EXPECT_TRUE(settles_down());
    guest.device->reset();
  }
  guest.host.failures.clear();
  start();
  // Clients of before may still be asking.
  while (guest.receive(50)) {
  }
  auto stream = guest.accept_from_host(50);
  EXPECT_EQ(guest.host.failure(), "");
  guest.queues[1].set_available_index(5000);
  guest.ring();
  EXPECT_TRUE(stream.host.ended());
}

TEST(VsockTiming, IsWhatClientsExpect) {
  EXPECT_EQ(VirtioVsock::Options{}.timeout, std::chrono::seconds(2));
}

TEST_F(VsockTest, AFloodThatNobodyAnswersIsBounded) {
  guest.activate();
  // Each wants a reset, for which there is no buffer.
  constexpr uint32_t kMost = 1024;
  for (uint32_t i = 0; i <= kMost; ++i) {
    ASSERT_TRUE(guest.all_taken()) << i;
    guest.put(guest.header(Operation::kData, i, 1));
    guest.ring();
  }
  EXPECT_FALSE(guest.all_taken(50));
  EXPECT_TRUE(settles_down());
  guest.post(200);
  for (uint32_t i = 0; i <= kMost; ++i) ASSERT_TRUE(guest.receive(Operation::kReset)) << i;
  EXPECT_TRUE(guest.all_taken());
}

TEST_F(VsockTest, ManyStreamsAndNotOneMore) {
  start(200);
  HostSocket listener = HostSocket::listen(guest.path + "_5", 2000);
  constexpr uint32_t kMax = 1023;
  std::vector<VsockGuest::Connection> streams;
  for (uint32_t i = 0; i < kMax; ++i) {
    streams.push_back(guest.connect_to_host(listener, 1000 + i, 5));
  }
  EXPECT_EQ(guest.counter("streams"), kMax);
  guest.send(Operation::kRequest, 1, 5);
  EXPECT_TRUE(guest.receive(Operation::kReset));
  EXPECT_TRUE(HostSocket::connect(guest.path).ended());
  for (uint32_t i = 0; i < kMax; i += 97) {
    guest.send_data(streams[i], pattern(i, 0, 100));
    EXPECT_EQ(streams[i].host.read(100), pattern(i, 0, 100));
    streams[i].host.write(pattern(i, 0, 50));
    const auto packet = guest.receive(Operation::kData).value();
    EXPECT_EQ(packet.header.dst_port, 1000 + i);
    EXPECT_EQ(packet.data, pattern(i, 0, 50));
  }
  guest.send(Operation::kReset, streams[0]);
  EXPECT_TRUE(guest.streams(kMax - 1));
  (void)guest.accept_from_host(77);
}

}  // namespace
}  // namespace tsvmm::virtio_test
