#pragma once

#include <atomic>

#include "core/error.h"

namespace tsvmm {

/// Tells long-running work that its result is not needed any more. Any thread.
class Cancellation {
 public:
  void request() noexcept { requested_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool requested() const noexcept {
    return requested_.load(std::memory_order_relaxed);
  }
  /// Throws Error, ECANCELED, once it was requested.
  void check() const {
    if (requested()) throw Error("ECANCELED", "it was called off");
  }

  /// One that is never requested.
  static const Cancellation& never() noexcept {
    static const Cancellation kNever;
    return kNever;
  }

 private:
  std::atomic<bool> requested_ = false;
};

}  // namespace tsvmm
