#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace tsvmm {

/// Opens a file that has bytes at offsets, and reads its beginning; nothing of any other kind,
/// which may have effects. Errors are ignored: opening it for use has them as well.
void read_file_head(const std::string& path);

/// Finds out whether the stores of files answer, on a thread for each file, which is left to itself
/// if the store hangs. Belongs to one thread.
class FileProbes {
 public:
  using Read = std::function<void(const std::string& path)>;
  /// Files at once whose store has not answered.
  static constexpr size_t kMaxProbes = 8;
  /// After so long without a call for a file, what was found out of it says nothing of its store.
  static constexpr std::chrono::milliseconds kForgetAfter{1000};

  explicit FileProbes(Read read = read_file_head) : read_(std::move(read)) {}

  /// Whether the file has been read since the first of these calls, or since the last one that was
  /// true, or that was followed by none for kForgetAfter. Throws Error: EAGAIN while kMaxProbes
  /// others have not been read.
  bool answers(const std::string& path);

 private:
  using Clock = std::chrono::steady_clock;
  struct Probe {
    std::shared_ptr<std::atomic<bool>> read;
    Clock::time_point asked;
  };

  const Read read_;
  std::map<std::string, Probe> probes_;
};

}  // namespace tsvmm
