#include "virtio/block_commands.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "core/shared_member.h"
#include "virtio/block.h"
#include "virtio/block_protocol.h"

namespace tsvmm {
namespace {

using Kind = DiskOperation::Kind;
using virtio_block::kSectorSize;
using virtio_block::RangeSegment;

/// Whether the sectors are on the disk, and may be written if they are to be.
bool is_allowed(const BlockContext& context, uint64_t sector, uint64_t count, bool writes) {
  const uint64_t capacity = context.image.size() / kSectorSize;
  if (count > capacity || sector > capacity - count) return false;
  if (!writes) return true;
  return !context.read_only && !(context.protect_sector0 && sector == 0 && count != 0);
}

/// Whether a write would make the disk's last sector look like the footer of a fixed VHD ("Hard
/// Disk Footer Format": it begins with this cookie), by which the next start would take a raw image
/// for one.
bool would_forge_footer(const BlockContext& context, BlockRequest& request, uint64_t sector,
                        uint64_t count) noexcept {
  constexpr std::string_view kCookie = "conectix";
  if (!context.protect_sector0 || count == 0) return false;
  if (sector + count != context.image.size() / kSectorSize) return false;
  const uint8_t* last = request.copy_last_sector();
  return last == nullptr || std::memcmp(last, kCookie.data(), kCookie.size()) == 0;
}

std::optional<uint8_t> prepare_transfer(const BlockContext& context, BlockRequest& request,
                                        Kind kind) {
  const bool writes = kind == Kind::kWrite;
  const uint64_t sector = request.header.sector;
  const uint64_t count = request.data_length / kSectorSize;
  if (request.data_length % kSectorSize != 0 || !is_allowed(context, sector, count, writes)) {
    return virtio_block::kStatusIoError;
  }
  if (writes && would_forge_footer(context, request, sector, count)) {
    return virtio_block::kStatusIoError;
  }
  if (count == 0) return virtio_block::kStatusOk;
  static_cast<DiskOperation&>(request) = {
      .kind = kind,
      // Write-through: nothing is done before it is on the disk (virtio 1.2 §5.2.6.2).
      .durable = writes && !load_shared(context.writeback),
      .offset = sector * kSectorSize,
      .length = request.data_length,
      .buffers = request.data};
  return std::nullopt;
}

/// Copies the segments, once: the guest may change them at any time. nullptr if they are no whole
/// number of them, or more than we said we take.
std::unique_ptr<BlockRanges> copy_ranges(const BlockRequest& request) {
  const uint64_t count = request.data_length / sizeof(RangeSegment);
  if (request.data_length % sizeof(RangeSegment) != 0 || count == 0 ||
      count > virtio_block::kMaxSegments) {
    return nullptr;
  }
  std::unique_ptr<BlockRanges> ranges(new (std::nothrow) BlockRanges);
  if (!ranges) return nullptr;
  auto* to = reinterpret_cast<uint8_t*>(ranges->segments.data());
  for (const iovec& buffer : request.data) {
    std::memcpy(to, buffer.iov_base, buffer.iov_len);
    to += buffer.iov_len;
  }
  ranges->count = static_cast<uint32_t>(count);
  return ranges;
}

/// virtio 1.2 §5.2.6.2: unknown flags are unsupported, as is unmapping in a discard; what leaves
/// the limits or the disk is an error.
std::optional<uint8_t> check_segment(const BlockContext& context, const RangeSegment& segment,
                                     bool discard) {
  const uint32_t flags = discard ? 0 : virtio_block::kSegmentUnmap;
  if ((segment.flags & ~flags) != 0) return virtio_block::kStatusUnsupported;
  const uint32_t limit =
      discard ? virtio_block::kMaxDiscardSectors : virtio_block::kMaxWriteZeroesSectors;
  if (segment.num_sectors > limit ||
      !is_allowed(context, segment.sector, segment.num_sectors, true)) {
    return virtio_block::kStatusIoError;
  }
  return std::nullopt;
}

std::optional<uint8_t> prepare_ranges(const BlockContext& context, BlockRequest& request,
                                      Kind kind) {
  const bool discard = kind == Kind::kDiscard;
  const uint64_t feature =
      discard ? virtio_block::kFeatureDiscard : virtio_block::kFeatureWriteZeroes;
  if (context.read_only) return virtio_block::kStatusIoError;
  if ((context.features & feature) == 0) return virtio_block::kStatusUnsupported;
  request.ranges = copy_ranges(request);
  if (!request.ranges) return virtio_block::kStatusIoError;
  // None is begun before all are known to be good.
  for (uint32_t i = 0; i < request.ranges->count; ++i) {
    const RangeSegment& segment = request.ranges->segments[i];
    if (const auto status = check_segment(context, segment, discard)) return status;
    request.ranges->size += uint64_t{segment.num_sectors} * kSectorSize;
  }
  static_cast<DiskOperation&>(request) = {.kind = kind, .durable = !load_shared(context.writeback)};
  if (!prepare_next_range(request)) return virtio_block::kStatusOk;
  return std::nullopt;
}

uint8_t give_id(const BlockContext& context, BlockRequest& request) {
  // Padded with zeros, without one at the end if all 20 bytes are used (virtio 1.2 §5.2.6.1).
  std::array<char, VirtioBlock::kSerialSize> id{};
  std::copy_n(context.serial.begin(), std::min(id.size(), context.serial.size()), id.begin());
  for (const iovec& buffer : request.data) {
    const size_t size = std::min(buffer.iov_len, id.size() - request.data_written);
    std::memcpy(buffer.iov_base, id.data() + request.data_written, size);
    request.data_written += static_cast<uint32_t>(size);
  }
  return virtio_block::kStatusOk;
}

}  // namespace

std::optional<uint8_t> prepare(const BlockContext& context, BlockRequest& request) noexcept {
  switch (request.header.type) {
    case virtio_block::kRequestIn:
      return prepare_transfer(context, request, Kind::kRead);
    case virtio_block::kRequestOut:
      return prepare_transfer(context, request, Kind::kWrite);
    case virtio_block::kRequestFlush:
      static_cast<DiskOperation&>(request) = {.kind = Kind::kFlush};
      return std::nullopt;
    case virtio_block::kRequestGetId:
      return give_id(context, request);
    case virtio_block::kRequestDiscard:
      return prepare_ranges(context, request, Kind::kDiscard);
    case virtio_block::kRequestWriteZeroes:
      return prepare_ranges(context, request, Kind::kWriteZeroes);
    default:
      return virtio_block::kStatusUnsupported;
  }
}

bool prepare_next_range(BlockRequest& request) noexcept {
  BlockRanges& ranges = *request.ranges;
  while (ranges.next < ranges.count) {
    const RangeSegment& segment = ranges.segments[ranges.next++];
    if (segment.num_sectors == 0) continue;
    request.offset = segment.sector * kSectorSize;
    request.length = uint64_t{segment.num_sectors} * kSectorSize;
    request.may_unmap = (segment.flags & virtio_block::kSegmentUnmap) != 0;
    request.error = 0;
    return true;
  }
  return false;
}

}  // namespace tsvmm
