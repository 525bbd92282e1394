#pragma once

#include <cstdint>

#include "core/unique_fd.h"

namespace tsvmm {

/// A timer with a descriptor that is readable from when it goes off until consume() or the next
/// start. Belongs to one thread at a time. A folder for each kind of host has it.
class Timer {
 public:
  enum class Clock : uint8_t {
    kMonotonic,
    kWall,  ///< UTC; once started, the timer also goes off whenever the host's clock is set
  };

  /// Throws Error.
  explicit Timer(Clock clock = Clock::kMonotonic);

  /// Goes off once, so many nanoseconds from now.
  void start_after(uint64_t ns) noexcept;
  /// Goes off once, when its clock shows this time (ns).
  void start_at(uint64_t ns) noexcept;
  /// Goes off again and again.
  void start_every(uint64_t ns) noexcept;
  void stop() noexcept;

  /// True if it has gone off.
  bool consume() noexcept;
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  const Clock clock_;
  UniqueFd fd_;
};

}  // namespace tsvmm
