#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <future>
#include <thread>

#include "device/serial.h"
#include "device/socket_backend.h"
#include "device_test_support.h"

namespace tsvmm {
namespace {

class SocketBackendTest : public testing::Test {
 protected:
  SocketBackendTest() : listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address.sun_family = AF_UNIX;
    // An abstract address, chosen by the kernel: nothing to clean up.
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)),
              0);
    length = sizeof address;
    ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length);
    EXPECT_EQ(::listen(listener.get(), 8), 0);
  }
  ~SocketBackendTest() override { loop.stop(); }

  UniqueFd connect() const {
    UniqueFd peer(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(peer.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
    return peer;
  }
  /// One that only reads: its own name says so.
  UniqueFd connect_reader(const std::string& name) const {
    UniqueFd peer(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un own{};
    own.sun_family = AF_UNIX;
    std::memcpy(&own.sun_path[1], name.data(), name.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    EXPECT_EQ(::bind(peer.get(), reinterpret_cast<const sockaddr*>(&own), size), 0);
    EXPECT_EQ(::connect(peer.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
    return peer;
  }
  UniqueFd connect_reader() const {
    static int number = 0;
    return connect_reader("tsvmm-reader." + std::to_string(::getpid()) + "." +
                          std::to_string(number++));
  }
  static std::string take(const UniqueFd& peer, size_t count) {
    return read_exactly(peer.get(), count);
  }
  static bool ended(const UniqueFd& peer) {
    char byte;
    return readable(peer.get()) && ::read(peer.get(), &byte, 1) <= 0;
  }
  static void send(const UniqueFd& peer, std::string_view text) {
    ASSERT_EQ(::send(peer.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  void settle() {
    for (int i = 0; i < 3; ++i) loop.call([] {});
  }

  EventLoop loop{"test-loop"};
  RecordingClient client;
  UniqueFd listener;
  sockaddr_un address{};
  socklen_t length = 0;
};

TEST_F(SocketBackendTest, OutputIsReplayedToEachNewPeer) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  EXPECT_EQ(backend.write(bytes_of("boot ")), 5U);
  UniqueFd first = connect();
  EXPECT_EQ(take(first, 5), "boot ");
  EXPECT_EQ(backend.write(bytes_of("login:")), 6U);
  EXPECT_EQ(take(first, 6), "login:");
  first.reset();
  settle();
  EXPECT_EQ(backend.write(bytes_of("!")), 1U);
  const UniqueFd second = connect();
  EXPECT_EQ(take(second, 12), "boot login:!");
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, APeerThatWaitsToBeAcceptedGetsTheOutputAtTheEnd) {
  UniqueFd first;
  UniqueFd last;
  {
    SocketBackend backend(listener.get(), loop);
    backend.attach(&client);
    loop.stop();  // it is busy, and hears of nobody
    first = connect();
    last = connect();
    EXPECT_EQ(backend.write(bytes_of("last words")), 10U);
    backend.attach(nullptr);
  }
  EXPECT_TRUE(ended(first));
  EXPECT_EQ(take(last, 10), "last words");
  EXPECT_TRUE(ended(last));
}

TEST_F(SocketBackendTest, ANewPeerReplacesTheOld) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  const UniqueFd first = connect();
  send(first, "1");
  EXPECT_TRUE(eventually([&] { return client.received() == "1"; }));
  const UniqueFd second = connect();
  EXPECT_TRUE(ended(first));
  send(second, "2");
  EXPECT_TRUE(eventually([&] { return client.received() == "12"; }));
  backend.write(bytes_of("x"));
  EXPECT_EQ(take(second, 1), "x");
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, ManyPeersInARow) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  std::string sent;
  for (int i = 0; i < 50; ++i) {
    const UniqueFd peer = connect();
    const std::string text(1, static_cast<char>('A' + i % 26));
    sent += text;
    send(peer, text);
    EXPECT_TRUE(eventually([&] { return client.received() == sent; })) << i;
    backend.write(bytes_of(text));
  }
  const UniqueFd last = connect();
  EXPECT_EQ(take(last, 50), sent);
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, ReplayStartsAtTheOldestByteKept) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  backend.write(bytes_of(std::string(SocketBackend::kRingSize, 'o')));
  backend.write(bytes_of("new"));
  const UniqueFd peer = connect();
  const std::string text = take(peer, SocketBackend::kRingSize);
  ASSERT_EQ(text.size(), SocketBackend::kRingSize);
  EXPECT_EQ(text.substr(text.size() - 4), "onew");
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, SlowPeerIsRefusedAndLosesNothing) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  const UniqueFd peer = connect();
  send(peer, "?");
  EXPECT_TRUE(eventually([&] { return client.received() == "?"; }));
  const std::string expected = fill(backend);
  const int ready = client.ready();
  EXPECT_TRUE(take(peer, expected.size()) == expected);
  EXPECT_TRUE(eventually([&] { return client.ready() > ready; }));
  EXPECT_EQ(backend.write(bytes_of("z")), 1U);
  EXPECT_EQ(take(peer, 1), "z");
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, PeerThatLeavesReleasesAStalledGuest) {
  auto owned = std::make_unique<SocketBackend>(listener.get(), loop);
  SocketBackend& backend = *owned;
  RecordingLine line;
  Serial serial(line, std::move(owned));
  UniqueFd peer = connect();
  send(peer, "?");
  EXPECT_TRUE(eventually([&] { return (read8(serial, 5) & 1) != 0; }));
  expect_release_of_a_stalled_guest(serial, backend, [&] { peer.reset(); });
}

TEST_F(SocketBackendTest, HalfClosedPeerStillGetsOutput) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  const UniqueFd peer = connect();
  send(peer, "cmd");
  ::shutdown(peer.get(), SHUT_WR);
  EXPECT_TRUE(eventually([&] { return client.received() == "cmd"; }));
  settle();
  backend.write(bytes_of("answer"));
  EXPECT_EQ(take(peer, 6), "answer");
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, InputOfAPeerThatLeftIsKeptUntilThereIsRoom) {
  SocketBackend backend(listener.get(), loop);
  client.set_room(2);
  backend.attach(&client);
  {
    const UniqueFd peer = connect();
    send(peer, "abcdef");
  }
  EXPECT_TRUE(eventually([&] { return client.received() == "ab"; }));
  settle();
  client.set_room(3);
  backend.input_wanted();
  EXPECT_TRUE(eventually([&] { return client.received() == "abcde"; }));
  client.set_room(10);
  backend.input_wanted();
  EXPECT_TRUE(eventually([&] { return client.received() == "abcdef"; }));
  EXPECT_EQ(client.overruns(), 0);
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, IdleAfterAHangUpCostsNothing) {
  SocketBackend backend(listener.get(), loop);
  client.set_room(0);
  backend.attach(&client);
  {
    const UniqueFd peer = connect();
    send(peer, "no room");
  }
  settle();
  EXPECT_TRUE(settles_down());
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, ReadersSeeWhatThePeerSeesAndDoNotReplaceIt) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  backend.write(bytes_of("boot "));
  const UniqueFd alone = connect_reader();
  EXPECT_EQ(take(alone, 5), "boot ");
  const UniqueFd peer = connect();
  const UniqueFd second = connect_reader();
  EXPECT_EQ(take(peer, 5), "boot ");
  EXPECT_EQ(take(second, 5), "boot ");
  backend.write(bytes_of("login:"));
  for (const UniqueFd* each : {&alone, &peer, &second}) EXPECT_EQ(take(*each, 6), "login:");
  send(peer, "root");
  EXPECT_TRUE(eventually([&] { return client.received() == "root"; }));
  const UniqueFd next = connect();
  EXPECT_TRUE(ended(peer));
  EXPECT_EQ(take(next, 11), "boot login:");
  backend.write(bytes_of("!"));
  for (const UniqueFd* each : {&alone, &next, &second}) EXPECT_EQ(take(*each, 1), "!");
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, WhatAReaderSendsReachesNobody) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  const UniqueFd reader = connect_reader();
  (void)::send(reader.get(), "early", 5, MSG_NOSIGNAL);
  backend.write(bytes_of("x"));
  EXPECT_EQ(take(reader, 1), "x");
  EXPECT_EQ(::send(reader.get(), "late", 4, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  settle();
  EXPECT_EQ(client.received(), "");
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, AReaderThatDoesNotReadHoldsNobodyUpAndMissesWhatIsOld) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  const UniqueFd slow = connect_reader();
  const UniqueFd peer = connect();
  send(peer, "?");
  EXPECT_TRUE(eventually([&] { return client.received() == "?"; }));
  constexpr size_t kPieces = 64;
  constexpr size_t kPieceSize = SocketBackend::kRingSize / 16;
  for (size_t i = 0; i < kPieces; ++i) {
    const std::string piece(kPieceSize, static_cast<char>('0' + i));
    size_t taken = backend.write(bytes_of(piece));
    std::string seen = take(peer, taken);
    while (taken < kPieceSize) {
      const size_t more = backend.write(bytes_of(std::string_view(piece).substr(taken)));
      taken += more;
      seen += take(peer, more);
    }
    ASSERT_TRUE(seen == piece) << i;
    // Nothing of it may be old before the loop has come to this reader.
    if (i == 0) ASSERT_TRUE(readable(slow.get()));
  }
  // What its socket took at first, and then the newest that the ring has.
  const std::string last(kPieceSize, static_cast<char>('0' + kPieces - 1));
  std::string tail;
  EXPECT_TRUE(eventually([&] {
    std::array<char, 1 << 16> bytes;
    const ssize_t count = ::recv(slow.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count > 0) tail.append(bytes.data(), static_cast<size_t>(count));
    return tail.ends_with(last);
  }));
  EXPECT_LT(tail.size(), kPieces * kPieceSize / 2);
  EXPECT_EQ(tail.front(), '0');
  backend.write(bytes_of("z"));
  EXPECT_EQ(take(slow, 1), "z");
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, ReadersComeAndGoWithinALimit) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  for (int round = 0; round < 3; ++round) {
    std::vector<UniqueFd> readers;
    for (size_t i = 0; i < OutputReaders::kMaxReaders; ++i) {
      readers.push_back(connect_reader());
      settle();
    }
    const UniqueFd refused = connect_reader();
    EXPECT_TRUE(ended(refused));
    backend.write(bytes_of("a"));
    EXPECT_EQ(take(readers.back(), static_cast<size_t>(round) + 1), std::string(round + 1, 'a'));
    readers.clear();
    settle();
  }
  EXPECT_TRUE(settles_down());
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, AReaderThatShutsItsReadingDownCostsNothing) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  const UniqueFd reader = connect_reader();
  settle();
  ::shutdown(reader.get(), SHUT_RD);
  backend.write(bytes_of("x"));
  settle();
  EXPECT_TRUE(settles_down());
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, ReadersGetTheOutputAtTheEnd) {
  UniqueFd late;
  UniqueFd reader;
  {
    SocketBackend backend(listener.get(), loop);
    backend.attach(&client);
    reader = connect_reader();
    settle();
    loop.stop();
    late = connect_reader();
    EXPECT_EQ(backend.write(bytes_of("last words")), 10U);
    backend.attach(nullptr);
  }
  EXPECT_EQ(take(reader, 10), "last words");
  EXPECT_TRUE(ended(reader));
  EXPECT_EQ(take(late, 10), "last words");
  EXPECT_TRUE(ended(late));
}

TEST_F(SocketBackendTest, ReadersAreServedByTheLoopAndNotByWhoWrites) {
  SocketBackend backend(listener.get(), loop);
  backend.attach(&client);
  std::vector<UniqueFd> readers;
  for (size_t i = 0; i < OutputReaders::kMaxReaders; ++i) {
    readers.push_back(connect_reader());
    settle();
  }
  std::promise<void> go_on;
  loop.post([held = go_on.get_future().share()] { held.wait(); });
  for (const char* byte : {"o", "n", "e"}) EXPECT_EQ(backend.write(bytes_of(byte)), 1U);
  for (const UniqueFd& reader : readers) {
    char byte;
    EXPECT_EQ(::recv(reader.get(), &byte, 1, MSG_DONTWAIT), -1);
  }
  go_on.set_value();
  for (const UniqueFd& reader : readers) EXPECT_EQ(take(reader, 3), "one");
  backend.attach(nullptr);
}

TEST_F(SocketBackendTest, ReadersSeeEveryByteOnceWhileTheGuestWritesUntilTheEnd) {
  std::string text;
  for (int line = 0; line < 2'000; ++line) text += std::to_string(line) + "\n";
  ASSERT_LT(text.size(), SocketBackend::kRingSize);
  std::vector<UniqueFd> readers;
  {
    SocketBackend backend(listener.get(), loop);
    backend.attach(&client);
    readers.push_back(connect_reader());
    settle();
    std::thread guest([&] {
      for (const char& byte : text) backend.write(bytes_of({&byte, 1}));
    });
    for (int i = 0; i < 4; ++i) readers.push_back(connect_reader());
    { const UniqueFd leaves = connect_reader(); }
    guest.join();
    backend.attach(nullptr);
  }
  for (const UniqueFd& reader : readers) {
    EXPECT_TRUE(take(reader, text.size()) == text);
    EXPECT_TRUE(ended(reader));
  }
}

}  // namespace
}  // namespace tsvmm
