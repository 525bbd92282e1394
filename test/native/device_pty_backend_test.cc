#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "device/pty_backend.h"
#include "device/serial.h"
#include "device_test_support.h"

namespace tsvmm {
namespace {

class PtyBackendTest : public testing::Test {
 protected:
  PtyBackendTest() : master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    EXPECT_EQ(::grantpt(master.get()), 0);
    EXPECT_EQ(::unlockpt(master.get()), 0);
    char name[64];
    EXPECT_EQ(::ptsname_r(master.get(), name, sizeof name), 0);
    path = name;
    const UniqueFd slave = open_slave();
    termios raw{};
    ::tcgetattr(slave.get(), &raw);
    ::cfmakeraw(&raw);
    ::tcsetattr(slave.get(), TCSANOW, &raw);
  }
  ~PtyBackendTest() override { loop.stop(); }

  UniqueFd open_slave() const {
    return UniqueFd(::open(path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  }
  static std::string take(const UniqueFd& slave, size_t count) {
    return read_exactly(slave.get(), count);
  }
  static bool silent(const UniqueFd& slave) {
    return !readable(slave.get(), std::chrono::milliseconds(20));
  }
  void settle() {
    for (int i = 0; i < 3; ++i) loop.call([] {});
  }

  EventLoop loop{"test-loop"};
  RecordingClient client;
  UniqueFd master;
  std::string path;
};

TEST_F(PtyBackendTest, OutputWaitsForTheFirstOpen) {
  PtyBackend backend(master.get(), loop);
  backend.attach(&client);
  EXPECT_EQ(backend.write(bytes_of("early ")), 6U);
  EXPECT_EQ(backend.write(bytes_of("bird")), 4U);
  const UniqueFd slave = open_slave();
  EXPECT_EQ(take(slave, 10), "early bird");
  EXPECT_EQ(backend.write(bytes_of("!")), 1U);
  EXPECT_EQ(take(slave, 1), "!");
  backend.attach(nullptr);
}

TEST_F(PtyBackendTest, TheSizeOfTheSlaveIsPassedOn) {
  UniqueFd slave = open_slave();
  winsize size{.ws_row = 50, .ws_col = 132, .ws_xpixel = 0, .ws_ypixel = 0};
  ASSERT_EQ(::ioctl(slave.get(), TIOCSWINSZ, &size), 0);
  PtyBackend backend(master.get(), loop);
  backend.attach(&client);
  EXPECT_EQ(client.columns(), 132);
  EXPECT_EQ(client.rows(), 50);
  // A key is pressed in a window that has been dragged.
  size.ws_col = 90;
  ASSERT_EQ(::ioctl(slave.get(), TIOCSWINSZ, &size), 0);
  ASSERT_EQ(::write(slave.get(), "k", 1), 1);
  EXPECT_TRUE(eventually([&] { return client.columns() == 90 && client.received() == "k"; }));
  // Another person comes with another terminal, and has not typed yet.
  slave.reset();
  settle();
  const UniqueFd other(::open(path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  size.ws_row = 24;
  ASSERT_EQ(::ioctl(other.get(), TIOCSWINSZ, &size), 0);
  const UniqueFd again = open_slave();
  EXPECT_TRUE(eventually([&] { return client.rows() == 24; }));
  backend.attach(nullptr);
}

TEST_F(PtyBackendTest, AnOpenThatTheLoopHasNotHeardOfGetsTheOutputAtTheEnd) {
  UniqueFd slave;
  {
    PtyBackend backend(master.get(), loop);
    backend.attach(&client);
    loop.stop();
    slave = open_slave();
    EXPECT_EQ(backend.write(bytes_of("last words")), 10U);
    backend.attach(nullptr);
  }
  EXPECT_EQ(take(slave, 10), "last words");
}

TEST_F(PtyBackendTest, NeverOpenedSlaveCountsAsClosed) {
  const UniqueFd fresh(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_EQ(::unlockpt(fresh.get()), 0);
  PtyBackend backend(fresh.get(), loop);
  const std::string block(4096, 'x');
  for (int i = 0; i < 300; ++i) ASSERT_EQ(backend.write(bytes_of(block)), block.size());
}

TEST_F(PtyBackendTest, OpenCloseReopenCycles) {
  PtyBackend backend(master.get(), loop);
  backend.attach(&client);
  for (int cycle = 0; cycle < 20; ++cycle) {
    const std::string text = "cycle " + std::to_string(cycle);
    EXPECT_EQ(backend.write(bytes_of(text)), text.size());
    UniqueFd slave = open_slave();
    EXPECT_EQ(take(slave, text.size()), text);
    const std::string typed = "t" + std::to_string(cycle) + ";";
    const std::string before = client.received();
    ASSERT_EQ(::write(slave.get(), typed.data(), typed.size()), static_cast<ssize_t>(typed.size()));
    EXPECT_TRUE(eventually([&] { return client.received() == before + typed; }));
    slave.reset();
    settle();
  }
  backend.attach(nullptr);
}

TEST_F(PtyBackendTest, InputOfAShortVisitArrives) {
  PtyBackend backend(master.get(), loop);
  backend.attach(&client);
  for (int i = 1; i <= 20; ++i) {
    UniqueFd slave = open_slave();
    ASSERT_EQ(::write(slave.get(), "hi", 2), 2);
    slave.reset();
    EXPECT_TRUE(
        eventually([&] { return client.received().size() == 2U * static_cast<size_t>(i); }));
  }
  backend.attach(nullptr);
}

TEST_F(PtyBackendTest, RingKeepsTheLastMebibyte) {
  PtyBackend backend(master.get(), loop);
  backend.attach(&client);
  const std::string old(PtyBackend::kRingSize, 'o');
  EXPECT_EQ(backend.write(bytes_of(old)), old.size());
  EXPECT_EQ(backend.write(bytes_of("new")), 3U);
  const UniqueFd slave = open_slave();
  const std::string text = take(slave, PtyBackend::kRingSize);
  ASSERT_EQ(text.size(), PtyBackend::kRingSize);
  EXPECT_EQ(text.substr(text.size() - 4), "onew");
  EXPECT_TRUE(silent(slave));
  backend.attach(nullptr);
}

TEST_F(PtyBackendTest, SlowReaderIsRefusedOnceTheRingIsFull) {
  PtyBackend backend(master.get(), loop);
  backend.attach(&client);
  const UniqueFd slave = open_slave();
  ASSERT_EQ(backend.write(bytes_of("!")), 1U);
  EXPECT_EQ(take(slave, 1), "!");
  const std::string expected = fill(backend);
  const int ready = client.ready();
  EXPECT_TRUE(take(slave, expected.size()) == expected);
  EXPECT_TRUE(eventually([&] { return client.ready() > ready; }));
  EXPECT_EQ(backend.write(bytes_of("z")), 1U);
  EXPECT_EQ(take(slave, 1), "z");
  backend.attach(nullptr);
}

TEST_F(PtyBackendTest, LoneLineFeedBecomesCarriageReturn) {
  PtyBackend backend(master.get(), loop);
  backend.attach(&client);
  const UniqueFd slave = open_slave();
  ASSERT_EQ(::write(slave.get(), "\n", 1), 1);
  EXPECT_TRUE(eventually([&] { return client.received() == "\r"; }));
  ASSERT_EQ(::write(slave.get(), "ls\n", 3), 3);
  EXPECT_TRUE(eventually([&] { return client.received() == "\rls\n"; }));
  backend.attach(nullptr);
}

TEST_F(PtyBackendTest, LineFeedAtTheEndOfALineReadInPiecesStays) {
  PtyBackend backend(master.get(), loop);
  client.set_room(2);
  backend.attach(&client);
  const UniqueFd slave = open_slave();
  ASSERT_EQ(::write(slave.get(), "ls\n", 3), 3);
  EXPECT_TRUE(eventually([&] { return client.received() == "ls"; }));
  client.set_room(1);
  backend.input_wanted();
  EXPECT_TRUE(eventually([&] { return client.received() == "ls\n"; }));
  backend.attach(nullptr);
}

TEST_F(PtyBackendTest, IdleWithoutAReaderCostsNothing) {
  PtyBackend backend(master.get(), loop);
  backend.attach(&client);
  open_slave();
  settle();
  backend.write(bytes_of("unread"));
  EXPECT_TRUE(settles_down());
  backend.attach(nullptr);
}

TEST_F(PtyBackendTest, ReaderThatLeavesReleasesAStalledGuest) {
  UniqueFd slave = open_slave();
  auto owned = std::make_unique<PtyBackend>(master.get(), loop);
  PtyBackend& backend = *owned;
  RecordingLine line;
  Serial serial(line, std::move(owned));
  expect_release_of_a_stalled_guest(serial, backend, [&] { slave.reset(); });
}

}  // namespace
}  // namespace tsvmm
