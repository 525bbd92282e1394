#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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

}  // namespace
}  // namespace tsvmm
