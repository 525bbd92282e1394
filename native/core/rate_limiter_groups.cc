#include "core/rate_limiter_groups.h"

#include <limits>

namespace tsvmm {
namespace {

TokenBucketConfig read_bucket(Fields& fields) {
  constexpr uint64_t kAny = std::numeric_limits<uint64_t>::max();
  return {.size = fields["size"].number(kAny),
          .one_time_burst = fields["oneTimeBurst"].number(kAny),
          .refill_time_ms = fields["refillTimeMs"].number(kAny)};
}

}  // namespace

RateLimiterSpec read_rate_limiter(Fields& device, std::string_view name) {
  if (!device.has(name)) return {};
  return device[name].map([](Fields& fields) {
    return RateLimiterSpec{.group = fields["group"].text(),
                           .config = {.bandwidth = fields["bandwidth"].map(read_bucket),
                                      .operations = fields["operations"].map(read_bucket)}};
  });
}

std::shared_ptr<RateLimiter> RateLimiterGroups::get(const RateLimiterSpec& spec) {
  if (!spec.config.limits()) return nullptr;
  if (spec.group.empty()) return std::make_shared<RateLimiter>(spec.config);
  std::weak_ptr<RateLimiter>& known = groups_[spec.group];
  std::shared_ptr<RateLimiter> limiter = known.lock();
  if (!limiter) known = limiter = std::make_shared<RateLimiter>(spec.config);
  return limiter;
}

}  // namespace tsvmm
