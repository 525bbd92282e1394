#include "vsock_fixture.h"

namespace tsvmm::virtio_test {
namespace {

constexpr uint32_t kFirstHostPort = 1U << 30;

TEST_F(VsockTest, HasTheGuestsCidInItsConfiguration) {
  ASSERT_EQ(guest.device->config_size(), 8u);
  std::array<uint8_t, 8> bytes{};
  guest.device->read_config(0, bytes);
  EXPECT_EQ(load<uint64_t>(bytes), VsockGuest::kCid);
  std::array<uint8_t, 3> part{};
  guest.device->read_config(5, part);
  EXPECT_EQ(part, (std::array<uint8_t, 3>{}));
}

TEST_F(VsockActiveTest, AHostClientReachesTheGuest) {
  auto stream = guest.accept_from_host(1234);
  EXPECT_EQ(stream.host_port, kFirstHostPort);
  stream.host.write("hello, guest");
  auto packet = guest.receive(Operation::kData).value();
  EXPECT_EQ(packet.data, "hello, guest");
  EXPECT_EQ(packet.header.src_cid, vsock::kHostCid);
  EXPECT_EQ(packet.header.dst_cid, VsockGuest::kCid);
  EXPECT_EQ(packet.header.src_port, stream.host_port);
  EXPECT_EQ(packet.header.dst_port, 1234u);
  EXPECT_EQ(packet.header.type, vsock::kTypeStream);
  EXPECT_GE(packet.header.buf_alloc, 65536u);
  guest.send_data(stream, "hello, host");
  EXPECT_EQ(stream.host.read(11), "hello, host");
  EXPECT_EQ(guest.accept_from_host(1234).host_port, kFirstHostPort + 1);
  EXPECT_EQ(guest.counter("rx_bytes"), 12u);
  EXPECT_EQ(guest.counter("tx_bytes"), 11u);
  EXPECT_EQ(guest.counter("streams_opened"), 2u);
}

TEST_F(VsockActiveTest, TheGuestReachesAHostProgram) {
  HostSocket listener = server(99);
  auto stream = guest.connect_to_host(listener, 5000, 99);
  guest.send_data(stream, "ping");
  EXPECT_EQ(stream.host.read(4), "ping");
  stream.host.write("pong");
  EXPECT_EQ(guest.receive(Operation::kData)->data, "pong");
  EXPECT_EQ(guest.counter("streams"), 1u);
}

TEST_F(VsockActiveTest, NobodyListening) {
  guest.send(Operation::kRequest, 5000, 98);
  const auto reset = guest.receive(Operation::kReset).value();
  EXPECT_EQ(reset.header.src_port, 98u);
  EXPECT_EQ(reset.header.dst_port, 5000u);
  EXPECT_EQ(reset.header.src_cid, vsock::kHostCid);
  EXPECT_TRUE(guest.streams(0));
}

TEST_F(VsockActiveTest, WaitsForABusyListener) {
  HostSocket listener = HostSocket::listen(guest.path + "_7", 0);
  HostSocket first = HostSocket::connect(guest.path + "_7");
  guest.send(Operation::kRequest, 1, 7);
  EXPECT_TRUE(guest.nothing());
  (void)listener.accept();
  EXPECT_TRUE(guest.receive(Operation::kResponse));
}

TEST_F(TimedVsockTest, GivesUpOnAListenerThatStaysBusy) {
  start();
  HostSocket listener = HostSocket::listen(guest.path + "_7", 0);
  HostSocket first = HostSocket::connect(guest.path + "_7");
  guest.send(Operation::kRequest, 1, 7);
  EXPECT_TRUE(guest.receive(Operation::kReset));
}

TEST_F(VsockActiveTest, AGuestMayRefuse) {
  HostSocket client = guest.ask_for(1);
  const auto request = guest.receive(Operation::kRequest).value();
  guest.send(Operation::kReset, 1, request.header.src_port);
  EXPECT_TRUE(client.ended());
  EXPECT_TRUE(guest.streams(0));
  EXPECT_TRUE(guest.nothing());
}

TEST_F(TimedVsockTest, AGuestThatDoesNotAnswer) {
  start();
  HostSocket client = guest.ask_for(1);
  EXPECT_TRUE(guest.receive(Operation::kRequest));
  expect_end_after_a_while(client);
  EXPECT_TRUE(guest.receive(Operation::kReset));
}

TEST_F(VsockTest, ClientsWaitForTheDriver) {
  HostSocket client = guest.ask_for(1);
  EXPECT_TRUE(client.silent());
  start();
  EXPECT_TRUE(guest.receive(Operation::kRequest));
}

TEST_F(VsockTest, NobodyWaitsForADriverOfADeviceThatIsClosed) {
  HostSocket client = guest.ask_for(1);
  guest.listener.close();
  EXPECT_TRUE(client.silent());
  EXPECT_TRUE(guest.device->try_close(Deadline::never()));
  EXPECT_TRUE(client.ended());
}

TEST_F(VsockTest, ManyClientsAtOnce) {
  std::vector<HostSocket> clients;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(guest.ask_for(1));
  }
  start();
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(guest.receive(Operation::kRequest)) << i;
}

TEST_F(VsockActiveTest, DataRightBehindTheLineIsTheGuests) {
  HostSocket client = HostSocket::connect(guest.path);
  client.write("CONNECT 1\nearly");
  client.write(" bird");
  client.stop_sending();
  const auto request = guest.receive(Operation::kRequest).value();
  EXPECT_TRUE(guest.nothing()) << "no data before the guest has accepted";
  guest.send(Operation::kResponse, 1, request.header.src_port);
  EXPECT_EQ(guest.receive(Operation::kData)->data, "early bird");
  EXPECT_EQ(guest.receive(Operation::kShutdown)->header.flags, vsock::kWillNotSend);
  EXPECT_EQ(client.read(14), "OK 1073741824\n");
}

TEST_F(VsockActiveTest, ALineMayComeInPieces) {
  HostSocket client = HostSocket::connect(guest.path);
  for (const char c : std::string(" connect\t77 \r")) {
    client.write({&c, 1});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(guest.nothing());
  client.write("\n");
  EXPECT_EQ(guest.receive(Operation::kRequest)->header.dst_port, 77u);
}

TEST_F(VsockActiveTest, WrongLinesAreClosedInSilence) {
  for (const char* line :
       {"\n", "CONNECT\n", "CONNECT \n", "CONNECT x\n", "CONNECT 1 2\n", "CONNECT -1\n",
        "CONNECT 4294967296\n", "CONNECTS 1\n", "GET / HTTP/1.1\r\n", "CONNECT 0x10\n",
        "CONNECT 11111111111111111111111111", "\0\0\0\0\n"}) {
    HostSocket client = HostSocket::connect(guest.path);
    client.write(line);
    if (line[0] == '\0') client.write({"\0\0\n", 3});
    EXPECT_TRUE(client.ended()) << line;
  }
  EXPECT_TRUE(guest.nothing());
  EXPECT_TRUE(guest.streams(0));
}

TEST_F(VsockActiveTest, ClientsThatGoBeforeTheirLineEnds) {
  for (const char* text : {"", "CONN", "CONNECT 1"}) {
    HostSocket client = HostSocket::connect(guest.path);
    client.write(text);
    client.close();
    EXPECT_TRUE(guest.streams(0)) << text;
    HostSocket half = HostSocket::connect(guest.path);
    half.write(text);
    half.stop_sending();
    EXPECT_TRUE(half.ended()) << text;
  }
  EXPECT_TRUE(guest.nothing());
}

TEST_F(TimedVsockTest, ASilentClientIsNotWaitedForLong) {
  start();
  HostSocket client = HostSocket::connect(guest.path);
  client.write("CONNECT 1");
  expect_end_after_a_while(client);
}

TEST_F(VsockActiveTest, AClientThatGoesWhileTheGuestIsAsked) {
  {
    HostSocket client = guest.ask_for(1);
    EXPECT_TRUE(guest.receive(Operation::kRequest));
  }
  EXPECT_TRUE(guest.receive(Operation::kReset));
  EXPECT_TRUE(guest.streams(0));
}

TEST_F(VsockStreamTest, TheHostMayStopSendingOnly) {
  stream.host.write("last words");
  stream.host.stop_sending();
  EXPECT_EQ(guest.receive(Operation::kData)->data, "last words");
  EXPECT_EQ(guest.receive(Operation::kShutdown)->header.flags, vsock::kWillNotSend);
  guest.send_data(stream, "still here");
  EXPECT_EQ(stream.host.read(10), "still here");
  guest.send(Operation::kShutdown, stream, vsock::kShutdownBoth);
  EXPECT_TRUE(stream.host.ended());
  EXPECT_TRUE(guest.receive(Operation::kReset));
  EXPECT_TRUE(guest.streams(0));
}

TEST_F(VsockStreamTest, TheGuestMayStopSendingOnly) {
  guest.send_data(stream, "last words");
  guest.send(Operation::kShutdown, stream, vsock::kWillNotSend);
  EXPECT_EQ(stream.host.read(11), "last words");
  stream.host.write("still here");
  EXPECT_EQ(guest.receive(Operation::kData)->data, "still here");
  stream.host.close();
  expect_close_by_the_host();
  guest.send(Operation::kReset, stream);
  EXPECT_TRUE(guest.streams(0));
}

TEST_F(VsockStreamTest, TheGuestMayStopReceivingOnly) {
  guest.send(Operation::kShutdown, stream, vsock::kWillNotReceive);
  EXPECT_TRUE(eventually([&] { return stream.host.offer("x") == 0 && errno == EPIPE; }));
  guest.send_data(stream, "I talk");
  EXPECT_EQ(stream.host.read(6), "I talk");
  EXPECT_TRUE(guest.nothing());
}

TEST_F(VsockStreamTest, TheHostClosesAndTheGuestConfirms) {
  stream.host.write("all");
  stream.host.close();
  EXPECT_EQ(guest.receive(Operation::kData)->data, "all");
  expect_close_by_the_host();
  guest.send_data(stream, "too late, but no sin");
  guest.send(Operation::kReset, stream);
  EXPECT_TRUE(guest.streams(0));
  EXPECT_TRUE(guest.nothing());
}

TEST_F(TimedVsockTest, AGuestThatDoesNotConfirmIsReset) {
  start();
  auto stream = guest.accept_from_host(1);
  stream.host.close();
  std::optional<Packet> packet;
  do {
    packet = guest.receive();
  } while (packet && packet->operation() == Operation::kShutdown);
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->operation(), Operation::kReset);
  EXPECT_TRUE(guest.streams(0));
}

TEST_F(VsockStreamTest, WhatTheGuestSentBeforeClosingArrives) {
  // More than the socket takes, so that a part is still here when the guest has closed.
  std::string sent;
  while (sent.size() < (1 << 20)) {
    const std::string piece = pattern(1, sent.size(), 60000);
    guest.begin_data(stream, piece);
    if (!guest.all_taken()) break;
    sent += piece;
    if (guest.counter("tx_bytes") + 100000 < sent.size()) break;
  }
  EXPECT_LT(guest.counter("tx_bytes"), sent.size());
  guest.send(Operation::kShutdown, stream, vsock::kShutdownBoth);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(guest.counter("streams"), 1u) << "not before the host has all";
  EXPECT_EQ(stream.host.read(sent.size()), sent);
  EXPECT_TRUE(stream.host.ended());
  EXPECT_TRUE(guest.streams(0));
}

TEST_F(TimedVsockTest, AClosedStreamThatNobodyReadsEnds) {
  start();
  auto stream = guest.accept_from_host(1);
  auto other = guest.accept_from_host(2);
  uint64_t sent = 0;
  while (guest.counter("tx_bytes") >= sent && sent < (4 << 20)) {
    guest.send_data(stream, std::string(20000, 'x'));
    sent += 20000;
  }
  guest.send(Operation::kShutdown, stream, vsock::kShutdownBoth);
  EXPECT_TRUE(guest.streams(1)) << "after a while";
  guest.send_data(other, "fine");
  EXPECT_EQ(other.host.read(4), "fine");
}

TEST_F(VsockStreamTest, PacketsInManyPieces) {
  guest.send_data(stream, "one two three", {1, 2, 3, 30, 6, 4, 3, 2});
  EXPECT_EQ(stream.host.read(13), "one two three");
  guest.send_data(stream, "header apart", {44});
  EXPECT_EQ(stream.host.read(12), "header apart");
  const std::string text = pattern(3, 0, 240);
  guest.send_data(stream, text, std::vector<uint32_t>(250, 1));
  EXPECT_EQ(stream.host.read(text.size()), text);
  // Empty packets are nothing.
  guest.send_data(stream, "");
  guest.send_data(stream, "x");
  EXPECT_EQ(stream.host.read(1), "x");
}

TEST_F(VsockTest, ReceiveBuffersInPieces) {
  guest.activate();
  guest.repost = false;
  // The header in a buffer of its own, as older Linux drivers have it, or cut anywhere.
  const GuestAddress at = VsockGuest::kReceiveData;
  guest.queues[0].add({{at, 44, kWrite}, {at + 44, 100, kWrite}}, 0);
  guest.queues[0].add({{at + 0x10000, 20, kWrite}, {at + 0x10000 + 20, 50, kWrite}}, 2);
  guest.doorbells[0].signal();
  HostSocket client = guest.ask_for(1);
  ASSERT_TRUE(eventually([&] { return guest.queues[0].used_index() == 1; }));
  const auto request = guest.memory.read<Header>(at).value();
  guest.send(Operation::kResponse, 1, request.src_port);
  client.write(pattern(5, 0, 26));
  ASSERT_TRUE(eventually([&] { return guest.queues[0].used_index() == 2; }));
  const auto bytes = guest.memory.slice(at + 0x10000 + 44, 26).value();
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), pattern(5, 0, 26));
  EXPECT_EQ(guest.queues[0].used_length(1), 70u);
}

TEST_F(VsockTest, ALargeReadFillsManyBuffers) {
  start(128);
  auto stream = guest.accept_from_host(1);
  const std::string text = pattern(9, 0, 300000);
  std::thread writer([&] { stream.host.write(text); });
  std::string got;
  while (got.size() < text.size()) {
    const auto packet = guest.receive(Operation::kData);
    if (!packet) break;
    got += packet->data;
  }
  writer.join();
  EXPECT_EQ(got, text);
}

TEST_F(VsockActiveTest, RespectsTheGuestsCredit) {
  auto stream = guest.accept_from_host(1, 1000);
  const std::string text = pattern(2, 0, 2500);
  stream.host.write(text);
  EXPECT_EQ(guest.receive(Operation::kData)->data, text.substr(0, 1000));
  EXPECT_TRUE(guest.receive(Operation::kCreditRequest)) << "once";
  EXPECT_TRUE(guest.nothing(100));
  Header update = guest.header(Operation::kCreditUpdate, stream);
  update.buf_alloc = 1000;
  update.fwd_cnt = 300;
  guest.send(update);
  EXPECT_EQ(guest.receive(Operation::kData)->data, text.substr(1000, 300));
  // Numbers that make no sense are no credit.
  update.fwd_cnt = 5000;
  guest.send(update);
  EXPECT_TRUE(guest.receive(Operation::kCreditRequest));
  EXPECT_TRUE(guest.nothing(100));
  update.fwd_cnt = 1300;
  update.buf_alloc = 4000;
  guest.send(update);
  EXPECT_EQ(guest.receive(Operation::kData)->data, text.substr(1300));
}

TEST_F(VsockStreamTest, TellsItsOwnCredit) {
  guest.send(Operation::kCreditRequest, stream);
  const auto update = guest.receive(Operation::kCreditUpdate).value();
  EXPECT_EQ(update.header.fwd_cnt, 0u);
  const uint32_t room = update.header.buf_alloc;
  // Without being asked before half of the room is used up.
  uint32_t sent = 0;
  uint32_t told = 0;
  std::thread reader([&] { EXPECT_EQ(stream.host.read(4 * room).size(), 4 * room); });
  while (sent < 4 * room) {
    ASSERT_LE(sent - told, room);
    guest.send_data(stream, std::string(8192, 'x'));
    sent += 8192;
    while (const auto packet = guest.receive(sent - told >= room ? kTestTimeoutMs : 0)) {
      EXPECT_EQ(packet->operation(), Operation::kCreditUpdate);
      told = packet->header.fwd_cnt;
      EXPECT_LE(told, sent);
    }
  }
  reader.join();
  EXPECT_EQ(guest.counter("resets_sent"), 0u);
}

TEST_F(VsockStreamTest, MoreThanItsCreditIsTheEndOfAStream) {
  auto other = guest.accept_from_host(2);
  for (int i = 0; i < 200 && guest.counter("resets_sent") == 0; ++i) {
    guest.send_data(stream, std::string(65536, 'x'));
    ASSERT_EQ(guest.host.failure(), "");
  }
  EXPECT_TRUE(eventually([&] { return guest.counter("resets_sent") != 0; }));
  EXPECT_TRUE(guest.streams(1));
  guest.send_data(other, "untouched");
  EXPECT_EQ(other.host.read(9), "untouched");
}

TEST_F(VsockActiveTest, AHostProgramThatDoesNotRead) {
  auto stuck = guest.accept_from_host(1);
  auto other = guest.accept_from_host(2);
  guest.send(Operation::kCreditRequest, stuck);
  const uint32_t room = guest.receive(Operation::kCreditUpdate)->header.buf_alloc;
  // Credit is told as long as the socket takes data.
  uint32_t sent = 0;
  uint32_t told = 0;
  const auto full = [&] { return sent - told + 16384 > room; };
  for (;;) {
    while (const auto packet = guest.receive(full() ? 500 : 0)) {
      if (packet->operation() == Operation::kCreditUpdate) told = packet->header.fwd_cnt;
    }
    if (full()) break;
    guest.send_data(stuck, pattern(1, sent, 16384));
    sent += 16384;
  }
  EXPECT_GT(sent, room);
  EXPECT_TRUE(settles_down());
  guest.send_data(other, "not held up");
  EXPECT_EQ(other.host.read(11), "not held up");
  other.host.write("nor here");
  EXPECT_EQ(guest.receive(Operation::kData)->data, "nor here");
  // At last.
  EXPECT_EQ(stuck.host.read(sent), pattern(1, 0, sent));
  EXPECT_TRUE(eventually([&] {
    const auto packet = guest.receive(10);
    return packet && packet->operation() == Operation::kCreditUpdate &&
           packet->header.fwd_cnt == sent;
  }));
  guest.send_data(stuck, "goes on");
  EXPECT_EQ(stuck.host.read(7), "goes on");
}

TEST_F(VsockTest, AGuestWithoutReceiveBuffers) {
  guest.activate();
  guest.repost = false;
  guest.post(1);
  auto stream = guest.accept_from_host(1);
  std::string sent;
  while (stream.host.wait(POLLOUT, 50)) {
    const std::string piece = pattern(4, sent.size(), 10000);
    sent += piece.substr(0, stream.host.offer(piece));
  }
  EXPECT_TRUE(settles_down());
  guest.send_data(stream, "the other way is open");
  EXPECT_EQ(stream.host.read(21), "the other way is open");
  guest.repost = true;
  guest.post(32);
  std::string got;
  while (got.size() < sent.size()) {
    const auto packet = guest.receive(Operation::kData);
    if (!packet) break;
    got += packet->data;
  }
  EXPECT_EQ(got, sent);
}

TEST_F(VsockActiveTest, AGuestWithoutCredit) {
  auto stream = guest.accept_from_host(1, 0);
  while (stream.host.wait(POLLOUT, 50)) stream.host.offer(std::string(10000, 'x'));
  EXPECT_TRUE(guest.receive(Operation::kCreditRequest));
  EXPECT_TRUE(guest.nothing());
  EXPECT_TRUE(settles_down());
}

TEST_F(VsockStreamTest, ResetClosesStreamsAndKeepsTheListener) {
  HostSocket asking = guest.ask_for(1);
  EXPECT_TRUE(guest.receive(Operation::kRequest));
  guest.device->reset();
  EXPECT_TRUE(stream.host.ended());
  EXPECT_TRUE(asking.ended());
  EXPECT_EQ(guest.counter("streams"), 0u);
  HostSocket patient = guest.ask_for(3);
  start();
  EXPECT_EQ(guest.receive(Operation::kRequest)->header.dst_port, 3u);
}

TEST_F(VsockStreamTest, ATransportResetIsTold) {
  guest.device->reset_transport();
  EXPECT_TRUE(stream.host.ended());
  EXPECT_EQ(guest.queues[2].used_index(), 0u) << "no buffer for it yet";
  const GuestAddress at = 0x80000;
  ASSERT_TRUE(guest.memory.write<uint32_t>(at, 0xffffffff));
  guest.queues[2].add({{at, 1, kWrite}, {at + 1, 7, kWrite}}, 0);
  guest.doorbells[2].signal();
  ASSERT_TRUE(eventually([&] { return guest.queues[2].used_index() == 1; }));
  EXPECT_EQ(guest.queues[2].used_length(0), 4u);
  EXPECT_EQ(guest.memory.read<uint32_t>(at), 0u);
  EXPECT_TRUE(guest.nothing()) << "and no resets besides";
  guest.queues[2].add({{at, 3, kWrite}}, 8);
  guest.device->reset_transport();
  EXPECT_TRUE(eventually([&] { return !guest.host.failure().empty(); }));
}

TEST(VsockPause, NothingMovesAndNoTimePasses) {
  VsockGuest guest(std::chrono::seconds(1));
  guest.activate();
  guest.post(64);
  auto stream = guest.accept_from_host(1);
  HostSocket asking = guest.ask_for(1);
  EXPECT_TRUE(guest.receive(Operation::kRequest));
  pause(*guest.device);
  stream.host.write("later");
  EXPECT_TRUE(guest.nothing(1200));
  guest.device->resume();
  EXPECT_EQ(guest.receive(Operation::kData)->data, "later");
  EXPECT_TRUE(asking.silent()) << "its time is not over";
  pause(*guest.device);
  guest.device->reset();
  EXPECT_TRUE(stream.host.ended());
}

/// Of a machine whose pause failed because of another device.
TEST_F(TimedVsockTest, AResumeWithoutAPauseMovesNoDeadline) {
  start();
  HostSocket client = HostSocket::connect(guest.path);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  guest.device->resume();
  expect_end_after_a_while(client);
}

TEST_F(TimedVsockTest, APauseThatIsTakenBackMovesNoDeadline) {
  start();
  HostSocket client = HostSocket::connect(guest.path);
  guest.device->begin_pause();
  guest.device->resume();
  expect_end_after_a_while(client);
}

/// Streams that end while the guest has no buffers become resets: their clients are not accepted
/// without end.
TEST_F(TimedVsockTest, ResetsOfStreamsThatTheGuestNeverHeardOfAreNotKept) {
  start(0);
  constexpr int kClients = 200;
  for (int round = 0; round < 2; ++round) {
    std::vector<HostSocket> clients;
    for (int i = 0; i < kClients; ++i) clients.push_back(guest.ask_for(1));
    for (HostSocket& client : clients) EXPECT_TRUE(client.ended());
  }
  guest.post(64);
  EXPECT_TRUE(guest.nothing()) << "the guest knows nothing of them";
  EXPECT_EQ(guest.counter("resets_sent"), 0u);
}

TEST_F(VsockTest, ClientsWaitWhileResetsDo) {
  guest.activate();
  constexpr uint32_t kMost = 1024;
  for (uint32_t i = 0; i < kMost; ++i) {
    guest.put(guest.header(Operation::kData, i, 1));
    guest.ring();
    ASSERT_TRUE(guest.all_taken()) << i;
  }
  HostSocket client = guest.ask_for(7);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(guest.counter("streams"), 0u);
  guest.post(200);
  for (uint32_t i = 0; i < kMost; ++i) ASSERT_TRUE(guest.receive(Operation::kReset)) << i;
  EXPECT_EQ(guest.receive(Operation::kRequest)->header.dst_port, 7u);
}

TEST_F(VsockStreamTest, PausingReturnsWhatTheSocketDidNotTake) {
  uint32_t sent = 0;
  for (; guest.counter("tx_bytes") >= sent && sent < (4 << 20); sent += 32768) {
    guest.begin_data(stream, pattern(6, sent, 32768));
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  pause(*guest.device);
  EXPECT_TRUE(guest.all_taken(0));
  guest.device->resume();
  EXPECT_EQ(stream.host.read(sent), pattern(6, 0, sent));
}

TEST_F(VsockTest, StreamsTakeTurns) {
  start(16);
  auto bulk = guest.accept_from_host(1, UINT32_MAX);
  auto small = guest.accept_from_host(2);
  std::atomic<bool> done = false;
  std::thread flood([&] {
    const std::string piece(64 * 1024, 'x');
    while (!done) {
      if (bulk.host.offer(piece) == 0) std::this_thread::yield();
    }
  });
  (void)guest.receive(Operation::kData);
  small.host.write("me too");
  int before = 0;
  for (;; ++before) {
    const auto packet = guest.receive(Operation::kData);
    if (!packet || packet->header.dst_port == 2) break;
  }
  done = true;
  flood.join();
  EXPECT_LT(before, 500);
}

TEST_F(VsockTest, LivesWithoutSomeOfItsQueues) {
  for (int missing = 0; missing < 3; ++missing) {
    Activation activation{guest.memory, VsockGuest::kFeatures, {}};
    for (uint16_t i = 0; i < 3; ++i) {
      if (i == missing) continue;
      activation.queues.push_back({i, guest.queues[i].config(), &guest.doorbells[i],
                                   &guest.interrupts[i], &guest.states[i]});
    }
    guest.device->activate(activation);
    HostSocket client = guest.ask_for(1);
    guest.device->reset_transport();
    for (const auto& doorbell : guest.doorbells) doorbell.signal();
    pause(*guest.device);
    guest.device->resume();
    guest.device->reset();
  }
}

}  // namespace
}  // namespace tsvmm::virtio_test
