#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

namespace tsvmm::qcow2 {

// The on-disk format ("Qcow2 Image File Format", the qcow2 specification that QEMU publishes).
// Every number in it is big-endian.

inline constexpr uint32_t kMagic = 0x514649fb;  // "QFI\xfb"
inline constexpr uint32_t kMinClusterBits = 9;
inline constexpr uint32_t kMaxClusterBits = 21;
inline constexpr uint32_t kMinExtendedClusterBits = 14;
inline constexpr uint32_t kMaxRefcountOrder = 6;

// What we are ready to keep in memory or walk through for an image; QEMU has the same limits.
inline constexpr uint64_t kMaxL1Bytes = 32 << 20;
inline constexpr uint64_t kMaxRefcountTableBytes = 8 << 20;
inline constexpr uint32_t kMaxSnapshots = 65536;
inline constexpr uint64_t kMaxSnapshotTableBytes = 64 << 20;

// Incompatible features.
inline constexpr uint64_t kDirty = 1 << 0;
inline constexpr uint64_t kCorrupt = 1 << 1;
inline constexpr uint64_t kExternalData = 1 << 2;
inline constexpr uint64_t kCompressionType = 1 << 3;
inline constexpr uint64_t kExtendedL2 = 1 << 4;
// Compatible features.
inline constexpr uint64_t kLazyRefcounts = 1 << 0;

// L1 and L2 entries.
inline constexpr uint64_t kCopied = uint64_t{1} << 63;  ///< the refcount is exactly one
inline constexpr uint64_t kCompressed = uint64_t{1} << 62;
inline constexpr uint64_t kZeroFlag = 1;
inline constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;
inline constexpr uint64_t kReservedL1 = ~(kCopied | kOffsetMask);
inline constexpr uint64_t kReservedL2 = ~(kCopied | kCompressed | kOffsetMask | kZeroFlag);
/// Host offsets end here, as L1 and L2 entries have 56 bits for them.
inline constexpr uint64_t kMaxHostOffset = uint64_t{1} << 56;

inline constexpr uint32_t kSubclusters = 32;
inline constexpr uint32_t kSectorSize = 512;
/// L2 tables are read and written in pieces of at most this size.
inline constexpr uint32_t kSliceBits = 12;

/// What follows from the header's sizes.
struct Geometry {
  uint32_t cluster_bits = 16;
  uint32_t refcount_order = 4;
  bool extended = false;  ///< L2 entries of 16 bytes, with subclusters

  [[nodiscard]] uint64_t cluster_size() const noexcept { return uint64_t{1} << cluster_bits; }
  [[nodiscard]] uint64_t cluster_mask() const noexcept { return cluster_size() - 1; }
  [[nodiscard]] uint64_t clusters(uint64_t bytes) const noexcept {
    return (bytes >> cluster_bits) + ((bytes & cluster_mask()) != 0 ? 1 : 0);
  }
  /// The unit that can be allocated or be zero: a cluster or a subcluster.
  [[nodiscard]] uint32_t granule_bits() const noexcept {
    return extended ? cluster_bits - 5 : cluster_bits;
  }
  [[nodiscard]] uint64_t granule_size() const noexcept { return uint64_t{1} << granule_bits(); }

  /// 64-bit words of an L2 entry.
  [[nodiscard]] uint32_t entry_words() const noexcept { return extended ? 2 : 1; }
  /// log2 of an L2 table's entries, and of the guest bytes that it maps.
  [[nodiscard]] uint32_t table_bits() const noexcept { return cluster_bits - (extended ? 4 : 3); }
  [[nodiscard]] uint32_t table_span_bits() const noexcept { return cluster_bits + table_bits(); }

  /// The same for a slice of a table.
  [[nodiscard]] uint32_t slice_bits() const noexcept {
    return std::min(table_bits(), kSliceBits - (extended ? 4 : 3));
  }
  [[nodiscard]] uint32_t slice_span_bits() const noexcept { return cluster_bits + slice_bits(); }
  [[nodiscard]] uint64_t slice_entries() const noexcept { return uint64_t{1} << slice_bits(); }
  [[nodiscard]] uint64_t slice_bytes() const noexcept {
    return slice_entries() * entry_words() * sizeof(uint64_t);
  }

  /// log2 of the clusters that a refcount block counts.
  [[nodiscard]] uint32_t refcount_block_bits() const noexcept {
    return cluster_bits + 3 - refcount_order;
  }

  /// Where a compressed cluster's descriptor has the number of sectors.
  [[nodiscard]] uint32_t compressed_shift() const noexcept { return 62 - (cluster_bits - 8); }
};

/// The bytes of a compressed cluster, as its descriptor has them.
struct CompressedRange {
  uint64_t offset = 0;
  uint64_t length = 0;
};

inline CompressedRange compressed_range(const Geometry& geometry, uint64_t word) noexcept {
  const uint32_t shift = geometry.compressed_shift();
  const uint64_t descriptor = word & (kCompressed - 1);
  const uint64_t offset = descriptor & ((uint64_t{1} << shift) - 1);
  const uint64_t sectors = (descriptor >> shift) + 1;
  return {offset, sectors * kSectorSize - offset % kSectorSize};
}

template <typename T>
[[nodiscard]] T big_endian(T value) noexcept {
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  return value;
}

/// Loads a number at `bytes[offset]`; the caller has checked the length.
template <typename T>
[[nodiscard]] T load_be(std::span<const uint8_t> bytes, size_t offset) noexcept {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return big_endian(value);
}

template <typename T>
void store_be(std::span<uint8_t> bytes, size_t offset, T value) noexcept {
  value = big_endian(value);
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

}  // namespace tsvmm::qcow2
