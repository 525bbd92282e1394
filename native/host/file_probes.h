#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <string>

#include "host/first_read.h"

namespace tsvmm {

/// Finds out whether the stores of files answer: at once for a file that is cached, else on a
/// thread for each, which is left to itself if the store hangs. Belongs to one thread.
class FileProbes {
 public:
  using Read = std::function<void(const std::string& path)>;
  using IsCached = std::function<bool(const std::string& path)>;
  /// Files at once whose store has not answered.
  static constexpr size_t kMaxProbes = 8;
  /// So long is waited for a thread that has just begun: most stores have answered by then.
  static constexpr std::chrono::milliseconds kMoment{1};
  /// After so long without a call for a file, what was found out of it says nothing of its store.
  static constexpr std::chrono::milliseconds kForgetAfter{1000};

  explicit FileProbes(Read read = read_first, IsCached is_cached = tsvmm::is_cached)
      : read_(std::move(read)), is_cached_(std::move(is_cached)) {}

  /// Whether the file is cached, or has been read since the first of these calls, or since the last
  /// one that was true, or that was followed by none for kForgetAfter. Throws Error: EAGAIN while
  /// kMaxProbes others have not been read.
  bool answers(const std::string& path);

 private:
  using Clock = std::chrono::steady_clock;
  struct Probe {
    std::future<void> read;
    Clock::time_point asked;
  };

  [[nodiscard]] Probe begin(const std::string& path) const;

  const Read read_;
  const IsCached is_cached_;
  std::map<std::string, Probe> probes_;
};

}  // namespace tsvmm
