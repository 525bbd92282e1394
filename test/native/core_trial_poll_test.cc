#include <gtest/gtest.h>

#include <cstdint>

#include "core/trial_poll.h"
#include "simulated_clock.h"

namespace tsvmm {
namespace {

constexpr uint64_t kLongestNs = 20'000;

class TrialPollTest : public testing::Test {
 protected:
  /// How often it looked at all, of that many times.
  int times_looked_in_vain(int times) {
    int looked = 0;
    for (int i = 0; i < times; ++i) {
      bool looks = false;
      EXPECT_FALSE(poll.wait([&] {
        looks = true;
        return false;
      }));
      if (looks) ++looked;
    }
    return looked;
  }

  TrialPollBy<test_clock> poll{kLongestNs};
};

TEST_F(TrialPollTest, FindsWhatComesWhileItLooks) {
  for (int i = 0; i < 3; ++i) {
    int looks = 0;
    EXPECT_TRUE(poll.wait([&] { return ++looks == 100; }));
    EXPECT_EQ(looks, 100);
  }
}

TEST_F(TrialPollTest, LooksNoLongerThanItMay) {
  const uint64_t begin = now_ns;
  EXPECT_EQ(times_looked_in_vain(1), 1);
  EXPECT_GE(now_ns - begin, kLongestNs);
  EXPECT_LE(now_ns - begin, kLongestNs + 2 * kLookNs);
}

TEST_F(TrialPollTest, LooksTheMoreSeldomTheMoreOftenItWasInVain) {
  EXPECT_EQ(times_looked_in_vain(2), 1);
  EXPECT_EQ(times_looked_in_vain(4), 1);
  EXPECT_EQ(times_looked_in_vain(1000), 18);
}

TEST_F(TrialPollTest, LooksEachTimeOnceItHasFoundSomething) {
  (void)times_looked_in_vain(1000);
  int passed = 0;
  while (!poll.wait([] { return true; })) ++passed;
  EXPECT_LT(passed, 64);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(poll.wait([] { return true; }));
  EXPECT_EQ(times_looked_in_vain(2), 1) << "and begins again";
}

}  // namespace
}  // namespace tsvmm
