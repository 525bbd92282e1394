#include "core/rate_limiter.h"

#include <algorithm>
#include <limits>

namespace tsvmm {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr uint64_t kNsPerMs = 1'000'000;
/// Bounds times so that products of a time and a number of tokens fit into 128 bits.
constexpr uint64_t kLongestNs = std::numeric_limits<int64_t>::max();
constexpr uint64_t kLongestWaitNs = 3600ULL * 1'000'000'000;
/// A wait lasts until the bucket holds tokens for several operations, if it cannot overflow by
/// then.
constexpr uint64_t kShortestWaitNs = 1'000'000;
constexpr uint64_t kShortestWaitDivisor = 8;

uint64_t to_ns(uint64_t milliseconds) {
  return milliseconds > kLongestNs / kNsPerMs ? kLongestNs : milliseconds * kNsPerMs;
}

uint64_t saturating_add(uint64_t a, uint64_t b) {
  return a > std::numeric_limits<uint64_t>::max() - b ? std::numeric_limits<uint64_t>::max()
                                                      : a + b;
}

}  // namespace

TokenBucket::TokenBucket(const TokenBucketConfig& config)
    : size_(config.limits() ? config.size : 0),
      refill_ns_(to_ns(config.refill_time_ms)),
      burst_(config.one_time_burst),
      tokens_(size_) {}

void TokenBucket::refill(uint64_t now_ns) noexcept {
  if (size_ == 0 || now_ns <= last_ns_) return;
  const uint64_t elapsed = std::min(now_ns - last_ns_, kLongestNs);
  last_ns_ = now_ns;
  const Wide flow = Wide{elapsed} * size_ + fraction_;
  // Dividing 128 bits takes several times as long as 64, which is what flows nearly always have.
  const bool narrow = flow >> 64 == 0;
  Wide whole = narrow ? static_cast<uint64_t>(flow) / refill_ns_ : flow / refill_ns_;
  fraction_ = static_cast<uint64_t>(flow - whole * refill_ns_);
  const auto repaid = static_cast<uint64_t>(std::min<Wide>(whole, debt_));
  debt_ -= repaid;
  whole -= repaid;
  const uint64_t room = size_ - tokens_;
  if (whole < room) {
    tokens_ += static_cast<uint64_t>(whole);
  } else {
    tokens_ = size_;
    fraction_ = 0;
  }
}

uint64_t TokenBucket::wait_for(uint64_t tokens) const noexcept {
  if (size_ == 0 || tokens <= burst_) return 0;
  const uint64_t wanted = tokens - burst_;
  const uint64_t enough = wanted > size_ ? 1 : wanted;
  if (tokens_ >= enough) return 0;
  const Wide missing = saturating_add(debt_, enough - tokens_);
  const Wide flow = missing * refill_ns_ - fraction_;
  const Wide wait = (flow + size_ - 1) / size_;
  const uint64_t shortest = std::min(kShortestWaitNs, refill_ns_ / kShortestWaitDivisor);
  return static_cast<uint64_t>(std::clamp<Wide>(wait, shortest, kLongestWaitNs));
}

void TokenBucket::take(uint64_t tokens) noexcept {
  if (size_ == 0) return;
  const uint64_t from_burst = std::min(tokens, burst_);
  burst_ -= from_burst;
  tokens -= from_burst;
  const uint64_t from_bucket = std::min(tokens, tokens_);
  tokens_ -= from_bucket;
  debt_ = saturating_add(debt_, tokens - from_bucket);
}

RateLimiter::RateLimiter(const RateLimiterConfig& config)
    : bandwidth_(config.bandwidth), operations_(config.operations) {}

uint64_t RateLimiter::admit(uint64_t bytes, uint64_t now_ns) noexcept {
  const std::lock_guard lock(mutex_);
  bandwidth_.refill(now_ns);
  operations_.refill(now_ns);
  const uint64_t wait = std::max(bandwidth_.wait_for(bytes), operations_.wait_for(1));
  if (wait != 0) return wait;
  bandwidth_.take(bytes);
  operations_.take(1);
  return 0;
}

}  // namespace tsvmm
