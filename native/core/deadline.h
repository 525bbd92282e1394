#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "core/cancellation.h"

namespace tsvmm {

/// How long a wait may take: until a point in time, or until it is cancelled if that is possible.
/// Every wait for a device, a vCPU or a disk has one.
class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  static Deadline after(std::chrono::nanoseconds time) { return Deadline(Clock::now() + time); }
  /// Already passed: a wait checks its condition once.
  static Deadline now() { return Deadline(Clock::time_point::min()); }
  static Deadline never() { return Deadline(Clock::time_point::max()); }
  /// This one, or `time` from now if that comes first.
  [[nodiscard]] Deadline at_most(std::chrono::nanoseconds time) const {
    Deadline result = *this;
    result.at_ = std::min(at_, Clock::now() + time);
    return result;
  }
  /// The same, but passed as soon as `cancellation`, which outlives it, is requested.
  [[nodiscard]] Deadline unless(const Cancellation& cancellation) const {
    Deadline result = *this;
    result.cancellation_ = &cancellation;
    return result;
  }

  [[nodiscard]] bool passed() const noexcept {
    const bool cancelled = cancellation_ != nullptr && cancellation_->requested();
    return cancelled || (at_ != Clock::time_point::max() && Clock::now() >= at_);
  }

  /// Waits until `condition` holds; each change of it notifies `changed`. False if the deadline
  /// passes first.
  template <typename Condition>
  [[nodiscard]] bool wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                          Condition condition) const {
    if (condition()) return true;
    if (cancellation_ == nullptr && at_ == Clock::time_point::max()) {
      changed.wait(lock, condition);
      return true;
    }
    while (!passed()) {
      // A cancellation does not notify `changed`, so it is polled.
      const auto poll_at = cancellation_ != nullptr ? Clock::now() + kPollInterval : at_;
      if (changed.wait_until(lock, std::min(at_, poll_at), condition)) return true;
    }
    return false;
  }

 private:
  static constexpr std::chrono::milliseconds kPollInterval{10};

  explicit Deadline(Clock::time_point at) : at_(at) {}

  Clock::time_point at_;
  const Cancellation* cancellation_ = nullptr;
};

}  // namespace tsvmm
