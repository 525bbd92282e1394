#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace tsvmm {

/// Which blocks of a region the guest has, and in how many pieces, each of which can be a mapping
/// of its own.
///
/// A process has only so many mappings (vm.max_map_count, 65,530 by default), and one without any
/// left can start no thread and allocate nothing. So all regions of the process together have
/// kMaxPieces, each of which costs two mappings, as what is not plugged in is mapped as well.
///
/// One thread at a time changes blocks; copy() comes from any.
class PluggedBlocks {
 public:
  static constexpr size_t kMaxPieces = 8192;
  /// What each region may have, however many the others have.
  static constexpr size_t kOwnPieces = 64;

  struct Range {
    size_t first;
    size_t count;
    bool operator==(const Range&) const = default;
  };

  /// None of them is plugged in.
  explicit PluggedBlocks(size_t blocks) : plugged_(blocks), begins_(blocks) {}
  ~PluggedBlocks();
  PluggedBlocks(const PluggedBlocks&) = delete;
  PluggedBlocks& operator=(const PluggedBlocks&) = delete;

  [[nodiscard]] size_t size() const noexcept { return plugged_.size(); }
  [[nodiscard]] size_t pieces() const noexcept { return pieces_; }
  [[nodiscard]] bool all_are(bool plugged, const Range& range) const noexcept;
  /// Whether that change of a range, wholly in the other state now, makes pieces that are too many.
  /// What makes it no worse may always be.
  [[nodiscard]] bool scatters(bool plugged, const Range& range) const noexcept;
  /// Such a range has changed.
  void mark(bool plugged, const Range& range) noexcept;
  [[nodiscard]] std::vector<bool> copy() const;

  /// Calls `use` with each run of blocks that are plugged in, until it says that it failed. It may
  /// change the run.
  template <typename Use>
  static bool each_run(const std::vector<bool>& plugged, const Use& use) {
    for (size_t first = 0; first < plugged.size();) {
      size_t end = first;
      while (end < plugged.size() && plugged[end]) ++end;
      if (end != first && !use(Range{first, end - first})) return false;
      first = end + 1;
    }
    return true;
  }
  template <typename Use>
  bool each_run(const Use& use) const {
    return each_run(plugged_, use);
  }

 private:
  [[nodiscard]] bool is_plugged_before(size_t block) const noexcept {
    return block > 0 && plugged_[block - 1];
  }
  [[nodiscard]] bool is_plugged(size_t block) const noexcept {
    return block < plugged_.size() && plugged_[block];
  }
  [[nodiscard]] size_t pieces_after(bool plugged, const Range& range) const noexcept;

  mutable std::mutex mutex_;  ///< of plugged_, for who copies it
  std::vector<bool> plugged_;
  std::vector<bool> begins_;  ///< whether a piece begins with that block
  size_t pieces_ = 0;
};

}  // namespace tsvmm
