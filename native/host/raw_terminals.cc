#include "host/raw_terminals.h"

#include <sys/ioctl.h>
#include <termios.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <string>

#include "core/error.h"
#include "core/signal_actions.h"
#include "core/unique_fd.h"

namespace tsvmm {
namespace {

/// Signals that end a process by default (signal(7)), but SIGKILL, which nothing is told of, and
/// the real-time ones.
constexpr std::array kEndingSignals = {SIGHUP,  SIGINT,  SIGQUIT,   SIGILL,  SIGTRAP, SIGABRT,
                                       SIGBUS,  SIGFPE,  SIGUSR1,   SIGSEGV, SIGUSR2, SIGPIPE,
                                       SIGALRM, SIGTERM, SIGSTKFLT, SIGXCPU, SIGXFSZ, SIGVTALRM,
                                       SIGPROF, SIGIO,   SIGPWR,    SIGSYS};

/// One is what a command has; a process with this library may have several VMs at terminals.
constexpr size_t kMaxTerminals = 64;
constexpr int kNone = -1;

struct Kept {
  /// Our own, as whoever has the terminal may close it. Of settings that are complete.
  std::atomic<int> fd = kNone;
  termios settings{};

  // Not for the handler.

  unsigned device = 0;  ///< which terminal it is
  unsigned uses = 0;
  uint32_t generation = 0;  ///< tells these uses from earlier ones of this place
};

/// Read by the handler, at any time; written by who has the lock.
std::array<Kept, kMaxTerminals> terminals;
std::mutex changes;
static_assert(std::atomic<int>::is_always_lock_free);

/// What is called here is safe in a signal's handler (signal-safety(7)).
template <typename Work>
void without_signals(const Work& work) noexcept {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  work();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

/// The same. Also without SIGTTOU, by which a process in the background would be stopped here.
void restore_all() noexcept {
  without_signals([] {
    for (const Kept& kept : terminals) {
      const int fd = kept.fd.load(std::memory_order_acquire);
      if (fd != kNone) (void)::tcsetattr(fd, TCSANOW, &kept.settings);
    }
  });
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

bool is_any_kept() {
  return std::ranges::any_of(terminals, [](const Kept& kept) { return kept.uses != 0; });
}

/// The same for all descriptors of a terminal, also for /dev/tty.
unsigned device_of(int fd) {
  unsigned device = 0;
  check_errno(::ioctl(fd, TIOCGDEV, &device), "asking which terminal it is");
  return device;
}

/// The place of a terminal that is raw already, or a new one's. Throws Error.
Kept& place_of(int fd, const termios& settings) {
  const unsigned device = device_of(fd);
  const auto kept = std::ranges::find_if(
      terminals, [device](const Kept& one) { return one.uses != 0 && one.device == device; });
  if (kept != terminals.end()) return *kept;
  const auto free = std::ranges::find(terminals, 0U, &Kept::uses);
  if (free == terminals.end()) {
    throw Error("EMFILE",
                "a process can have " + std::to_string(kMaxTerminals) + " terminals in raw mode");
  }
  UniqueFd own = UniqueFd::duplicate(fd);
  if (!is_any_kept()) install();
  free->device = device;
  free->settings = settings;
  ++free->generation;
  free->fd.store(own.release(), std::memory_order_release);
  return *free;
}

/// Puts the terminal back. Throws Error; the place is free all the same.
void give_back(Kept& kept) {
  int error = 0;
  without_signals([&] {
    if (::tcsetattr(kept.fd, TCSANOW, &kept.settings) != 0) error = errno;
  });
  const UniqueFd gone(kept.fd.exchange(kNone, std::memory_order_acq_rel));
  if (!is_any_kept()) uninstall();
  if (error != 0) throw Error::from_errno("restoring the terminal", error);
}

void end_use_locked(Kept& kept) {
  if (--kept.uses == 0) give_back(kept);
}

}  // namespace

std::optional<RawUse> begin_raw_use(int fd) {
  const std::lock_guard lock(changes);
  termios settings{};
  if (::tcgetattr(fd, &settings) != 0) return std::nullopt;
  // Before it is raw: a signal may come at any time.
  Kept& kept = place_of(fd, settings);
  ++kept.uses;
  ::cfmakeraw(&settings);
  if (::tcsetattr(fd, TCSANOW, &settings) != 0) {
    const int error = errno;
    (void)attempt([&] { end_use_locked(kept); });
    throw Error::from_errno("putting the terminal into raw mode", error);
  }
  return uint64_t{kept.generation} * kMaxTerminals + static_cast<uint64_t>(&kept - &terminals[0]);
}

void end_raw_use(RawUse use) {
  const std::lock_guard lock(changes);
  Kept& kept = terminals[use % kMaxTerminals];
  if (kept.uses == 0 || kept.generation != use / kMaxTerminals) {
    throw Error("EINVAL", "the terminal is not in raw mode by that any more");
  }
  end_use_locked(kept);
}

}  // namespace tsvmm
