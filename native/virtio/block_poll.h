#pragma once

#include <cstddef>
#include <cstdint>

#include "core/adaptive_poll.h"
#include "core/trial_poll.h"

namespace tsvmm {

/// Whether a block queue's thread goes on looking before it sleeps, and for what.
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

  /// Looks until something is ready, and returns true; false if the thread is to sleep. Requests of
  /// the driver's would be taken if `takes`.
  template <typename DriverReady, typename DiskReady>
  [[nodiscard]] bool wait(size_t in_flight, bool takes, DriverReady&& driver_ready,
                          DiskReady&& disk_ready) noexcept {
    if (in_flight == 0) return takes && next_request_.wait(driver_ready);
    if (takes && answers_due_ != 0) {
      if (answer_.wait(driver_ready)) return true;
      answers_due_ = 0;  // The driver has other things to do.
      return disk_ready();
    }
    return in_flight == 1 && disk_.wait([&] { return (takes && driver_ready()) || disk_ready(); });
  }

  void woken() noexcept {
    next_request_.woken();
    disk_.woken();
  }

 private:
  /// The driver's next request, while the disk has nothing to do.
  AdaptivePollBy<kNow> next_request_{32'000};
  /// What the driver makes of the requests that it was given back, while the disk is at others.
  TrialPollBy<kNow> answer_{8'000};
  /// The only request in flight.
  AdaptivePollBy<kNow> disk_{8'000};
  size_t answers_due_ = 0;  ///< requests given back that no other has followed
};

using BlockPoll = BlockPollBy<monotonic_ns>;

}  // namespace tsvmm
