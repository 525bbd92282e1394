// The way out of a terminal.

#include <pty.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>

#include "device/escapable_terminal.h"
#include "device_test_support.h"

namespace tsvmm {
namespace {

class EscapableTerminalTest : public testing::Test {
 protected:
  EscapableTerminalTest() {
    int person_fd = -1;
    int terminal_fd = -1;
    termios raw{};
    ::cfmakeraw(&raw);
    EXPECT_EQ(::openpty(&person_fd, &terminal_fd, nullptr, &raw, nullptr), 0);
    person.reset(person_fd);
    terminal.reset(terminal_fd);
    backend.emplace(terminal.get(), terminal.get(), loop, [this] { ++escapes; });
  }
  ~EscapableTerminalTest() override {
    backend->attach(nullptr);
    backend.reset();
    loop.stop();
  }

  void press(std::string_view keys) const {
    ASSERT_EQ(::write(person.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }

  EventLoop loop{"test-loop"};
  RecordingClient client;
  UniqueFd person;
  UniqueFd terminal;
  std::atomic<int> escapes = 0;
  std::optional<EscapableTerminal> backend;
};

TEST_F(EscapableTerminalTest, CtrlAxIsAnEscapeAndNothingElseIs) {
  backend->attach(&client);
  press("x\x02x ax\x01\x01x\x01y");
  EXPECT_TRUE(eventually([&] { return client.received() == "x\x02x ax\x01x\x01y"; }));
  EXPECT_EQ(escapes, 0);
  press("a\x01x");
  EXPECT_TRUE(eventually([&] { return escapes == 1; }));
  press("\x01");
  press("X");
  EXPECT_TRUE(eventually([&] { return escapes == 2; }));
  press("b");
  EXPECT_TRUE(eventually([&] {
    return client.received() ==
           "x\x02x ax\x01x\x01y"
           "ab";
  }));
}

TEST_F(EscapableTerminalTest, WorksWhileTheGuestTakesNothing) {
  client.set_room(0);
  backend->attach(&client);
  press("typed ahead\x01x");
  EXPECT_TRUE(eventually([&] { return escapes == 1; }));
  EXPECT_EQ(client.received(), "");
  client.set_room(5);
  backend->input_wanted();
  EXPECT_TRUE(eventually([&] { return client.received() == "typed"; }));
  client.set_room(100);
  backend->input_wanted();
  EXPECT_TRUE(eventually([&] { return client.received() == "typed ahead"; }));
  EXPECT_EQ(client.overruns(), 0);
}

TEST_F(EscapableTerminalTest, TypeAheadHasAnEnd) {
  client.set_room(0);
  backend->attach(&client);
  const std::string line(1000, 'k');
  for (int i = 0; i < 10; ++i) {
    press(line);
    loop.call([] {});
  }
  press("\x01x");
  EXPECT_TRUE(eventually([&] { return escapes == 1; }));
  client.set_room(SIZE_MAX);
  backend->input_wanted();
  EXPECT_TRUE(
      eventually([&] { return client.received().size() == EscapableTerminal::kTypeAhead; }));
}

}  // namespace
}  // namespace tsvmm
