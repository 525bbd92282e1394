#pragma once

#include <map>
#include <memory>
#include <string>

#include "machine/device_specs.h"

namespace tsvmm {

/// A machine's rate limiters: one for each device that has limits of its own, one for all devices
/// of a group. Belongs to one thread at a time.
class RateLimiterGroups {
 public:
  /// nullptr if `spec` limits nothing. Members of a group get the same limiter as long as one of
  /// them has it.
  std::shared_ptr<RateLimiter> get(const RateLimiterSpec& spec) {
    if (!spec.config.limits()) return nullptr;
    if (spec.group.empty()) return std::make_shared<RateLimiter>(spec.config);
    std::weak_ptr<RateLimiter>& known = groups_[spec.group];
    std::shared_ptr<RateLimiter> limiter = known.lock();
    if (!limiter) known = limiter = std::make_shared<RateLimiter>(spec.config);
    return limiter;
  }

 private:
  std::map<std::string, std::weak_ptr<RateLimiter>> groups_;
};

}  // namespace tsvmm
