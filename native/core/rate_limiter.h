#pragma once

#include <cstdint>
#include <mutex>

namespace tsvmm {

/// One resource's limit. Any values are valid.
struct TokenBucketConfig {
  uint64_t size = 0;            ///< tokens that a full bucket holds; 0: no limit
  uint64_t one_time_burst = 0;  ///< tokens on top, which go first and never come back
  uint64_t refill_time_ms = 0;  ///< how long an empty bucket takes to fill; 0: no limit

  [[nodiscard]] bool limits() const { return size != 0 && refill_time_ms != 0; }
};

struct RateLimiterConfig {
  TokenBucketConfig bandwidth;  ///< a token is a byte
  TokenBucketConfig operations;

  [[nodiscard]] bool limits() const { return bandwidth.limits() || operations.limits(); }
};

/// A bucket of tokens that fills steadily. Belongs to a RateLimiter.
class TokenBucket {
 public:
  /// Starts full.
  explicit TokenBucket(const TokenBucketConfig& config);

  /// What has flowed in since the last call. A `now_ns` before that of an earlier call adds
  /// nothing.
  void refill(uint64_t now_ns) noexcept;
  /// 0 if take(tokens) may come now, or how many ns to wait for that; needs refill().
  [[nodiscard]] uint64_t wait_for(uint64_t tokens) const noexcept;
  void take(uint64_t tokens) noexcept;

 private:
  const uint64_t size_;  ///< 0: no limit
  const uint64_t refill_ns_;
  uint64_t burst_;
  uint64_t tokens_;
  uint64_t debt_ = 0;  ///< what an operation larger than the bucket took too much
  uint64_t last_ns_ = 0;
  uint64_t fraction_ = 0;  ///< of a token, in parts of refill_ns_
};

/// Limits bytes and operations a second. A limit group is one limiter that several queues, of one
/// device or of many, share. Thread-safe.
class RateLimiter {
 public:
  explicit RateLimiter(const RateLimiterConfig& config);

  /// Asks for one operation of `bytes` at the monotonic time `now_ns`. 0: it may go, its tokens are
  /// taken. Otherwise nothing is taken, and it is worth asking again in that many ns (at most an
  /// hour; waits are stretched a little, so that a fast limit does not want a timer for each
  /// operation).
  ///
  /// An operation of more bytes than the bucket holds may go as soon as the bucket is not empty;
  /// the next one then waits until all of them have flowed in.
  [[nodiscard]] uint64_t admit(uint64_t bytes, uint64_t now_ns) noexcept;

 private:
  std::mutex mutex_;
  TokenBucket bandwidth_;
  TokenBucket operations_;
};

}  // namespace tsvmm
