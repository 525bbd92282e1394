#include <gtest/gtest.h>

#include "core/rate_limiter_groups.h"

namespace tsvmm {
namespace {

RateLimiterSpec spec(const std::string& group, uint64_t size = 1000) {
  return {.group = group,
          .config = {.bandwidth = {.size = size, .one_time_burst = 0, .refill_time_ms = 1000},
                     .operations = {}}};
}

TEST(RateLimiterGroups, LimitNothingWithoutALimit) {
  RateLimiterGroups groups;
  EXPECT_EQ(groups.get({}), nullptr);
  EXPECT_EQ(groups.get(spec("g", 0)), nullptr);
}

TEST(RateLimiterGroups, AreSharedByName) {
  RateLimiterGroups groups;
  const auto first = groups.get(spec("g"));
  EXPECT_EQ(groups.get(spec("g")), first);
  EXPECT_NE(groups.get(spec("h")), first);
  EXPECT_NE(groups.get(spec("")), groups.get(spec(""))) << "a device's own";
  // What one member takes, the others have not.
  EXPECT_EQ(first->admit(1000, 1), 0U);
  EXPECT_NE(groups.get(spec("g"))->admit(1000, 1), 0U);
}

TEST(RateLimiterGroups, EndWithTheirLastMember) {
  RateLimiterGroups groups;
  EXPECT_EQ(groups.get(spec("g"))->admit(1000, 1), 0U);
  EXPECT_EQ(groups.get(spec("g"))->admit(1000, 1), 0U) << "a new one, and full";
}

}  // namespace
}  // namespace tsvmm
