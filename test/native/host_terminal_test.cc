// A person's terminal while it is raw, and what is left of it when the process ends.

#include <pty.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <functional>
#include <thread>

#include "core/error.h"
#include "core/unique_fd.h"
#include "gtest/gtest.h"
#include "host/raw_terminals.h"
#include "memory/lost_pages.h"
#include "memory/page_size.h"

namespace tsvmm {
namespace {

class HostTerminalTest : public testing::Test {
 protected:
  HostTerminalTest() {
    int person_fd = -1;
    int terminal_fd = -1;
    EXPECT_EQ(::openpty(&person_fd, &terminal_fd, nullptr, nullptr, nullptr), 0);
    person.reset(person_fd);
    terminal.reset(terminal_fd);
    before = settings();
  }

  [[nodiscard]] termios settings() const {
    termios now{};
    EXPECT_EQ(::tcgetattr(terminal.get(), &now), 0);
    return now;
  }

  [[nodiscard]] bool is_as_before() const {
    const termios now = settings();
    return now.c_iflag == before.c_iflag && now.c_oflag == before.c_oflag &&
           now.c_cflag == before.c_cflag && now.c_lflag == before.c_lflag &&
           std::ranges::equal(now.c_cc, before.c_cc);
  }

  /// How a process ends that does this.
  static int end_of(const std::function<void()>& work) {
    const pid_t child = ::fork();
    if (child == 0) {
      const rlimit none{};
      ::setrlimit(RLIMIT_CORE, &none);
      // The sanitizers' handlers of faults.
      for (int signal = 1; signal < SIGRTMIN; ++signal) ::signal(signal, SIG_DFL);
      work();
      ::_exit(0);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return status;
  }

  UniqueFd person;
  UniqueFd terminal;
  termios before{};
};

class HostTerminalSignalTest : public HostTerminalTest, public testing::WithParamInterface<int> {};

TEST_P(HostTerminalSignalTest, ASignalThatEndsTheProcessRestoresTheTerminal) {
  const int status = end_of([this] {
    (void)begin_raw_use(terminal.get());
    if (!is_as_before()) ::raise(GetParam());
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), GetParam());
  EXPECT_TRUE(is_as_before());
}

INSTANTIATE_TEST_SUITE_P(EndingSignals, HostTerminalSignalTest,
                         testing::Values(SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGABRT, SIGBUS, SIGFPE,
                                         SIGUSR1, SIGSEGV, SIGUSR2, SIGALRM, SIGTERM, SIGXCPU,
                                         SIGVTALRM, SIGIO, SIGPWR, SIGSYS),
                         [](const auto& info) { return std::string(::sigabbrev_np(info.param)); });

TEST_F(HostTerminalTest, AFaultRestoresTheTerminal) {
  const int status = end_of([this] {
    (void)begin_raw_use(terminal.get());
    __builtin_trap();
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(is_as_before());
}

TEST_F(HostTerminalTest, AnIgnoredSignalAndOneWithAHandlerStayWhatTheyAre) {
  const int status = end_of([this] {
    ::signal(SIGUSR1, SIG_IGN);
    ::signal(SIGUSR2, [](int) {});
    (void)begin_raw_use(terminal.get());
    ::raise(SIGUSR1);
    ::raise(SIGUSR2);
    ::_exit(is_as_before() ? 1 : 0);
  });
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(is_as_before());
}

/// Of a mapping in which nothing is lost.
class Mapping {
 public:
  Mapping() : lost_pages_(page_.data(), page_.size(), -1, 0, LostPages::Holes::kOneByOne) {}

 private:
  alignas(kHostPageSize) std::array<uint8_t, kHostPageSize> page_{};
  LostPages lost_pages_;
};

TEST_F(HostTerminalTest, ABusErrorThatIsNoLostPageRestoresTheTerminalAsWell) {
  const int status = end_of([this] {
    const Mapping mapping;
    (void)begin_raw_use(terminal.get());
    ::raise(SIGBUS);
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGBUS);
  EXPECT_TRUE(is_as_before());
}

/// It must not be stopped there, and so not end (termios(3), SIGTTOU).
TEST_P(HostTerminalSignalTest, AProcessInTheBackgroundRestoresItsTerminalAndEnds) {
  const int status = end_of([this] {
    ::setsid();
    ::ioctl(terminal.get(), TIOCSCTTY, 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const Mapping mapping;
      (void)begin_raw_use(terminal.get());
      ::setpgid(0, 0);
      ::raise(GetParam());
    }
    int inner = -1;
    ::waitpid(child, &inner, WUNTRACED);
    if (WIFSTOPPED(inner)) ::kill(child, SIGKILL);
    ::_exit(WIFSIGNALED(inner) && WTERMSIG(inner) == GetParam() && is_as_before() ? 0 : 1);
  });
  EXPECT_EQ(status, 0);
}

struct sigaction bus_error_action() {
  struct sigaction action {};
  EXPECT_EQ(::sigaction(SIGBUS, nullptr, &action), 0);
  return action;
}

TEST_F(HostTerminalTest, AHandlerOfLostPagesThatComesMeanwhileStays) {
  constexpr int kMappings = 20'000;
  const auto before_test = bus_error_action();
  ::signal(SIGBUS, SIG_DFL);
  const auto wanted = [] {
    const Mapping mapping;
    return bus_error_action().sa_sigaction;
  }();
  std::atomic<bool> stop = false;
  std::thread other([this, &stop] {
    while (!stop) end_raw_use(begin_raw_use(terminal.get()).value());
  });
  for (int i = 0; i < kMappings && !HasFailure(); ++i) {
    const Mapping mapping;
    for (int look = 0; look < 20; ++look) EXPECT_EQ(bus_error_action().sa_sigaction, wanted);
  }
  stop = true;
  other.join();
  ::sigaction(SIGBUS, &before_test, nullptr);
}

TEST_F(HostTerminalTest, ATerminalThatIsRestoredIsLeftAlone) {
  const int status = end_of([this] {
    const auto use = begin_raw_use(terminal.get());
    end_raw_use(use.value());
    termios others = before;
    others.c_lflag ^= ECHO;
    ::tcsetattr(terminal.get(), TCSANOW, &others);
    ::raise(SIGUSR1);
  });
  EXPECT_EQ(WTERMSIG(status), SIGUSR1);
  EXPECT_EQ(settings().c_lflag ^ before.c_lflag, static_cast<tcflag_t>(ECHO));
}

TEST_F(HostTerminalTest, OneThatIsMadeRawTwiceGoesBackToWhatItWasAtFirst) {
  const int status = end_of([this] {
    (void)begin_raw_use(terminal.get());
    (void)begin_raw_use(terminal.get());
    ::raise(SIGQUIT);
  });
  EXPECT_EQ(WTERMSIG(status), SIGQUIT);
  EXPECT_TRUE(is_as_before());
}

TEST_F(HostTerminalTest, EveryRawTerminalIsRestored) {
  int person_fd = -1;
  int other_fd = -1;
  ASSERT_EQ(::openpty(&person_fd, &other_fd, nullptr, nullptr, nullptr), 0);
  const UniqueFd other_person(person_fd);
  const UniqueFd other(other_fd);
  const int status = end_of([&] {
    (void)begin_raw_use(other.get());
    (void)begin_raw_use(terminal.get());
    ::raise(SIGALRM);
  });
  EXPECT_EQ(WTERMSIG(status), SIGALRM);
  EXPECT_TRUE(is_as_before());
  termios now{};
  EXPECT_EQ(::tcgetattr(other.get(), &now), 0);
  EXPECT_TRUE((now.c_lflag & ICANON) != 0);
}

/// Two VMs of one process: whichever ends first, the other one still needs it, and the last one
/// puts back what there was before both.
TEST_F(HostTerminalTest, TheLastOfSeveralUsesPutsItBack) {
  const UniqueFd same = UniqueFd::duplicate(terminal.get());
  for (const bool first_ends_first : {true, false}) {
    std::array uses{begin_raw_use(terminal.get()).value(), begin_raw_use(same.get()).value()};
    if (!first_ends_first) std::swap(uses[0], uses[1]);
    end_raw_use(uses[0]);
    EXPECT_FALSE(is_as_before());
    end_raw_use(uses[1]);
    EXPECT_TRUE(is_as_before());
  }
}

/// The number of a descriptor that was closed may be another terminal's.
TEST_F(HostTerminalTest, AClosedDescriptorsTerminalIsPutBackAndNoOther) {
  int person_fd = -1;
  int other_fd = -1;
  ASSERT_EQ(::openpty(&person_fd, &other_fd, nullptr, nullptr, nullptr), 0);
  const UniqueFd other_person(person_fd);
  UniqueFd other(other_fd);
  UniqueFd closed = UniqueFd::duplicate(terminal.get());
  const RawUse use = begin_raw_use(closed.get()).value();
  termios others{};
  ASSERT_EQ(::tcgetattr(other.get(), &others), 0);
  others.c_lflag ^= ECHO;
  ASSERT_EQ(::tcsetattr(other.get(), TCSANOW, &others), 0);
  ASSERT_EQ(::dup2(other.get(), closed.get()), closed.get());
  end_raw_use(use);
  EXPECT_TRUE(is_as_before());
  termios now{};
  EXPECT_EQ(::tcgetattr(other.get(), &now), 0);
  EXPECT_EQ(now.c_lflag, others.c_lflag);
}

/// A guest that powers off must not leave a process behind that is stopped (SIGTTOU).
TEST_F(HostTerminalTest, AProcessInTheBackgroundPutsItsTerminalBackAndGoesOn) {
  const int status = end_of([this] {
    ::setsid();
    ::ioctl(terminal.get(), TIOCSCTTY, 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const RawUse use = begin_raw_use(terminal.get()).value();
      ::setpgid(0, 0);
      end_raw_use(use);
      ::_exit(0);
    }
    int inner = -1;
    ::waitpid(child, &inner, WUNTRACED);
    if (WIFSTOPPED(inner)) ::kill(child, SIGKILL);
    ::_exit(WIFEXITED(inner) && is_as_before() ? 0 : 1);
  });
  EXPECT_EQ(status, 0);
}

TEST_F(HostTerminalTest, WhatIsNoTerminalHasNothingToRestore) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  EXPECT_EQ(begin_raw_use(reader.get()), std::nullopt);
  const RawUse use = begin_raw_use(terminal.get()).value();
  end_raw_use(use);
  EXPECT_THROW(end_raw_use(use), Error);
  EXPECT_THROW(end_raw_use(use + 1), Error);
}

}  // namespace
}  // namespace tsvmm
