#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "core/event_fd.h"
#include "core/poller.h"

namespace tsvmm {
namespace {

class PollerTest : public testing::Test {
 protected:
  std::vector<Poller::Event> look() {
    std::array<Poller::Event, Poller::kMaxEvents> room;
    const auto found = poller.look(room);
    return {found.begin(), found.end()};
  }
  /// Of the only descriptor that there is; 0 if nothing is told.
  IoEvents told() {
    const auto found = look();
    return found.empty() ? 0 : found.front().events;
  }
  void connect() {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()), 0);
    ours.reset(ends[0]);
    theirs.reset(ends[1]);
  }

  Poller poller;
  UniqueFd ours;
  UniqueFd theirs;
};

TEST_F(PollerTest, TellsTheTagOfWhatIsReadyAsLongAsItIs) {
  const EventFd first;
  const EventFd second;
  ASSERT_EQ(poller.add(first.fd(), io::kReadable, 1), 0);
  ASSERT_EQ(poller.add(second.fd(), io::kReadable, ~uint64_t{0}), 0);
  EXPECT_TRUE(look().empty());
  second.signal();
  for (int i = 0; i < 2; ++i) {
    const auto found = look();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].tag, ~uint64_t{0});
    EXPECT_EQ(found[0].events, io::kReadable);
  }
  (void)second.consume();
  EXPECT_TRUE(look().empty());
}

TEST_F(PollerTest, TellsAnEdgeOnceAndAfterModifyAgain) {
  const EventFd event;
  ASSERT_EQ(poller.add(event.fd(), io::kReadable | io::kEdge, 1), 0);
  event.signal();
  EXPECT_EQ(told(), io::kReadable);
  EXPECT_EQ(told(), 0U);
  event.signal();
  EXPECT_EQ(told(), io::kReadable) << "another edge";
  poller.modify(event.fd(), io::kReadable | io::kEdge, 1);
  EXPECT_EQ(told(), io::kReadable);
}

TEST_F(PollerTest, TellsOnceUntilItIsAskedAgain) {
  const EventFd event;
  ASSERT_EQ(poller.add(event.fd(), io::kReadable | io::kOnce, 1), 0);
  event.signal();
  EXPECT_EQ(told(), io::kReadable);
  event.signal();
  EXPECT_EQ(told(), 0U);
  poller.modify(event.fd(), io::kReadable | io::kOnce, 1);
  EXPECT_EQ(told(), io::kReadable);
}

TEST_F(PollerTest, TellsAPeersEndFromAHangUp) {
  connect();
  ASSERT_EQ(poller.add(ours.get(), io::kWritable | io::kPeerClosed, 1), 0);
  EXPECT_EQ(told(), io::kWritable);
  ASSERT_EQ(::shutdown(theirs.get(), SHUT_WR), 0);
  EXPECT_EQ(told(), io::kWritable | io::kPeerClosed);
  theirs.reset();
  EXPECT_EQ(told() & io::kHangUp, io::kHangUp);
}

TEST_F(PollerTest, TellsAHangUpUnaskedAndNothingAfterRemove) {
  connect();
  ASSERT_EQ(poller.add(ours.get(), 0, 1), 0);
  EXPECT_EQ(told(), 0U);
  theirs.reset();
  EXPECT_EQ(told() & io::kHangUp, io::kHangUp);
  poller.remove(ours.get());
  EXPECT_EQ(told(), 0U);
}

TEST_F(PollerTest, RefusesWhatIsAlwaysReady) {
  char path[] = "/tmp/tsvmm-poller-XXXXXX";
  const UniqueFd file(::mkstemp(path));
  ::unlink(path);
  EXPECT_EQ(poller.add(file.get(), io::kReadable, 1), EPERM);
}

TEST_F(PollerTest, CanBeWatchedItself) {
  Poller outer;
  const EventFd event;
  ASSERT_EQ(poller.add(event.fd(), io::kReadable, 1), 0);
  ASSERT_EQ(outer.add(poller.fd(), io::kReadable, 2), 0);
  std::array<Poller::Event, Poller::kMaxEvents> room;
  EXPECT_TRUE(outer.look(room).empty());
  event.signal();
  ASSERT_EQ(outer.wait(room).size(), 1U);
  EXPECT_EQ(room[0].tag, 2U);
}

}  // namespace
}  // namespace tsvmm
