#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cpu_relax.h"
#include "core/monotonic.h"

namespace tsvmm {

/// Looks for at most `longest_ns` since `start_ns`, at least once; true as soon as `ready()` is.
template <uint64_t (*kNow)() noexcept, typename Ready>
[[nodiscard]] bool look_for(uint64_t start_ns, uint64_t longest_ns, Ready&& ready) noexcept {
  constexpr int kLooksPerClock = 16;
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (ready()) return true;
      cpu_relax();
    }
  } while (kNow() - start_ns < longest_ns);
  return false;
}

/// Decides how long a thread goes on looking for work before it sleeps and has to be woken, which
/// costs both sides some microseconds. The time grows while sleeps turn out so short that looking
/// would have paid, and shrinks to nothing while they do not: an idle thread sleeps.
///
///     if (poll.wait([&] { return queue.has_work(); })) { serve(); } else { ask_for_a_wake_up(); }
///     ...
///     void woken() { poll.woken(); serve(); }
///
/// Belongs to one thread at a time. `kNow` is the clock, in nanoseconds.
template <uint64_t (*kNow)() noexcept>
class AdaptivePollBy {
 public:
  /// `longest_ns` is the longest time that a thread polls before it sleeps.
  explicit AdaptivePollBy(uint64_t longest_ns) : longest_ns_(longest_ns) {}

  /// Looks until `ready()` says true, and returns true; or until that does not pay any more: the
  /// thread is then about to sleep.
  template <typename Ready>
  [[nodiscard]] bool wait(Ready&& ready) noexcept {
    const uint64_t start = kNow();
    if (window_ns_ != 0 && look_for<kNow>(start, window_ns_, ready)) return true;
    waiting_since_ns_ = start;
    return false;
  }

  /// The thread has been woken. Nothing happens if it did not sleep since the last call.
  void woken() noexcept {
    if (waiting_since_ns_ == 0) return;
    const uint64_t waited = kNow() - waiting_since_ns_;
    waiting_since_ns_ = 0;
    if (waited <= longest_ns_) {
      window_ns_ = std::clamp(2 * window_ns_, kShortestNs, longest_ns_);
    } else {
      window_ns_ = window_ns_ / 2 < kShortestNs ? 0 : window_ns_ / 2;
    }
  }

  /// How long the next wait() would look.
  [[nodiscard]] uint64_t window_ns() const noexcept { return window_ns_; }

 private:
  /// A time below which polling is not worth its clock readings.
  static constexpr uint64_t kShortestNs = 2000;

  const uint64_t longest_ns_;
  uint64_t window_ns_ = 0;
  uint64_t waiting_since_ns_ = 0;
};

using AdaptivePoll = AdaptivePollBy<monotonic_ns>;

}  // namespace tsvmm
