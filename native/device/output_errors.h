#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <utility>

namespace tsvmm {

/// What the host's files did not take of a character device's output: counts each write of which
/// something was lost, and tells of each file and error once. Any thread.
class OutputErrors {
 public:
  enum class File { kOutput, kLog };
  /// `error` is an errno. Must not block.
  using Tell = std::function<void(File file, int error)>;

  explicit OutputErrors(Tell tell) : tell_(std::move(tell)) {}

  void report(File file, int error) noexcept;
  [[nodiscard]] uint64_t count() const noexcept { return count_.load(std::memory_order_relaxed); }

 private:
  const Tell tell_;
  std::atomic<uint64_t> count_{0};
  std::mutex mutex_;
  std::set<std::pair<File, int>> told_;
};

}  // namespace tsvmm
