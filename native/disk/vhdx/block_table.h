#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "disk/vhdx/format.h"
#include "disk/vhdx/header.h"

namespace tsvmm::vhdx {

/// The block allocation table ([MS-VHDX] §2.5) in memory, read a sector at a time when it is first
/// wanted.
class BlockTable {
 public:
  static constexpr uint64_t kEntriesPerSector = kSectorSize / sizeof(uint64_t);

  /// `entries` is how many of the region's entries are used. Throws Error.
  BlockTable(Container& container, const Region& region, uint64_t entries);
  ~BlockTable();
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;

  /// True if get() need not read. Any thread.
  [[nodiscard]] bool has(uint64_t index) const noexcept {
    return present_[index / kEntriesPerSector].load(std::memory_order_acquire) != 0;
  }
  /// Reads the sector of an entry: 0 or an errno. One thread at a time.
  [[nodiscard]] int fetch(uint64_t index) noexcept;
  /// Any thread, if has().
  [[nodiscard]] uint64_t get(uint64_t index) const noexcept;
  /// One thread at a time, if has().
  void set(uint64_t index, uint64_t entry) noexcept;

  /// Takes a sector that was changed: its number is in `sector`, its content in `bytes`. False if
  /// there is none. One thread at a time, the one of set().
  [[nodiscard]] bool take_changed(uint64_t& sector, std::span<uint8_t> bytes) noexcept;

  [[nodiscard]] uint64_t file_offset(uint64_t sector) const noexcept {
    return region_.offset + sector * kSectorSize;
  }

 private:
  void mark_changed(uint64_t sector) noexcept;

  Container& container_;
  const Region region_;
  uint64_t* entries_ = nullptr;  ///< a mapping, of which only what is touched takes memory
  size_t mapped_ = 0;
  std::vector<std::atomic<uint8_t>> present_;  ///< by sector
  std::vector<uint8_t> changed_;               ///< by sector
  std::vector<uint64_t> changed_list_;         ///< never more than there are sectors
};

}  // namespace tsvmm::vhdx
