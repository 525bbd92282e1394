#include <gtest/gtest.h>

#include "core/adaptive_poll.h"
#include "simulated_clock.h"

namespace tsvmm {
namespace {

constexpr uint64_t kLongestNs = 20'000;

class AdaptivePollTest : public testing::Test {
 protected:
  void sleep_and_wake(uint64_t time_ns) {
    EXPECT_FALSE(poll.wait([] { return false; }));
    now_ns += time_ns;
    poll.woken();
  }

  AdaptivePollBy<test_clock> poll{kLongestNs};
};

TEST_F(AdaptivePollTest, BeginsWithoutLooking) {
  int looks = 0;
  EXPECT_FALSE(poll.wait([&] { return ++looks > 0; }));
  EXPECT_EQ(looks, 0);
  EXPECT_EQ(poll.window_ns(), 0u);
}

TEST_F(AdaptivePollTest, LooksLongerWhileSleepsAreShort) {
  uint64_t before = 0;
  while (before < kLongestNs) {
    sleep_and_wake(0);
    ASSERT_GT(poll.window_ns(), before);
    before = poll.window_ns();
  }
  EXPECT_EQ(before, kLongestNs);
  EXPECT_TRUE(poll.wait([] { return true; }));
}

TEST_F(AdaptivePollTest, LooksNoMoreOnceSleepsAreLong) {
  for (int i = 0; i < 3; ++i) sleep_and_wake(0);
  EXPECT_GT(poll.window_ns(), 0u);
  for (int i = 0; i < 3; ++i) sleep_and_wake(kLongestNs + 1);
  EXPECT_EQ(poll.window_ns(), 0u);
}

TEST_F(AdaptivePollTest, CountsASleepOnce) {
  poll.woken();
  EXPECT_EQ(poll.window_ns(), 0u) << "it had not slept";
  sleep_and_wake(0);
  const uint64_t once = poll.window_ns();
  poll.woken();
  EXPECT_EQ(poll.window_ns(), once);
}

TEST_F(AdaptivePollTest, FindsWhatComesWhileItLooks) {
  for (int i = 0; i < 20; ++i) sleep_and_wake(0);
  int looks = 0;
  EXPECT_TRUE(poll.wait([&] { return ++looks == 100; }));
  EXPECT_EQ(looks, 100);
}

TEST_F(AdaptivePollTest, LooksNoLongerThanPays) {
  for (int i = 0; i < 20; ++i) sleep_and_wake(0);
  const uint64_t begin = now_ns;
  EXPECT_FALSE(poll.wait([] { return false; }));
  EXPECT_LE(now_ns - begin, kLongestNs + 2 * kLookNs);
}

}  // namespace
}  // namespace tsvmm
