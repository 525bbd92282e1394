#include <gtest/gtest.h>
#include <poll.h>

#include <ctime>

#include "core/monotonic.h"
#include "core/timer.h"

namespace tsvmm {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;

/// Whether it goes off within `milliseconds`.
bool goes_off(const Timer& timer, int milliseconds) {
  pollfd wait{.fd = timer.fd(), .events = POLLIN, .revents = 0};
  return ::poll(&wait, 1, milliseconds) == 1;
}

TEST(Timer, GoesOffOnceAndNotTooEarly) {
  Timer timer;
  EXPECT_FALSE(timer.consume());
  const uint64_t start = monotonic_ns();
  timer.start_after(20 * kMillisecond);
  EXPECT_FALSE(timer.consume());
  ASSERT_TRUE(goes_off(timer, 10'000));
  EXPECT_GE(monotonic_ns() - start, 20 * kMillisecond);
  EXPECT_TRUE(goes_off(timer, 0)) << "until it is consumed";
  EXPECT_TRUE(timer.consume());
  EXPECT_FALSE(timer.consume());
  EXPECT_FALSE(goes_off(timer, 50));
}

TEST(Timer, OfNoTimeGoesOffAtOnce) {
  Timer timer;
  timer.start_after(0);
  EXPECT_TRUE(goes_off(timer, 10'000));
  timer.start_at(0);
  EXPECT_TRUE(goes_off(timer, 10'000)) << "which is long past";
}

TEST(Timer, FollowsItsClock) {
  Timer monotonic;
  monotonic.start_at(monotonic_ns() + 20 * kMillisecond);
  Timer wall(Timer::Clock::kWall);
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  wall.start_at(static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
                static_cast<uint64_t>(now.tv_nsec) + 20 * kMillisecond);
  EXPECT_TRUE(goes_off(monotonic, 10'000));
  EXPECT_TRUE(goes_off(wall, 10'000));
}

TEST(Timer, AStartTakesThePlaceOfTheOneBefore) {
  Timer timer;
  timer.start_after(kMillisecond);
  ASSERT_TRUE(goes_off(timer, 10'000));
  timer.start_after(3600 * 1000 * kMillisecond);
  EXPECT_FALSE(goes_off(timer, 20));
  EXPECT_FALSE(timer.consume());
}

TEST(Timer, GoesOffAgainAndAgainUntilItIsStopped) {
  Timer timer;
  timer.start_every(kMillisecond);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(goes_off(timer, 10'000));
    EXPECT_TRUE(timer.consume());
  }
  timer.stop();
  EXPECT_FALSE(goes_off(timer, 20));
}

}  // namespace
}  // namespace tsvmm
