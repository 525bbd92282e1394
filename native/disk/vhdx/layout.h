#pragma once

#include <cstdint>

#include "disk/vhdx/format.h"
#include "disk/vhdx/header.h"

namespace tsvmm::vhdx {

/// Where things are in a file, and what disk it is.
struct Layout {
  Region bat;
  Region metadata;
  Region log;
  uint64_t disk_size = 0;   ///< bytes, a multiple of logical_sector_size, at most 64 TiB
  uint32_t block_size = 0;  ///< a power of two from 1 to 256 MiB
  uint32_t logical_sector_size = 512;
  uint32_t physical_sector_size = 512;

  [[nodiscard]] uint64_t block_count() const { return (disk_size + block_size - 1) / block_size; }
  /// §2.5: after that many blocks an entry of the table is not for a block.
  [[nodiscard]] uint64_t chunk_ratio() const {
    return (uint64_t{1} << 23) * logical_sector_size / block_size;
  }
  /// The entry of a block.
  [[nodiscard]] uint64_t bat_index(uint64_t block) const { return block + block / chunk_ratio(); }
  /// True if data cannot be there.
  [[nodiscard]] bool is_taken(const Region& region) const {
    return region.offset < kMib || region.overlaps(bat) || region.overlaps(metadata) ||
           region.overlaps(log);
  }
};

/// Reads region table and metadata ([MS-VHDX] §2.2.3, §2.6). Throws Error if they contradict
/// themselves, or ask for what is not supported.
Layout read_layout(Container& container, const Region& log);

}  // namespace tsvmm::vhdx
