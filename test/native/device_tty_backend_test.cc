// Terminals, pipes and files as the host end of a console.

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

#include "device/char_backend.h"
#include "device/serial.h"
#include "device/tty_backend.h"
#include "device_test_support.h"

namespace tsvmm {
namespace {

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    reader.reset(ends[0]);
    writer.reset(ends[1]);
  }
  /// Everything that can be read without waiting.
  std::string drain() const {
    std::string text;
    for (;;) {
      pollfd wait{.fd = reader.get(), .events = POLLIN, .revents = 0};
      if (::poll(&wait, 1, 0) != 1 || (wait.revents & POLLIN) == 0) return text;
      char buffer[4096];
      const ssize_t count = ::read(reader.get(), buffer, sizeof buffer);
      if (count <= 0) return text;
      text.append(buffer, static_cast<size_t>(count));
    }
  }
  UniqueFd reader;
  UniqueFd writer;
};

UniqueFd temporary_file(std::string_view content) {
  char path[] = "/tmp/tsvmm-test-XXXXXX";
  UniqueFd file(::mkostemp(path, O_CLOEXEC));
  EXPECT_TRUE(file.valid());
  ::unlink(path);
  EXPECT_EQ(::write(file.get(), content.data(), content.size()),
            static_cast<ssize_t>(content.size()));
  ::lseek(file.get(), 0, SEEK_SET);
  return file;
}

UniqueFd null_device() { return UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)); }

bool has_nonblock(int fd) { return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }

class TtyBackendTest : public testing::Test {
 protected:
  // The virtual machine's threads block it; tests write from the main thread too.
  TtyBackendTest() { ::signal(SIGPIPE, SIG_IGN); }
  ~TtyBackendTest() override { loop.stop(); }

  /// The loop has handled everything that was ready.
  void settle() {
    for (int i = 0; i < 3; ++i) loop.call([] {});
  }

  EventLoop loop{"test-loop"};
  RecordingClient client;
};

TEST_F(TtyBackendTest, PipeInputArrivesAndEnds) {
  Pipe in;
  TtyBackend backend(in.reader.get(), null_device().get(), loop);
  backend.attach(&client);
  ASSERT_EQ(::write(in.writer.get(), "hello", 5), 5);
  EXPECT_TRUE(eventually([&] { return client.received() == "hello"; }));
  in.writer.reset();
  settle();
  EXPECT_EQ(client.received(), "hello");
  EXPECT_FALSE(has_nonblock(in.reader.get()));
  backend.attach(nullptr);
}

TEST_F(TtyBackendTest, TheOutputGoesIntoALogAsWell) {
  const Pipe out;
  const UniqueFd log = temporary_file("");
  const auto backend = make_char_backend(
      {.kind = CharBackendSpec::Kind::kTty, .output = out.writer.get(), .log = log.get()}, loop,
      {});
  EXPECT_EQ(backend->write(bytes_of("login: ")), 7U);
  EXPECT_EQ(backend->write(bytes_of("root")), 4U);
  EXPECT_EQ(out.drain(), "login: root");
  char text[64];
  EXPECT_EQ(::pread(log.get(), text, sizeof text, 0), 11);
  EXPECT_EQ(std::string_view(text, 11), "login: root");
}

TEST_F(TtyBackendTest, InputWaitsForRoom) {
  Pipe in;
  TtyBackend backend(in.reader.get(), null_device().get(), loop);
  client.set_room(3);
  backend.attach(&client);
  ASSERT_EQ(::write(in.writer.get(), "abcdefgh", 8), 8);
  EXPECT_TRUE(eventually([&] { return client.received() == "abc"; }));
  settle();
  EXPECT_EQ(client.received(), "abc");
  client.set_room(2);
  backend.input_wanted();
  EXPECT_TRUE(eventually([&] { return client.received() == "abcde"; }));
  client.set_room(100);
  backend.input_wanted();
  EXPECT_TRUE(eventually([&] { return client.received() == "abcdefgh"; }));
  EXPECT_EQ(client.overruns(), 0);
  backend.attach(nullptr);
}

TEST_F(TtyBackendTest, RegularFileAsInput) {
  const UniqueFd file = temporary_file("line one\nline two\n");
  TtyBackend backend(file.get(), null_device().get(), loop);
  client.set_room(4);
  backend.attach(&client);
  EXPECT_TRUE(eventually([&] { return client.received() == "line"; }));
  client.set_room(1000);
  backend.input_wanted();
  EXPECT_TRUE(eventually([&] { return client.received() == "line one\nline two\n"; }));
  backend.input_wanted();
  settle();
  EXPECT_EQ(client.received().size(), 18U);
  backend.attach(nullptr);
}

TEST_F(TtyBackendTest, NullDeviceAsInputEndsAtOnce) {
  const UniqueFd null = null_device();
  TtyBackend backend(null.get(), null.get(), loop);
  backend.attach(&client);
  backend.input_wanted();
  settle();
  EXPECT_EQ(client.received(), "");
  EXPECT_EQ(backend.write(bytes_of("dropped")), 7U);
  backend.attach(nullptr);
}

TEST_F(TtyBackendTest, EndedInputDoesNotKeepTheLoopBusy) {
  Pipe in;
  in.writer.reset();
  TtyBackend backend(in.reader.get(), null_device().get(), loop);
  backend.attach(&client);
  settle();
  EXPECT_TRUE(settles_down());
  backend.attach(nullptr);
}

TEST_F(TtyBackendTest, FullPipeRefusesAndTellsWhenThereIsRoom) {
  Pipe out;
  TtyBackend backend(-1, out.writer.get(), loop);
  backend.attach(&client);
  const std::string block(4096, 'x');
  size_t taken = 0;
  for (;;) {
    const size_t count = backend.write(bytes_of(block));
    taken += count;
    if (count < block.size()) break;
    ASSERT_LT(taken, size_t{64} << 20);
  }
  EXPECT_EQ(backend.write(bytes_of("y")), 0U);
  settle();
  const int ready = client.ready();
  EXPECT_GE(taken, TtyBackend::kBacklog);
  size_t read = 0;
  EXPECT_TRUE(eventually([&] { return (read += out.drain().size()) == taken; }));
  EXPECT_TRUE(eventually([&] { return client.ready() > ready; }));
  EXPECT_EQ(backend.write(bytes_of("y")), 1U);
  EXPECT_EQ(out.drain(), "y");
  EXPECT_FALSE(has_nonblock(out.writer.get()));
  backend.attach(nullptr);
}

TEST_F(TtyBackendTest, WaitsAtItsEndForAReaderThatIsSlow) {
  const std::string text(100000, 'x');
  // It waits for a second, which a busy machine may need for something else.
  constexpr std::chrono::milliseconds kLong{900};
  for (int attempt = 0; attempt < 20; ++attempt) {
    EventLoop own("own-loop");
    Pipe out;
    ASSERT_GT(::fcntl(out.writer.get(), F_SETPIPE_SZ, 4096), 0);
    std::string read;
    std::thread reader;
    std::chrono::steady_clock::time_point begin;
    {
      TtyBackend backend(-1, out.writer.get(), own);
      EXPECT_EQ(backend.write(bytes_of(text)), text.size());
      own.stop();
      reader = std::thread([&] { read = read_exactly(out.reader.get(), text.size()); });
      begin = std::chrono::steady_clock::now();
    }
    const bool held_up = std::chrono::steady_clock::now() - begin > kLong;
    out.writer.reset();
    reader.join();
    if (held_up) continue;
    EXPECT_EQ(read.size(), text.size());
    return;
  }
  FAIL() << "the reader never had enough time";
}

TEST_F(TtyBackendTest, DoesNotWaitForEverForAReaderThatDoesNotRead) {
  Pipe out;
  TtyBackend backend(-1, out.writer.get(), loop);
  EXPECT_EQ(backend.write(bytes_of(std::string(100000, 'x'))), 100000U);
}

TEST_F(TtyBackendTest, ClosedPipeTakesEverything) {
  Pipe out;
  TtyBackend backend(-1, out.writer.get(), loop);
  out.reader.reset();
  EXPECT_EQ(backend.write(bytes_of("lost")), 4U);
  Pipe closed_before;
  closed_before.reader.reset();
  TtyBackend second(-1, closed_before.writer.get(), loop);
  EXPECT_EQ(second.write(bytes_of("lost")), 4U);
}

TEST_F(TtyBackendTest, SocketAsOutputRefusesWhenFull) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  TtyBackend backend(-1, ours.get(), loop);
  const std::string block(4096, 'x');
  size_t taken = 0;
  while (backend.write(bytes_of(block)) == block.size()) {
    taken += block.size();
    ASSERT_LT(taken, size_t{64} << 20);
  }
  theirs.reset();
  EXPECT_EQ(backend.write(bytes_of(block)), block.size());
  EXPECT_FALSE(has_nonblock(ours.get()));
}

TEST_F(TtyBackendTest, FileOutputIsAppendedWhereTheDescriptorStands) {
  const UniqueFd file = temporary_file("");
  TtyBackend backend(-1, file.get(), loop);
  EXPECT_EQ(backend.write(bytes_of("one ")), 4U);
  EXPECT_EQ(::write(file.get(), "two ", 4), 4);
  EXPECT_EQ(backend.write(bytes_of("three")), 5U);
  char text[32];
  EXPECT_EQ(::pread(file.get(), text, sizeof text, 0), 13);
  EXPECT_EQ(std::string_view(text, 13), "one two three");
}

TEST_F(TtyBackendTest, FullDiskLosesOutputOnly) {
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full.valid());
  TtyBackend backend(-1, full.get(), loop);
  EXPECT_EQ(backend.write(bytes_of("lost")), 4U);
}

TEST_F(TtyBackendTest, FullDisksAreToldOfOnceForEachFileAndCounted) {
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full.valid());
  using Told = std::vector<std::pair<OutputErrors::File, int>>;
  Told told;
  const auto errors = std::make_shared<OutputErrors>(
      [&](OutputErrors::File file, int error) { told.emplace_back(file, error); });
  const auto backend = make_char_backend(
      {.kind = CharBackendSpec::Kind::kFile, .output = full.get(), .log = full.get()}, loop,
      {.escape = {}, .output_errors = errors});
  EXPECT_EQ(errors->count(), 0U);
  EXPECT_EQ(backend->write(bytes_of("lost")), 4U);
  EXPECT_EQ(backend->write(bytes_of("as well")), 7U);
  EXPECT_EQ(told,
            (Told{{OutputErrors::File::kOutput, ENOSPC}, {OutputErrors::File::kLog, ENOSPC}}));
  EXPECT_EQ(errors->count(), 4U);
}

TEST_F(TtyBackendTest, AReaderThatHasGoneIsNoErrorOfTheHost) {
  Pipe out;
  out.reader.reset();
  const auto errors = std::make_shared<OutputErrors>([](OutputErrors::File, int) {});
  const auto backend = make_char_backend(
      {.kind = CharBackendSpec::Kind::kTty, .input = -1, .output = out.writer.get()}, loop,
      {.escape = {}, .output_errors = errors});
  EXPECT_EQ(backend->write(bytes_of("lost")), 4U);
  EXPECT_EQ(errors->count(), 0U);
}

TEST_F(TtyBackendTest, TerminalKeepsItsFlagsAndGivesBackPressure) {
  int master = -1;
  int slave = -1;
  ASSERT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  const UniqueFd terminal(master);
  const UniqueFd user(slave);
  termios raw{};
  ::tcgetattr(slave, &raw);
  ::cfmakeraw(&raw);
  ::tcsetattr(slave, TCSANOW, &raw);
  TtyBackend backend(slave, slave, loop);
  backend.attach(&client);
  ASSERT_EQ(::write(master, "k", 1), 1);
  EXPECT_TRUE(eventually([&] { return client.received() == "k"; }));
  const std::string block(1000, 'x');
  size_t taken = 0;
  for (;;) {
    const size_t count = backend.write(bytes_of(block));
    taken += count;
    if (count < block.size()) break;
    ASSERT_LT(taken, size_t{64} << 20);
  }
  EXPECT_FALSE(has_nonblock(slave));
  size_t read = 0;
  while (read < taken) {
    char buffer[4096];
    const ssize_t count = ::read(master, buffer, sizeof buffer);
    ASSERT_GT(count, 0);
    read += static_cast<size_t>(count);
  }
  EXPECT_TRUE(eventually([&] { return client.ready() > 0; }));
  backend.attach(nullptr);
}

/// A guest's polled output through a UART into a pipe that is read slowly: complete, in order.
TEST_F(TtyBackendTest, SerialThroughASlowPipeLosesNothing) {
  Pipe out;
  ASSERT_GT(::fcntl(out.writer.get(), F_SETPIPE_SZ, 4096), 0);
  RecordingLine line;
  const CharBackendSpec spec{
      .kind = CharBackendSpec::Kind::kFile, .input = -1, .output = out.writer.get()};
  Serial serial(line, make_char_backend(spec, loop, {}));
  constexpr size_t kBytes = 50000;
  std::thread guest([&] {
    for (size_t i = 0; i < kBytes; ++i) {
      while ((read8(serial, 5) & 0x20) == 0) std::this_thread::yield();
      write8(serial, 0, static_cast<uint8_t>('a' + i % 26));
    }
  });
  std::string text;
  EXPECT_TRUE(eventually([&] {
    text += out.drain();
    return text.size() >= kBytes;
  }));
  guest.join();
  ASSERT_EQ(text.size(), kBytes);
  for (size_t i = 0; i < kBytes; ++i) ASSERT_EQ(text[i], static_cast<char>('a' + i % 26)) << i;
}

}  // namespace
}  // namespace tsvmm
