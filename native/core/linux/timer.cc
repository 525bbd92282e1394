#include "core/timer.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/error.h"

namespace tsvmm {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

timespec to_timespec(uint64_t ns) {
  return {.tv_sec = static_cast<time_t>(ns / kNsPerSecond),
          .tv_nsec = static_cast<long>(ns % kNsPerSecond)};
}

/// The value 0 would stop the timer.
timespec to_start(uint64_t ns) { return to_timespec(std::max<uint64_t>(ns, 1)); }

int absolute_flags(Timer::Clock clock) {
  return clock == Timer::Clock::kWall ? TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
                                      : TFD_TIMER_ABSTIME;
}

}  // namespace

Timer::Timer(Clock clock)
    : clock_(clock),
      fd_(check_errno(::timerfd_create(clock == Clock::kWall ? CLOCK_REALTIME : CLOCK_MONOTONIC,
                                       TFD_CLOEXEC | TFD_NONBLOCK),
                      "timerfd_create")) {}

void Timer::start_after(uint64_t ns) noexcept {
  const itimerspec setting{.it_interval = {}, .it_value = to_start(ns)};
  ::timerfd_settime(fd_.get(), 0, &setting, nullptr);
}

void Timer::start_at(uint64_t ns) noexcept {
  const itimerspec setting{.it_interval = {}, .it_value = to_start(ns)};
  ::timerfd_settime(fd_.get(), absolute_flags(clock_), &setting, nullptr);
}

void Timer::start_every(uint64_t ns) noexcept {
  const itimerspec setting{.it_interval = to_start(ns), .it_value = to_start(ns)};
  ::timerfd_settime(fd_.get(), 0, &setting, nullptr);
}

void Timer::stop() noexcept {
  const itimerspec setting{};
  ::timerfd_settime(fd_.get(), absolute_flags(clock_), &setting, nullptr);
}

bool Timer::consume() noexcept {
  uint64_t expirations = 0;
  // ECANCELED: the clock was set.
  return ::read(fd_.get(), &expirations, sizeof expirations) > 0 || errno == ECANCELED;
}

}  // namespace tsvmm
