#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <map>
#include <string>

#include "core/error.h"
#include "host/stream_server.h"

namespace tsvmm {
namespace {

using namespace std::chrono_literals;
using Written = StreamServer::Written;

/// Only a test that fails waits this long.
constexpr auto kLongest = 60s;

/// Counts what a server tells, by connection.
class Recorder : public StreamServer::Sink {
 public:
  using ConnectionId = StreamServer::ConnectionId;

  void opened(ConnectionId id) noexcept override { record(id, 'o'); }
  void received(ConnectionId id) noexcept override { record(id, 'r'); }
  void drained(ConnectionId id) noexcept override { record(id, 'd'); }
  void gone(ConnectionId id) noexcept override { record(id, 'g'); }
  void closed(ConnectionId id) noexcept override { record(id, 'c'); }

  /// Waits until `id` has been told of `what` at least `count` times.
  bool heard(ConnectionId id, char what, int count = 1) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kLongest, [&] { return count_locked(id, what) >= count; });
  }
  int count(ConnectionId id, char what) {
    const std::lock_guard lock(mutex_);
    return count_locked(id, what);
  }

 private:
  void record(ConnectionId id, char what) {
    const std::lock_guard lock(mutex_);
    told_[id].push_back(what);
    changed_.notify_all();
  }
  int count_locked(ConnectionId id, char what) {
    return static_cast<int>(std::ranges::count(told_[id], what));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<ConnectionId, std::string> told_;
};

UniqueFd unix_socket(int flags = 0) {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
}

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string text_of(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

int open_descriptors() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

class StreamServerTest : public testing::Test {
 protected:
  StreamServerTest() {
    UniqueFd listener = unix_socket();
    address_.sun_family = AF_UNIX;
    // An abstract address, chosen by the kernel: nothing to clean up.
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(sa_family_t)),
              0);
    length_ = sizeof address_;
    ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address_), &length_);
    EXPECT_EQ(::listen(listener.get(), SOMAXCONN), 0);
    server_ = std::make_unique<StreamServer>(sink_);
    server_->listen(std::move(listener));
  }

  /// The server numbers connections from 1, in the order in which they come.
  UniqueFd connect() {
    UniqueFd peer = unix_socket();
    EXPECT_EQ(::connect(peer.get(), reinterpret_cast<const sockaddr*>(&address_), length_), 0);
    return peer;
  }
  static void send(const UniqueFd& peer, std::string_view text, const std::vector<int>& fds = {}) {
    iovec vector{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
    std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    ASSERT_EQ(::sendmsg(peer.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  /// What comes until there are `size` bytes, or the server closes.
  static std::string read(const UniqueFd& peer, size_t size) {
    std::string text;
    std::array<char, 65536> buffer;
    while (text.size() < size) {
      pollfd ready{.fd = peer.get(), .events = POLLIN, .revents = 0};
      if (::poll(&ready, 1, 60'000) != 1) break;
      const ssize_t count = ::read(peer.get(), buffer.data(), buffer.size());
      if (count <= 0) break;
      text.append(buffer.data(), static_cast<size_t>(count));
    }
    return text;
  }
  static bool closed(const UniqueFd& peer) { return read(peer, 1).empty(); }
  /// All that was received by now, segments apart by `|`; the descriptors in `count`.
  std::string take_all(StreamServer::ConnectionId id, size_t* count = nullptr) {
    std::string text;
    for (;;) {
      StreamServer::Received received = server_->take(id);
      text += text_of(received.segment.bytes);
      if (count != nullptr) *count += received.segment.descriptors.size();
      if (!received.more) return text;
      text += '|';
    }
  }

  Recorder sink_;
  sockaddr_un address_{};
  socklen_t length_ = 0;
  std::unique_ptr<StreamServer> server_;
};

TEST_F(StreamServerTest, BytesGoBothWays) {
  const UniqueFd peer = connect();
  send(peer, "ask");
  ASSERT_TRUE(sink_.heard(1, 'r'));
  EXPECT_EQ(take_all(1), "ask");
  EXPECT_EQ(server_->write(1, bytes_of("answer")), Written::kLeft);
  EXPECT_EQ(read(peer, 6), "answer");
  send(peer, "more");
  ASSERT_TRUE(sink_.heard(1, 'r', 2));
  EXPECT_EQ(take_all(1), "more");
  server_->end(1);
  EXPECT_TRUE(closed(peer));
  EXPECT_TRUE(sink_.heard(1, 'c'));
}

TEST_F(StreamServerTest, OnlyAListenerIsTaken) {
  Recorder sink;
  StreamServer server(sink);
  EXPECT_THROW(server.listen(unix_socket()), Error);
  EXPECT_THROW(server.listen(UniqueFd(::open("/dev/null", O_RDONLY))), Error);
  // One is enough.
  UniqueFd second = unix_socket();
  const sockaddr address{.sa_family = AF_UNIX, .sa_data = {}};
  ASSERT_EQ(::bind(second.get(), &address, sizeof(sa_family_t)), 0);
  ASSERT_EQ(::listen(second.get(), 1), 0);
  EXPECT_THROW(server_->listen(std::move(second)), Error);
}

TEST_F(StreamServerTest, AConnectionThatIsTakenOverIsOneOfIts) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  UniqueFd peer(ends[0]);
  send(peer, "early");
  const auto id = server_->adopt(UniqueFd(ends[1]));
  ASSERT_TRUE(sink_.heard(id, 'r'));
  EXPECT_EQ(sink_.count(id, 'o'), 0);
  EXPECT_EQ(take_all(id), "early");
  EXPECT_EQ(server_->write(id, bytes_of("answer")), Written::kLeft);
  EXPECT_EQ(read(peer, 6), "answer");
  peer.reset();
  ASSERT_TRUE(sink_.heard(id, 'r', 2));
  EXPECT_TRUE(server_->take(id).ended);
  server_->end(id);
  EXPECT_TRUE(sink_.heard(id, 'c'));
  EXPECT_THROW(server_->adopt(UniqueFd(::open("/", O_RDONLY | O_DIRECTORY))), Error);
}

/// A connection that ended is there until whoever takes has noticed, however late that is: clients
/// that come meanwhile must not pay for it.
TEST(StreamServerLimitTest, MoreConnectionsThanItIsToldWaitUntilOneIsClosed) {
  Recorder sink;
  StreamServer server(sink);
  server.remember(bytes_of("ask"), bytes_of("known"));
  UniqueFd listener = unix_socket();
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  socklen_t length = sizeof(sa_family_t);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  length = sizeof address;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  server.listen(std::move(listener), 2);
  std::array<UniqueFd, 4> peers;
  for (UniqueFd& peer : peers) {
    peer = unix_socket();
    ASSERT_EQ(::connect(peer.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
    ASSERT_EQ(::send(peer.get(), "ask", 3, MSG_NOSIGNAL), 3);
  }
  const auto answer = [&peers](size_t at) {
    std::array<char, 16> bytes{};
    const ssize_t count = ::recv(peers[at].get(), bytes.data(), bytes.size(), 0);
    return std::string(bytes.data(), static_cast<size_t>(std::max<ssize_t>(count, 0)));
  };
  EXPECT_EQ(answer(0), "known");
  EXPECT_EQ(answer(1), "known");
  // These have left, and nobody has ended their connections.
  for (const uint64_t id : {1, 2}) {
    peers[id - 1].reset();
    ASSERT_TRUE(sink.heard(id, 'r'));
  }
  EXPECT_EQ(sink.count(3, 'o'), 0);
  pollfd third{.fd = peers[2].get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&third, 1, 20), 0);
  server.end(1);
  EXPECT_EQ(answer(2), "known");
  EXPECT_EQ(sink.count(4, 'o'), 0);
  server.end(2);
  EXPECT_EQ(answer(3), "known");
  server.end(3);
  ASSERT_TRUE(sink.heard(3, 'c'));
  // And not only once.
  const UniqueFd fifth = unix_socket();
  ASSERT_EQ(::connect(fifth.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
  EXPECT_TRUE(sink.heard(5, 'o'));
}

TEST_F(StreamServerTest, WhatIsNotTakenIsBounded) {
  const UniqueFd peer = connect();
  ASSERT_EQ(::fcntl(peer.get(), F_SETFL, O_NONBLOCK), 0);
  const std::string text(1 << 16, 'x');
  size_t sent = 0;
  // Until the kernel's buffers are full as well, and stay so.
  for (int full = 0; full < 20;) {
    const ssize_t count = ::send(peer.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (count > 0) sent += static_cast<size_t>(count);
    full = count > 0 ? 0 : full + 1;
    if (count < 0) std::this_thread::sleep_for(5ms);
  }
  EXPECT_LT(sent, size_t{4} << 20);
  EXPECT_EQ(sink_.count(1, 'r'), 1);
  size_t received = 0;
  for (int turn = 1; received < sent; ++turn) {
    ASSERT_TRUE(sink_.heard(1, 'r', turn));
    const std::string taken = take_all(1);
    EXPECT_LE(taken.size(), StreamServer::kMaxUntaken);
    received += taken.size();
  }
  EXPECT_EQ(received, sent);
}

TEST_F(StreamServerTest, WhatThePeerDoesNotReadWaits) {
  const UniqueFd peer = connect();
  ASSERT_TRUE(sink_.heard(1, 'o'));
  const std::string text(1 << 16, 'y');
  size_t written = 0;
  while (server_->write(1, bytes_of(text)) == Written::kLeft) written += text.size();
  written += text.size();
  EXPECT_EQ(server_->write(1, bytes_of("end")), Written::kWaiting);
  EXPECT_EQ(sink_.count(1, 'd'), 0);
  const std::string all = read(peer, written + 3);
  EXPECT_EQ(all.size(), written + 3);
  EXPECT_TRUE(all.ends_with("yend"));
  EXPECT_TRUE(sink_.heard(1, 'd'));
  EXPECT_EQ(server_->write(1, bytes_of("again")), Written::kLeft);
}

TEST_F(StreamServerTest, WhatNobodyIsThereToReadIsLost) {
  UniqueFd peer = connect();
  ASSERT_TRUE(sink_.heard(1, 'o'));
  peer.reset();
  ASSERT_TRUE(sink_.heard(1, 'r'));
  EXPECT_EQ(server_->write(1, bytes_of("answer")), Written::kLost);
  server_->end(1);
  ASSERT_TRUE(sink_.heard(1, 'c'));
  EXPECT_EQ(server_->write(1, bytes_of("answer")), Written::kLost);
}

TEST_F(StreamServerTest, EndingWaitsForThePeerToRead) {
  const UniqueFd peer = connect();
  ASSERT_TRUE(sink_.heard(1, 'o'));
  const std::string text(1 << 20, 'z');
  EXPECT_EQ(server_->write(1, bytes_of(text)), Written::kWaiting);
  server_->end(1);
  EXPECT_EQ(sink_.count(1, 'c'), 0);
  EXPECT_EQ(read(peer, text.size() + 1), text);
  EXPECT_TRUE(sink_.heard(1, 'c'));
}

TEST_F(StreamServerTest, AbortingDoesNot) {
  const UniqueFd peer = connect();
  ASSERT_TRUE(sink_.heard(1, 'o'));
  EXPECT_EQ(server_->write(1, bytes_of(std::string(1 << 20, 'z'))), Written::kWaiting);
  server_->abort(1);
  EXPECT_TRUE(sink_.heard(1, 'c'));
}

TEST_F(StreamServerTest, APeerThatHasClosedIsReadToItsEnd) {
  const std::string text(StreamServer::kMaxUntaken * 2 + 100, 'q');
  {
    const UniqueFd peer = connect();
    const int size = 1 << 20;
    ASSERT_EQ(::setsockopt(peer.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    send(peer, text);
  }
  size_t received = 0;
  for (int turn = 1;; ++turn) {
    ASSERT_TRUE(sink_.heard(1, 'r', turn));
    bool ended = false;
    for (bool more = true; more;) {
      const StreamServer::Received taken = server_->take(1);
      received += taken.segment.bytes.size();
      more = taken.more;
      ended = taken.ended;
    }
    if (ended) break;
  }
  EXPECT_EQ(received, text.size());
  // An answer reaches nobody, and says so.
  EXPECT_EQ(server_->write(1, bytes_of("answer")), Written::kLost);
  while (!server_->take(1).gone) std::this_thread::yield();
  server_->end(1);
  EXPECT_TRUE(sink_.heard(1, 'c'));
}

TEST_F(StreamServerTest, APeerThatLeavesBeforeItsAnswerIsSaidToBeGoneWhateverItSentBeyond) {
  {
    const UniqueFd peer = connect();
    send(peer, "ask");
    ASSERT_TRUE(sink_.heard(1, 'r'));
    EXPECT_EQ(take_all(1), "ask");
    // More than is read before it is taken.
    const int size = 1 << 20;
    ASSERT_EQ(::setsockopt(peer.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    send(peer, std::string(StreamServer::kMaxUntaken * 2, 'q'));
    ASSERT_TRUE(sink_.heard(1, 'r', 2));
    EXPECT_EQ(sink_.count(1, 'g'), 0);
  }
  EXPECT_TRUE(sink_.heard(1, 'g'));
  server_->end(1);
  EXPECT_TRUE(sink_.heard(1, 'c'));
  EXPECT_EQ(sink_.count(1, 'g'), 1);
}

TEST_F(StreamServerTest, APeerThatHasLeftBehindMoreThanIsReadAtOnceIsSaidToBeGone) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  {
    const UniqueFd peer(ends[0]);
    send(peer, "ask" + std::string(StreamServer::kMaxUntaken, 'q'));
  }
  const auto id = server_->adopt(UniqueFd(ends[1]));
  EXPECT_TRUE(sink_.heard(id, 'g')) << "it is not, with what is taken of it to begin with";
  EXPECT_FALSE(server_->take(id).gone);
  server_->end(id);
  EXPECT_TRUE(sink_.heard(id, 'c'));
  EXPECT_EQ(sink_.count(id, 'g'), 1);
}

TEST_F(StreamServerTest, APeerThatLeavesAtRestIsToldOfOnceOnly) {
  {
    const UniqueFd peer = connect();
    send(peer, "ask");
    ASSERT_TRUE(sink_.heard(1, 'r'));
    EXPECT_EQ(take_all(1), "ask");
    EXPECT_TRUE(server_->rest(1));
  }
  ASSERT_TRUE(sink_.heard(1, 'r', 2));
  EXPECT_TRUE(server_->take(1).gone);
  server_->end(1);
  EXPECT_TRUE(sink_.heard(1, 'c'));
  EXPECT_EQ(sink_.count(1, 'g'), 0);
}

TEST_F(StreamServerTest, AHalfClosedPeerGetsItsAnswer) {
  const UniqueFd peer = connect();
  send(peer, "ask");
  ASSERT_EQ(::shutdown(peer.get(), SHUT_WR), 0);
  ASSERT_TRUE(sink_.heard(1, 'r'));
  while (!server_->take(1).ended) std::this_thread::yield();
  EXPECT_EQ(server_->write(1, bytes_of("answer")), Written::kLeft);
  server_->end(1);
  EXPECT_EQ(read(peer, 100), "answer");
}

TEST_F(StreamServerTest, DescriptorsComeWithTheLastByteOfTheirMessage) {
  const UniqueFd peer = connect();
  const UniqueFd one(::open("/dev/null", O_RDONLY));
  send(peer, "first ");
  send(peer, "second ", {one.get(), one.get()});
  send(peer, "third");
  ASSERT_TRUE(sink_.heard(1, 'r'));
  std::string text;
  size_t count = 0;
  while (text.find("third") == std::string::npos) {
    StreamServer::Received received = server_->take(1);
    text += text_of(received.segment.bytes);
    if (received.segment.descriptors.empty()) continue;
    count += received.segment.descriptors.size();
    EXPECT_TRUE(text.ends_with("second ")) << text;
    for (const UniqueFd& fd : received.segment.descriptors) {
      struct stat expected {};
      struct stat seen {};
      ASSERT_EQ(::fstat(one.get(), &expected), 0);
      ASSERT_EQ(::fstat(fd.get(), &seen), 0);
      EXPECT_EQ(seen.st_rdev, expected.st_rdev);
      EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
    }
  }
  EXPECT_EQ(count, 2U);
  EXPECT_EQ(text, "first second third");
}

TEST_F(StreamServerTest, DescriptorsThatNobodyTakesAreClosed) {
  const UniqueFd one(::open("/dev/null", O_RDONLY));
  UniqueFd first = connect();
  ASSERT_TRUE(sink_.heard(1, 'o'));
  // The peer's own end, and the server's.
  const int before = open_descriptors();
  const std::vector<int> many(253, one.get());
  UniqueFd peer = connect();
  ASSERT_TRUE(sink_.heard(2, 'o'));
  send(peer, "a", many);
  ASSERT_TRUE(sink_.heard(2, 'r'));
  // More than may wait: the connection is given up, and they are closed.
  send(peer, "b", many);
  send(peer, "c", many);
  while (open_descriptors() > before + 2) std::this_thread::yield();
  EXPECT_TRUE(server_->take(2).gone);
  server_->end(2);
  ASSERT_TRUE(sink_.heard(2, 'c'));
  peer.reset();
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(StreamServerTest, ARememberedRequestIsAnsweredWithoutAsking) {
  server_->remember(bytes_of("ask"), bytes_of("known "));
  const UniqueFd peer = connect();
  send(peer, "askask");
  EXPECT_EQ(read(peer, 12), "known known ");
  EXPECT_EQ(sink_.count(1, 'r'), 0);
  send(peer, "askother");
  ASSERT_TRUE(sink_.heard(1, 'r'));
  EXPECT_EQ(read(peer, 6), "known ");
  EXPECT_EQ(take_all(1), "other");
  // Not before what was taken is answered.
  send(peer, "ask");
  ASSERT_TRUE(sink_.heard(1, 'r', 2));
  EXPECT_EQ(take_all(1), "ask");
  server_->rest(1);
  send(peer, "ask");
  EXPECT_EQ(read(peer, 6), "known ");
  server_->remember(bytes_of("ask"), bytes_of("newer "));
  send(peer, "ask");
  EXPECT_EQ(read(peer, 6), "newer ");
  server_->forget(bytes_of("other"));
  send(peer, "ask");
  EXPECT_EQ(read(peer, 6), "newer ");
  server_->forget(bytes_of("ask"));
  send(peer, "ask");
  ASSERT_TRUE(sink_.heard(1, 'r', 3));
  EXPECT_EQ(take_all(1), "ask");
}

TEST_F(StreamServerTest, AnAnswerIsMadeAnewEachTimeOrLeftToWhoeverTakes) {
  std::atomic<int> made = 0;
  server_->remember(bytes_of("ask"), [&](std::vector<uint8_t>& answer) {
    if (made == 3) return false;
    const std::string text = std::to_string(++made) + " ";
    answer.assign(text.begin(), text.end());
    return true;
  });
  const UniqueFd peer = connect();
  send(peer, "askask");
  EXPECT_EQ(read(peer, 4), "1 2 ");
  send(peer, "askask");
  ASSERT_TRUE(sink_.heard(1, 'r'));
  EXPECT_EQ(read(peer, 2), "3 ");
  EXPECT_EQ(take_all(1), "ask");
}

TEST_F(StreamServerTest, WhatMakesAnAnswerGoesWhereItIsReplacedForgottenOrNotNeededAnyMore) {
  const auto owned = std::make_shared<int>(0);
  const auto make = [owned](std::vector<uint8_t>&) { return false; };
  server_->remember(bytes_of("a"), make);
  server_->remember(bytes_of("b"), make);
  server_->remember(bytes_of("c"), make);
  EXPECT_EQ(owned.use_count(), 5);
  server_->remember(bytes_of("a"), bytes_of("known"));
  EXPECT_EQ(owned.use_count(), 4);
  server_->forget(bytes_of("b"));
  EXPECT_EQ(owned.use_count(), 3);
  server_->stop();
  EXPECT_EQ(owned.use_count(), 2);
}

TEST_F(StreamServerTest, ARequestWithDescriptorsIsNoRememberedOne) {
  server_->remember(bytes_of("ask"), bytes_of("known"));
  const UniqueFd peer = connect();
  send(peer, "ask", {peer.get()});
  ASSERT_TRUE(sink_.heard(1, 'r'));
  EXPECT_EQ(take_all(1), "ask");
}

TEST_F(StreamServerTest, OnlySoManyRequestsAreRemembered) {
  for (size_t i = 0; i <= StreamServer::kMaxRemembered; ++i) {
    server_->remember(bytes_of("ask " + std::to_string(i) + ";"), bytes_of("known"));
  }
  const UniqueFd peer = connect();
  send(peer, "ask 1;");
  EXPECT_EQ(read(peer, 5), "known");
  send(peer, "ask 0;");
  ASSERT_TRUE(sink_.heard(1, 'r'));
  EXPECT_EQ(take_all(1), "ask 0;");
}

TEST_F(StreamServerTest, APeerThatNeverReadsGetsNoRememberedAnswersWithoutEnd) {
  const std::string answer(1 << 12, 'a');
  server_->remember(bytes_of("ask"), bytes_of(answer));
  const UniqueFd peer = connect();
  std::string requests;
  for (int i = 0; i < 10'000; ++i) requests += "ask";
  send(peer, requests);
  // What cannot be sent any more is left to whoever takes.
  ASSERT_TRUE(sink_.heard(1, 'r'));
  EXPECT_GT(take_all(1).size(), 20'000U);
}

/// Whoever takes decides how long that may last.
TEST_F(StreamServerTest, ARememberedAnswerThatIsNotReadIsTold) {
  const std::string answer(4 << 20, 'a');
  server_->remember(bytes_of("ask"), bytes_of(answer));
  const UniqueFd peer = connect();
  send(peer, "ask");
  ASSERT_TRUE(sink_.heard(1, 'r'));
  EXPECT_EQ(take_all(1), "");
  EXPECT_FALSE(server_->rest(1));
  EXPECT_EQ(sink_.count(1, 'd'), 0);
  EXPECT_EQ(read(peer, answer.size()).size(), answer.size());
  ASSERT_TRUE(sink_.heard(1, 'd'));
  EXPECT_TRUE(server_->rest(1));
  send(peer, "ask");
  EXPECT_EQ(read(peer, 1 << 10).substr(0, 3), "aaa");
}

TEST_F(StreamServerTest, TheLongestIdleConnectionIsFound) {
  std::vector<UniqueFd> peers;
  for (StreamServer::ConnectionId id = 1; id <= 3; ++id) {
    peers.push_back(connect());
    ASSERT_TRUE(sink_.heard(id, 'o'));
  }
  EXPECT_EQ(server_->longest_idle(), 1U);
  send(peers[0], "ask");
  ASSERT_TRUE(sink_.heard(1, 'r'));
  EXPECT_EQ(server_->longest_idle(), 2U);
  take_all(1);
  server_->rest(1);
  EXPECT_EQ(server_->longest_idle(), 2U);
  server_->abort(2);
  server_->abort(3);
  EXPECT_EQ(server_->longest_idle(), 1U);
  server_->abort(1);
  EXPECT_EQ(server_->longest_idle(), std::nullopt);
}

TEST_F(StreamServerTest, ConnectionsWithoutADescriptorAreRefusedAndOthersServed) {
  const UniqueFd first = connect();
  ASSERT_TRUE(sink_.heard(1, 'o'));
  UniqueFd second = unix_socket();
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  rlimit low = old;
  // No descriptor is left but those that are open.
  low.rlim_cur = static_cast<rlim_t>(second.get()) + 1;
  std::vector<UniqueFd> fillers;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  for (int fd = ::open("/dev/null", O_RDONLY); fd >= 0; fd = ::open("/dev/null", O_RDONLY)) {
    fillers.emplace_back(fd);
  }
  EXPECT_EQ(::connect(second.get(), reinterpret_cast<const sockaddr*>(&address_), length_), 0);
  EXPECT_TRUE(closed(second));
  send(first, "ask");
  EXPECT_TRUE(sink_.heard(1, 'r'));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  fillers.clear();
  const UniqueFd third = connect();
  EXPECT_TRUE(sink_.heard(2, 'o'));
}

TEST_F(StreamServerTest, NoMoreAreAcceptedOnceItDoesNotListen) {
  const UniqueFd first = connect();
  ASSERT_TRUE(sink_.heard(1, 'o'));
  server_->stop_listening();
  const UniqueFd second = unix_socket();
  EXPECT_NE(::connect(second.get(), reinterpret_cast<const sockaddr*>(&address_), length_), 0);
  send(first, "ask");
  EXPECT_TRUE(sink_.heard(1, 'r'));
  server_->stop();
  EXPECT_TRUE(closed(first));
}

TEST_F(StreamServerTest, NumbersOfConnectionsThatAreGoneDoNoHarm) {
  EXPECT_TRUE(server_->take(99).gone);
  EXPECT_EQ(server_->write(99, bytes_of("x")), Written::kLost);
  server_->rest(99);
  server_->end(99);
  server_->abort(99);
}

TEST_F(StreamServerTest, ManyConnectionsComeAndGo) {
  server_->remember(bytes_of("ask"), bytes_of("known"));
  std::vector<std::thread> clients;
  clients.reserve(4);
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([this] {
      for (int round = 0; round < 100; ++round) {
        const UniqueFd peer = connect();
        send(peer, "ask");
        if (round % 3 != 0) EXPECT_EQ(read(peer, 5), "known");
      }
    });
  }
  for (auto& client : clients) client.join();
  // Whoever takes would end those that have ended.
  for (StreamServer::ConnectionId id = 1; id <= 400; ++id) {
    ASSERT_TRUE(sink_.heard(id, 'r'));
    server_->end(id);
    ASSERT_TRUE(sink_.heard(id, 'c'));
  }
}

}  // namespace
}  // namespace tsvmm
