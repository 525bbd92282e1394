#pragma once

#include <cstddef>
#include <cstdint>

#include "core/adaptive_poll.h"

namespace tsvmm {

/// Whether a block queue's thread goes on looking before it sleeps, and for what: for as long as
/// that has paid for the event that is due.
///
/// Of several requests in flight the host's answers are slept for. What comes meanwhile is taken
/// together, and what the driver makes of it reaches the host together; a thread that looks takes
/// one at a time, and each is then a system call, and a doorbell of the host's disk, by itself.
///
/// Belongs to one thread at a time. `kNow` is the clock, in nanoseconds.
template <uint64_t (*kNow)() noexcept>
class BlockPollBy {
 public:
  void request_taken() noexcept {
    if (answers_due_ != 0) --answers_due_;
  }
  void request_returned() noexcept { ++answers_due_; }

  /// Looks until `ready()` says true, and returns true; false if the thread is to sleep. `takes`
  /// says whether a request of the driver's would be taken.
  template <typename Ready>
  [[nodiscard]] bool wait(size_t in_flight, bool takes, Ready&& ready) noexcept {
    Poll* const poll = poll_for(in_flight, takes);
    return poll != nullptr && poll->wait(ready);
  }

  /// By its doorbell.
  void woken_by_driver() noexcept {
    next_request_.woken();
    answer_.woken();
    disk_.woken_by_other();
  }
  /// By the disk, or by the time that a rate limiter waited for.
  void woken_by_host() noexcept {
    next_request_.woken_by_other();
    answer_.woken_by_other();
    disk_.woken();
    answers_due_ = 0;  // The driver has other things to do.
  }

 private:
  using Poll = AdaptivePollBy<kNow>;

  [[nodiscard]] Poll* poll_for(size_t in_flight, bool takes) noexcept {
    if (in_flight == 0) return takes ? &next_request_ : nullptr;
    if (takes && answers_due_ != 0) return &answer_;
    return in_flight == 1 ? &disk_ : nullptr;
  }

  /// The driver's next request, while the disk has nothing to do.
  Poll next_request_{32'000};
  /// What the driver makes of the requests that it was given back, while the disk is at others.
  Poll answer_{8'000};
  /// The only request in flight.
  Poll disk_{8'000};
  size_t answers_due_ = 0;  ///< requests given back that no other has followed
};

using BlockPoll = BlockPollBy<monotonic_ns>;

}  // namespace tsvmm
