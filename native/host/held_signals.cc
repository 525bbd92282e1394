#include "host/held_signals.h"

#include <csignal>
#include <initializer_list>

namespace tsvmm {
namespace {

sigset_t those_that_end() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) sigaddset(&set, signal);
  return set;
}

}  // namespace

void hold_signals() noexcept {
  const sigset_t set = those_that_end();
  (void)pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

void release_signals() noexcept {
  const sigset_t set = those_that_end();
  (void)pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace tsvmm
