#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "disk/vhdx/format.h"
#include "disk/vhdx/header.h"

namespace tsvmm::vhdx {

/// Writes log entries, each of which stands for itself: what an earlier one wanted is on stable
/// storage, where it belongs, when a new one is written. Belongs to one thread at a time.
class LogWriter {
 public:
  /// Most sectors in one entry.
  static constexpr size_t kMaxUpdates = 15;

  /// What a sector of the file is to hold; `bytes` has one sector.
  struct Update {
    uint64_t file_offset;
    std::span<const uint8_t> bytes;
  };

  /// Entries of earlier users do not count under a new `guid`. Throws Error if there is no room.
  LogWriter(Container& container, const Region& log, const Guid& guid);

  [[nodiscard]] const Guid& guid() const { return guid_; }
  /// Writes an entry, at most kMaxUpdates; it counts once it is on stable storage. 0 or an errno.
  /// @param file_size what the file has at least, on stable storage
  [[nodiscard]] int append(std::span<const Update> updates, uint64_t file_size) noexcept;

 private:
  Container& container_;
  const Region log_;
  const Guid guid_;
  uint64_t position_ = 0;  ///< of the next entry, from the start of the log
  uint64_t sequence_number_ = 1;
  std::vector<uint8_t> entry_;
};

}  // namespace tsvmm::vhdx
