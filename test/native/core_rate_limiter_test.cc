#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <thread>
#include <vector>

#include "core/rate_limiter.h"

namespace tsvmm {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kHour = 3600 * kSecond;

RateLimiterConfig bandwidth(uint64_t size, uint64_t refill_ms, uint64_t burst = 0) {
  return {.bandwidth = {.size = size, .one_time_burst = burst, .refill_time_ms = refill_ms},
          .operations = {}};
}

RateLimiterConfig operations(uint64_t size, uint64_t refill_ms, uint64_t burst = 0) {
  return {.bandwidth = {},
          .operations = {.size = size, .one_time_burst = burst, .refill_time_ms = refill_ms}};
}

/// What an eager user of the limiter gets done from `start` on within `duration`.
uint64_t operations_within(RateLimiter& limiter, uint64_t bytes, uint64_t start,
                           uint64_t duration) {
  uint64_t done = 0;
  for (uint64_t now = start; now < start + duration;) {
    const uint64_t wait = limiter.admit(bytes, now);
    if (wait == 0) ++done;
    now += wait;
  }
  return done;
}

TEST(RateLimiter, LimitsNothingWithoutSizeOrRefillTime) {
  EXPECT_FALSE(bandwidth(0, 100).limits());
  EXPECT_FALSE(bandwidth(100, 0, 5).limits());
  EXPECT_TRUE(bandwidth(1, 1).limits());
  EXPECT_TRUE(operations(1, 1).limits());
  for (const auto& config : {bandwidth(0, 100), bandwidth(100, 0), operations(0, 1)}) {
    RateLimiter limiter(config);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(limiter.admit(kMax, kSecond), 0U);
  }
}

TEST(RateLimiter, StartsFullAndThenSaysHowLongToWait) {
  RateLimiter limiter(bandwidth(1000, 1000));
  EXPECT_EQ(limiter.admit(400, kSecond), 0U);
  EXPECT_EQ(limiter.admit(600, kSecond), 0U);
  EXPECT_EQ(limiter.admit(500, kSecond), kSecond / 2);
  EXPECT_EQ(limiter.admit(500, kSecond + kSecond / 2 - 1'000'000), 1'000'000U);
  EXPECT_EQ(limiter.admit(500, kSecond + kSecond / 2), 0U);
  EXPECT_NE(limiter.admit(1, kSecond + kSecond / 2), 0U);
}

TEST(RateLimiter, RefusedOperationsTakeNothing) {
  // Bytes are there, operations are not: the bytes must stay.
  RateLimiterConfig config = bandwidth(1000, 1000);
  config.operations = {.size = 1, .one_time_burst = 0, .refill_time_ms = 10};
  RateLimiter limiter(config);
  EXPECT_EQ(limiter.admit(100, kSecond), 0U);
  for (int i = 0; i < 100; ++i) EXPECT_NE(limiter.admit(900, kSecond), 0U);
  EXPECT_EQ(limiter.admit(900, kSecond + 10'000'000), 0U);
}

TEST(RateLimiter, HoldsNoMoreThanItsSizeHoweverLongItRests) {
  RateLimiter limiter(operations(10, 100));
  EXPECT_EQ(limiter.admit(0, kSecond), 0U);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(limiter.admit(0, 1000 * kSecond), 0U);
  EXPECT_EQ(limiter.admit(0, 1000 * kSecond), 10'000'000U);
}

TEST(RateLimiter, KeepsItsRateOverTime) {
  RateLimiter limiter(operations(1000, 1000));
  EXPECT_EQ(operations_within(limiter, 4096, kSecond, 1), 1000U);
  // 1,000 a second once the bucket's first filling is gone, fractions included.
  EXPECT_NEAR(static_cast<double>(operations_within(limiter, 4096, kSecond, 60 * kSecond)), 60'000,
              2);
  RateLimiter odd(bandwidth(7919, 313));
  (void)operations_within(odd, 1000, kSecond, 1);
  const double expected = 7919 / 0.313 * 100 / 1000;
  EXPECT_NEAR(static_cast<double>(operations_within(odd, 1000, kSecond, 100 * kSecond)), expected,
              9);
}

TEST(RateLimiter, WaitsAreLongEnoughForSeveralOperations) {
  RateLimiter limiter(operations(100'000, 1000));
  (void)operations_within(limiter, 0, kSecond, 1);
  EXPECT_EQ(limiter.admit(0, kSecond), 1'000'000U);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(limiter.admit(0, kSecond + 1'000'000), 0U);
  // But not so long that a small bucket overflows.
  RateLimiter small(operations(10, 1));
  (void)operations_within(small, 0, kSecond, 1);
  EXPECT_EQ(small.admit(0, kSecond), 125'000U);
  EXPECT_NEAR(static_cast<double>(operations_within(small, 0, kSecond, kSecond)), 10'000, 20);
}

TEST(RateLimiter, SpendsTheOneTimeBurstFirstAndOnce) {
  RateLimiter limiter(bandwidth(100, 1000, 250));
  EXPECT_EQ(limiter.admit(200, kSecond), 0U);
  EXPECT_EQ(limiter.admit(150, kSecond), 0U) << "50 of the burst and the whole bucket";
  EXPECT_NE(limiter.admit(10, kSecond), 0U);
  EXPECT_EQ(limiter.admit(100, 10 * kSecond), 0U);
  EXPECT_NE(limiter.admit(10, 10 * kSecond), 0U) << "the burst has not come back";
}

TEST(RateLimiter, LetsAnOversizedOperationThroughOnceAndThenBlocksInProportion) {
  RateLimiter limiter(bandwidth(1000, 1000));
  EXPECT_EQ(limiter.admit(5000, kSecond), 0U);
  EXPECT_EQ(limiter.admit(100, kSecond), 4 * kSecond + kSecond / 10);
  EXPECT_EQ(limiter.admit(5000, kSecond), 4 * kSecond + 1'000'000) << "until there is anything";
  EXPECT_EQ(limiter.admit(100, 5 * kSecond + kSecond / 10 - 10'000'000), 10'000'000U);
  EXPECT_EQ(limiter.admit(100, 5 * kSecond + kSecond / 10), 0U);
  // In the long run such operations keep the rate, too.
  EXPECT_NEAR(static_cast<double>(operations_within(limiter, 5000, 6 * kSecond, 1000 * kSecond)),
              200, 1);
}

TEST(RateLimiter, IsNotConfusedByAClockThatStepsBack) {
  RateLimiter limiter(operations(2, 1000));
  EXPECT_EQ(limiter.admit(0, 10 * kSecond), 0U);
  EXPECT_EQ(limiter.admit(0, 9 * kSecond), 0U);
  EXPECT_NE(limiter.admit(0, 1 * kSecond), 0U);
  EXPECT_EQ(limiter.admit(0, 10 * kSecond + kSecond / 2), 0U);
  EXPECT_NE(limiter.admit(0, 10 * kSecond + kSecond / 2), 0U);
}

TEST(RateLimiter, SurvivesEveryConfigurationAndAmount) {
  const uint64_t values[] = {0, 1, 2, 1000, kMax / 1'000'000, kMax / 2, kMax - 1, kMax};
  for (const uint64_t size : values) {
    for (const uint64_t refill : values) {
      for (const uint64_t burst : values) {
        RateLimiterConfig config = bandwidth(size, refill, burst);
        config.operations = config.bandwidth;
        RateLimiter limiter(config);
        for (const uint64_t bytes : values) {
          for (const uint64_t now : values) ASSERT_LE(limiter.admit(bytes, now), kHour);
        }
      }
    }
  }
}

TEST(RateLimiter, HugeBucketsKeepTheirRate) {
  // 2^63 bytes a second: a whole second's worth twice, then a wait of about a second.
  RateLimiter limiter(bandwidth(kMax / 2, 1000));
  EXPECT_EQ(limiter.admit(kMax / 2, kSecond), 0U);
  EXPECT_EQ(limiter.admit(kMax / 2, kSecond), kSecond);
  EXPECT_EQ(limiter.admit(kMax / 2, 2 * kSecond), 0U);
}

TEST(RateLimiter, ThreadsShareOneBudget) {
  RateLimiter limiter(operations(10'000, 1000));
  std::atomic<uint64_t> admitted = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 10'000; ++k) {
        if (limiter.admit(1, kSecond) == 0) ++admitted;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admitted, 10'000U);
}

}  // namespace
}  // namespace tsvmm
