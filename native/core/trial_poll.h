#pragma once

#include <algorithm>
#include <cstdint>

#include "core/adaptive_poll.h"

namespace tsvmm {

/// Decides whether a thread looks for what comes at once or not soon. Whether that pays is learned
/// from looking: how long a sleep was says little where the wake-up takes longer than what is
/// waited for. Each time in vain doubles the number of times that are let pass until the next.
///
/// Belongs to one thread at a time. `kNow` is the clock, in nanoseconds.
template <uint64_t (*kNow)() noexcept>
class TrialPollBy {
 public:
  explicit TrialPollBy(uint64_t longest_ns) : longest_ns_(longest_ns) {}

  /// Looks until `ready()` says true, and returns true; false if it has looked in vain, or did not
  /// at all.
  template <typename Ready>
  [[nodiscard]] bool wait(Ready&& ready) noexcept {
    if (pass_ != 0) {
      --pass_;
      return false;
    }
    if (look_for<kNow>(kNow(), longest_ns_, ready)) {
      passes_ = 0;
      return true;
    }
    passes_ = std::min(2 * passes_ + 1, kMostPasses);
    pass_ = passes_;
    return false;
  }

 private:
  static constexpr uint32_t kMostPasses = 63;

  const uint64_t longest_ns_;
  uint32_t passes_ = 0;  ///< after the last time in vain
  uint32_t pass_ = 0;    ///< how many of them are still to come
};

}  // namespace tsvmm
