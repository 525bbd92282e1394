#pragma once

#include <atomic>
#include <cerrno>

namespace tsvmm {

/// Whether all that was written to a file can still reach stable storage.
///
/// Linux reports a sync that failed once, and calls the pages clean that it could not write: the
/// next sync succeeds without them. So one failure is for good; only who opens the file anew sees
/// what is there. Any thread.
class SyncRecord {
 public:
  /// 0, or the errno of the first failure.
  [[nodiscard]] int failure() const noexcept { return failure_.load(std::memory_order_acquire); }
  void fail(int error) noexcept {
    int none = 0;
    failure_.compare_exchange_strong(none, error, std::memory_order_acq_rel);
  }
  /// Takes the result of a sync, 0 or an errno; what is to be said of it.
  [[nodiscard]] int judge(int error) noexcept {
    if (error != 0) fail(error);
    return failure();
  }

 private:
  std::atomic<int> failure_ = 0;
};

/// Whether a write was refused before any of it was done: for lack of space, or of the memory that
/// it comes from.
[[nodiscard]] inline bool is_refusal(int error) noexcept {
  return error == ENOSPC || error == EDQUOT || error == EFBIG || error == EINVAL ||
         error == EROFS || error == EFAULT;
}

}  // namespace tsvmm
