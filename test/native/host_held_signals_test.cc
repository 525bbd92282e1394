#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <initializer_list>

#include "host/held_signals.h"

namespace tsvmm {
namespace {

/// How a process ends that runs `body`.
template <typename Body>
int status_of(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int signal : {SIGHUP, SIGINT, SIGTERM}) ::signal(signal, SIG_DFL);
    body();
    ::_exit(0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

TEST(HeldSignals, AreTakenByWhatIsThereWhenTheyAreReleased) {
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) {
    const int taken = status_of([signal] {
      hold_signals();
      ::kill(::getpid(), signal);
      ::signal(signal, [](int) { ::_exit(7); });
      release_signals();
    });
    EXPECT_TRUE(WIFEXITED(taken) && WEXITSTATUS(taken) == 7) << signal;
    const int ended = status_of([signal] {
      hold_signals();
      release_signals();
      ::kill(::getpid(), signal);
    });
    EXPECT_TRUE(WIFSIGNALED(ended) && WTERMSIG(ended) == signal) << signal;
  }
}

TEST(HeldSignals, AreNotThoseForADebuggerOrACore) {
  const int status = status_of([] {
    hold_signals();
    ::kill(::getpid(), SIGUSR1);
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
}

}  // namespace
}  // namespace tsvmm
