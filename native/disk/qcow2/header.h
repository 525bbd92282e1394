#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "disk/qcow2/format.h"

namespace tsvmm::qcow2 {

enum class Compression : uint8_t { kZlib = 0, kZstd = 1 };

/// A checked header: what it points to lies inside the file, aligned, and small enough to be read.
struct Header {
  uint32_t version = 3;
  Geometry geometry;
  uint64_t size = 0;  ///< bytes that the guest sees
  uint64_t l1_offset = 0;
  uint32_t l1_entries = 0;
  uint64_t refcount_table_offset = 0;
  uint32_t refcount_table_clusters = 0;
  uint32_t snapshots = 0;
  uint64_t snapshots_offset = 0;
  uint64_t incompatible = 0;
  uint64_t compatible = 0;
  uint64_t autoclear = 0;
  Compression compression = Compression::kZlib;
  bool has_backing = false;
  bool has_bitmaps = false;  ///< whether or not they are consistent

  /// The first sector as it is in the file, which is written back with a few fields changed.
  std::array<uint8_t, kSectorSize> sector{};
};

/// How many of the file's first bytes parse_header() looks at.
inline constexpr size_t kHeaderBytes = 4096;

/// `bytes` are the first ones of a file of `file_size` bytes. Throws Error.
[[nodiscard]] Header parse_header(std::span<const uint8_t> bytes, uint64_t file_size);

/// Puts the fields that may change into header.sector.
void render_header(Header& header) noexcept;

/// L1 entries that a disk of `size` bytes needs.
[[nodiscard]] uint64_t l1_entries_for(const Geometry& geometry, uint64_t size) noexcept;

}  // namespace tsvmm::qcow2
