#pragma once

#include <cstddef>
#include <cstdint>

/// Numbers and layouts of the block device (virtio 1.2 §5.2).
namespace tsvmm::virtio_block {

inline constexpr uint32_t kSectorSize = 512;

// Feature bits, §5.2.3.
inline constexpr uint64_t kFeatureSegMax = 1ULL << 2;
inline constexpr uint64_t kFeatureReadOnly = 1ULL << 5;
inline constexpr uint64_t kFeatureBlockSize = 1ULL << 6;
inline constexpr uint64_t kFeatureFlush = 1ULL << 9;
inline constexpr uint64_t kFeatureTopology = 1ULL << 10;
inline constexpr uint64_t kFeatureConfigWce = 1ULL << 11;
inline constexpr uint64_t kFeatureMultiQueue = 1ULL << 12;
inline constexpr uint64_t kFeatureDiscard = 1ULL << 13;
inline constexpr uint64_t kFeatureWriteZeroes = 1ULL << 14;

/// struct virtio_blk_config, §5.2.4, up to the fields of the offered features.
struct Config {
  uint64_t capacity;  ///< sectors
  uint32_t size_max;
  uint32_t seg_max;
  uint16_t cylinders;
  uint8_t heads;
  uint8_t sectors;
  uint32_t blk_size;
  uint8_t physical_block_exp;
  uint8_t alignment_offset;
  uint16_t min_io_size;
  uint32_t opt_io_size;
  uint8_t writeback;
  uint8_t unused0;
  uint16_t num_queues;
  uint32_t max_discard_sectors;
  uint32_t max_discard_seg;
  uint32_t discard_sector_alignment;  ///< sectors
  uint32_t max_write_zeroes_sectors;
  uint32_t max_write_zeroes_seg;
  uint8_t write_zeroes_may_unmap;
  uint8_t unused1[3];
};
inline constexpr uint32_t kConfigSize = 60;
static_assert(offsetof(Config, write_zeroes_may_unmap) == 56);
inline constexpr uint32_t kWritebackOffset = 32;

// Request types and status, §5.2.6.
inline constexpr uint32_t kRequestIn = 0;
inline constexpr uint32_t kRequestOut = 1;
inline constexpr uint32_t kRequestFlush = 4;
inline constexpr uint32_t kRequestGetId = 8;
inline constexpr uint32_t kRequestDiscard = 11;
inline constexpr uint32_t kRequestWriteZeroes = 13;
inline constexpr uint8_t kStatusOk = 0;
inline constexpr uint8_t kStatusIoError = 1;
inline constexpr uint8_t kStatusUnsupported = 2;

/// What the readable part of a request begins with.
struct RequestHeader {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};
static_assert(sizeof(RequestHeader) == 16);

/// What a discard or write-zeroes request has instead of data, one or several times.
struct RangeSegment {
  uint64_t sector;
  uint32_t num_sectors;
  uint32_t flags;
};
static_assert(sizeof(RangeSegment) == 16);
inline constexpr uint32_t kSegmentUnmap = 1;

/// Our bounds for such requests, so that none holds a queue for long: 1 GiB to discard, and 64 MiB
/// to zero, which may mean to write them.
inline constexpr uint32_t kMaxSegments = 16;
inline constexpr uint32_t kMaxDiscardSectors = 1U << 21;
inline constexpr uint32_t kMaxWriteZeroesSectors = 1U << 17;

}  // namespace tsvmm::virtio_block
