#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "core/adaptive_poll.h"

namespace tsvmm {
namespace {

constexpr uint64_t kLongestNs = 20'000'000;

const auto kNever = [] { return false; };

void sleep_and_wake(AdaptivePoll& poll, std::chrono::milliseconds time) {
  EXPECT_FALSE(poll.wait(kNever));
  std::this_thread::sleep_for(time);
  poll.woken();
}

TEST(AdaptivePoll, BeginsWithoutLooking) {
  AdaptivePoll poll(kLongestNs);
  int looks = 0;
  EXPECT_FALSE(poll.wait([&] { return ++looks > 0; }));
  EXPECT_EQ(looks, 0);
  EXPECT_EQ(poll.window_ns(), 0u);
}

TEST(AdaptivePoll, LooksLongerWhileSleepsAreShort) {
  AdaptivePoll poll(kLongestNs);
  uint64_t before = 0;
  for (int i = 0; i < 5; ++i) {
    sleep_and_wake(poll, std::chrono::milliseconds(0));
    EXPECT_GT(poll.window_ns(), before);
    before = poll.window_ns();
  }
  for (int i = 0; i < 20; ++i) sleep_and_wake(poll, std::chrono::milliseconds(0));
  EXPECT_LE(poll.window_ns(), kLongestNs);
  EXPECT_TRUE(poll.wait([] { return true; }));
}

TEST(AdaptivePoll, LooksNoMoreOnceSleepsAreLong) {
  AdaptivePoll poll(1'000'000);
  for (int i = 0; i < 3; ++i) sleep_and_wake(poll, std::chrono::milliseconds(0));
  EXPECT_GT(poll.window_ns(), 0u);
  for (int i = 0; i < 3; ++i) sleep_and_wake(poll, std::chrono::milliseconds(2));
  EXPECT_EQ(poll.window_ns(), 0u);
}

TEST(AdaptivePoll, CountsASleepOnce) {
  AdaptivePoll poll(kLongestNs);
  poll.woken();
  EXPECT_EQ(poll.window_ns(), 0u) << "it had not slept";
  sleep_and_wake(poll, std::chrono::milliseconds(0));
  const uint64_t once = poll.window_ns();
  poll.woken();
  EXPECT_EQ(poll.window_ns(), once);
}

TEST(AdaptivePoll, FindsWhatComesWhileItLooks) {
  AdaptivePoll poll(kLongestNs);
  for (int i = 0; i < 20; ++i) sleep_and_wake(poll, std::chrono::milliseconds(0));
  int looks = 0;
  EXPECT_TRUE(poll.wait([&] { return ++looks == 100; }));
  EXPECT_EQ(looks, 100);
}

}  // namespace
}  // namespace tsvmm
