#pragma once

#include <map>
#include <memory>
#include <string>

#include "core/message.h"
#include "core/rate_limiter.h"

namespace tsvmm {

/// Limits of one device, or of a direction of it; those of a group are shared by its members.
struct RateLimiterSpec {
  std::string group;  ///< empty: the device's own
  RateLimiterConfig config;
};

/// The limits in a field of a device's specification; none if it is missing. Throws ValueError.
[[nodiscard]] RateLimiterSpec read_rate_limiter(Fields& device, std::string_view name);

/// A machine's rate limiters: one for each device that has limits of its own, one for all devices
/// of a group. Belongs to one thread at a time.
class RateLimiterGroups {
 public:
  /// nullptr if `spec` limits nothing. Members of a group get the same limiter as long as one of
  /// them has it.
  std::shared_ptr<RateLimiter> get(const RateLimiterSpec& spec);

 private:
  std::map<std::string, std::weak_ptr<RateLimiter>> groups_;
};

}  // namespace tsvmm
