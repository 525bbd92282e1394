#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

namespace tsvmm::vhdx {

// The on-disk format ([MS-VHDX], "Virtual Hard Disk v2 (VHDX) File Format"). Little-endian.

inline constexpr uint64_t kMib = 1ULL << 20;
/// What metadata is written in, and what a log entry is made of.
inline constexpr uint32_t kSectorSize = 4096;

struct Guid {
  std::array<uint8_t, 16> bytes{};

  [[nodiscard]] bool is_null() const { return *this == Guid{}; }
  friend bool operator==(const Guid&, const Guid&) = default;
};

/// As it is written: {a-b-c-d}, the last two parts as one number.
constexpr Guid make_guid(uint32_t a, uint16_t b, uint16_t c, uint64_t d) {
  Guid guid;
  for (size_t i = 0; i < 4; ++i) guid.bytes[i] = static_cast<uint8_t>(a >> (8 * i));
  for (size_t i = 0; i < 2; ++i) guid.bytes[4 + i] = static_cast<uint8_t>(b >> (8 * i));
  for (size_t i = 0; i < 2; ++i) guid.bytes[6 + i] = static_cast<uint8_t>(c >> (8 * i));
  for (size_t i = 0; i < 8; ++i) guid.bytes[8 + i] = static_cast<uint8_t>(d >> (56 - 8 * i));
  return guid;
}

// §2.2: what lies where in the first MiB.
inline constexpr uint64_t kFileSignature = 0x656c696678646876;  // "vhdxfile"
inline constexpr std::array<uint64_t, 2> kHeaderOffsets{64 << 10, 128 << 10};
inline constexpr std::array<uint64_t, 2> kRegionTableOffsets{192 << 10, 256 << 10};

/// §2.2.2; the checksum covers 4 KiB.
struct Header {
  uint32_t signature;
  uint32_t checksum;
  uint64_t sequence_number;
  Guid file_write_guid;
  Guid data_write_guid;
  Guid log_guid;
  uint16_t log_version;
  uint16_t version;
  uint32_t log_length;
  uint64_t log_offset;
};
static_assert(sizeof(Header) == 80);
inline constexpr uint32_t kHeaderSignature = 0x64616568;  // "head"
inline constexpr uint16_t kVersion = 1;

/// §2.2.3.1; the checksum covers 64 KiB.
struct RegionTableHeader {
  uint32_t signature;
  uint32_t checksum;
  uint32_t entry_count;
  uint32_t reserved;
};
struct RegionEntry {
  Guid id;
  uint64_t file_offset;
  uint32_t length;
  uint32_t required;  ///< bit 0
};
static_assert(sizeof(RegionTableHeader) == 16 && sizeof(RegionEntry) == 32);
inline constexpr uint32_t kRegionTableSignature = 0x69676572;  // "regi"
inline constexpr size_t kRegionTableSize = 64 << 10;
inline constexpr uint32_t kMaxRegions = 2047;
inline constexpr Guid kBatRegion = make_guid(0x2dc27766, 0xf623, 0x4200, 0x9d64115e9bfd4a08);
inline constexpr Guid kMetadataRegion = make_guid(0x8b7ca206, 0x4790, 0x4b9a, 0xb8fe575f050f886e);

/// §2.6.1
struct MetadataTableHeader {
  uint64_t signature;
  uint16_t reserved;
  uint16_t entry_count;
  std::array<uint32_t, 5> reserved2;
};
struct MetadataEntry {
  Guid id;
  uint32_t offset;  ///< from the start of the region
  uint32_t length;
  uint32_t flags;
  uint32_t reserved;
};
static_assert(sizeof(MetadataTableHeader) == 32 && sizeof(MetadataEntry) == 32);
inline constexpr uint64_t kMetadataSignature = 0x617461646174656d;  // "metadata"
inline constexpr size_t kMetadataTableSize = 64 << 10;
inline constexpr uint32_t kMaxMetadataEntries = 2047;
inline constexpr uint32_t kMetadataIsUser = 1 << 0;
inline constexpr uint32_t kMetadataIsRequired = 1 << 2;
// §2.6.2
inline constexpr Guid kFileParameters = make_guid(0xcaa16737, 0xfa36, 0x4d43, 0xb3b633f0aa44e76b);
inline constexpr Guid kVirtualDiskSize = make_guid(0x2fa54224, 0xcd1b, 0x4876, 0xb2115dbed83bf4b8);
inline constexpr Guid kVirtualDiskId = make_guid(0xbeca12ab, 0xb2e6, 0x4523, 0x93efc309e000c746);
inline constexpr Guid kLogicalSector = make_guid(0x8141bf1d, 0xa96f, 0x4709, 0xba47f233a8faab5f);
inline constexpr Guid kPhysicalSector = make_guid(0xcda348c7, 0x445d, 0x4471, 0x9cc9e9885251c556);
inline constexpr Guid kParentLocator = make_guid(0xa8d35f2d, 0xb30b, 0x454d, 0xabf7d3d84834ab0c);
inline constexpr uint32_t kHasParent = 1 << 1;

// §2.5.1: an entry of the block allocation table is a state in its low bits and an offset in MiB
// above bit 20, which is the offset in bytes with those bits cleared.
inline constexpr uint64_t kStateMask = 7;
inline constexpr uint64_t kOffsetMask = ~(kMib - 1);
enum class BlockState : uint8_t {
  kNotPresent = 0,
  kUndefined = 1,
  kZero = 2,
  kUnmapped = 3,
  kUnmappedBefore1 = 5,  ///< what drafts of the specification had instead
  kFullyPresent = 6,
  kPartiallyPresent = 7,
};

/// §2.3.1
struct LogEntryHeader {
  uint32_t signature;
  uint32_t checksum;
  uint32_t entry_length;
  uint32_t tail;
  uint64_t sequence_number;
  uint32_t descriptor_count;
  uint32_t reserved;
  Guid log_guid;
  uint64_t flushed_file_offset;
  uint64_t last_file_offset;
};
/// Of data or of zeros.
struct LogDescriptor {
  uint32_t signature;
  uint32_t trailing_bytes;  ///< of the data: what the data sector has no room for
  uint64_t leading_bytes;   ///< the same; the length of zeros
  uint64_t file_offset;
  uint64_t sequence_number;
};
struct LogDataSector {
  uint32_t signature;
  uint32_t sequence_high;
  std::array<uint8_t, 4084> data;
  uint32_t sequence_low;
};
static_assert(sizeof(LogEntryHeader) == 64 && sizeof(LogDescriptor) == 32);
static_assert(sizeof(LogDataSector) == kSectorSize);
inline constexpr uint32_t kLogEntrySignature = 0x65676f6c;       // "loge"
inline constexpr uint32_t kLogDataSignature = 0x63736564;        // "desc"
inline constexpr uint32_t kLogZeroSignature = 0x6f72657a;        // "zero"
inline constexpr uint32_t kLogDataSectorSignature = 0x61746164;  // "data"

/// What a data descriptor keeps of its sector, at its start and its end.
inline constexpr size_t kLeadingBytes = 8;
inline constexpr size_t kTrailingBytes = 4;

/// Bytes of a log entry before its data sectors.
constexpr uint64_t log_descriptors_length(uint32_t count) {
  const uint64_t bytes = sizeof(LogEntryHeader) + uint64_t{count} * sizeof(LogDescriptor);
  return (bytes + kSectorSize - 1) / kSectorSize * kSectorSize;
}

/// A part of the file.
struct Region {
  uint64_t offset = 0;
  uint64_t length = 0;

  [[nodiscard]] uint64_t end() const { return offset + length; }
  [[nodiscard]] bool overlaps(const Region& other) const {
    return offset < other.end() && other.offset < end();
  }
};

}  // namespace tsvmm::vhdx
