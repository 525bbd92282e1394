#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <utility>

#include "core/timer.h"

namespace tsvmm::vsock {

/// Points of monotonic time for things with ids, and a timer that becomes readable at the first.
class Deadlines {
 public:
  /// Moves id's deadline from one time to another (ns); 0 stands for none.
  void move(uint64_t id, uint64_t from, uint64_t to);
  /// Takes one that has passed.
  [[nodiscard]] std::optional<uint64_t> pop_expired(uint64_t now) noexcept;
  /// Puts all of them off.
  void shift(uint64_t by);
  /// Sees to it that the timer goes off at the first deadline, or before.
  void arm() noexcept;
  /// The timer has gone off.
  void fired() noexcept { armed_ = 0; }

  [[nodiscard]] int fd() const noexcept { return timer_.fd(); }

 private:
  Timer timer_;
  std::set<std::pair<uint64_t, uint64_t>> waiting_;  ///< time and id
  uint64_t armed_ = 0;                               ///< when the timer goes off, 0 for never
};

}  // namespace tsvmm::vsock
