#include "host/raw_terminals.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>

#include "core/signal_actions.h"

namespace tsvmm {
namespace {

/// Signals that end a process by default (signal(7)), but SIGKILL, which nothing is told of, and
/// the real-time ones.
constexpr std::array kEndingSignals = {SIGHUP,  SIGINT,  SIGQUIT,   SIGILL,  SIGTRAP, SIGABRT,
                                       SIGBUS,  SIGFPE,  SIGUSR1,   SIGSEGV, SIGUSR2, SIGPIPE,
                                       SIGALRM, SIGTERM, SIGSTKFLT, SIGXCPU, SIGXFSZ, SIGVTALRM,
                                       SIGPROF, SIGIO,   SIGPWR,    SIGSYS};

/// One is what a command has; a process with this library may have several VMs at terminals.
constexpr size_t kMaxTerminals = 16;
constexpr int kNone = -1;

struct Kept {
  /// Of settings that are complete.
  std::atomic<int> fd = kNone;
  termios settings{};
};

/// Read by the handler, at any time; written by who has the lock.
std::array<Kept, kMaxTerminals> terminals;
std::mutex changes;
static_assert(std::atomic<int>::is_always_lock_free);

/// What is called here, and in the handler, is safe there (signal-safety(7)).
void restore_all() noexcept {
  // Also SIGTTOU, by which a process in the background would be stopped here.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  for (const Kept& kept : terminals) {
    const int fd = kept.fd.load(std::memory_order_acquire);
    if (fd != kNone) (void)::tcsetattr(fd, TCSANOW, &kept.settings);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

/// As if we were not there, but for the terminals.
void on_ending_signal(int signal, siginfo_t* /*info*/, void* /*context*/) noexcept {
  const int error = errno;
  restore_all();
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, nullptr);
  // Comes when the handler returns, as it is blocked in it: also a fault is where it was then.
  ::raise(signal);
  errno = error;
}

bool is_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == &on_ending_signal;
}

bool is_default(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_DFL;
}

void replace(int signal, bool (*wanted)(const struct sigaction&), const struct sigaction& action) {
  const std::lock_guard lock(signal_actions);
  struct sigaction now {};
  if (::sigaction(signal, nullptr, &now) == 0 && wanted(now)) {
    ::sigaction(signal, &action, nullptr);
  }
}

void install() {
  struct sigaction action {};
  action.sa_sigaction = &on_ending_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  for (const int signal : kEndingSignals) replace(signal, &is_default, action);
  before_ending_signal = &restore_all;
}

void uninstall() noexcept {
  before_ending_signal = nullptr;
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (const int signal : kEndingSignals) replace(signal, &is_ours, standard);
}

Kept* find(int fd) {
  const auto found =
      std::ranges::find_if(terminals, [fd](const Kept& kept) { return kept.fd == fd; });
  return found == terminals.end() ? nullptr : &*found;
}

bool is_any_kept() {
  return std::ranges::any_of(terminals, [](const Kept& kept) { return kept.fd != kNone; });
}

}  // namespace

void keep_settings(int fd, const termios& settings) {
  const std::lock_guard lock(changes);
  if (find(fd) != nullptr) return;
  Kept* const free = find(kNone);
  if (free == nullptr) return;
  if (!is_any_kept()) install();
  free->settings = settings;
  free->fd.store(fd, std::memory_order_release);
}

void forget_settings(int fd) noexcept {
  const std::lock_guard lock(changes);
  Kept* const kept = find(fd);
  if (kept == nullptr) return;
  kept->fd.store(kNone, std::memory_order_release);
  if (!is_any_kept()) uninstall();
}

}  // namespace tsvmm
