#include "disk/vhdx/layout.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <vector>

#include "core/bytes.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "disk/vhdx/damage.h"

namespace tsvmm::vhdx {
namespace {

constexpr size_t kChecksumOffset = 4;
constexpr uint32_t kMinBlockSize = 1 << 20;
constexpr uint32_t kMaxBlockSize = 256 << 20;

/// A region table that is whole.
std::optional<std::vector<uint8_t>> read_region_table(Container& container, uint64_t offset) {
  std::vector<uint8_t> bytes(kRegionTableSize);
  check(container.read(offset, bytes), "reading a VHDX region table");
  const auto header = load<RegionTableHeader>(bytes);
  store<uint32_t>(bytes, 0, kChecksumOffset);
  const bool whole = header.signature == kRegionTableSignature &&
                     header.entry_count <= kMaxRegions && crc32c(bytes) == header.checksum;
  return whole ? std::optional(std::move(bytes)) : std::nullopt;
}

Region checked_region(const RegionEntry& entry, uint64_t file_size) {
  const Region region{entry.file_offset, entry.length};
  if (region.offset < kMib || region.offset % kMib != 0 || region.length == 0 ||
      region.length % kMib != 0 || region.offset > file_size ||
      region.length > file_size - region.offset) {
    throw damage("a region is not where it can be");
  }
  return region;
}

void read_regions(Container& container, Layout& layout) {
  auto table = read_region_table(container, kRegionTableOffsets[0]);
  if (!table) table = read_region_table(container, kRegionTableOffsets[1]);
  if (!table) throw damage("it has no region table that is whole");
  const uint32_t count = load<RegionTableHeader>(*table).entry_count;
  for (uint32_t i = 0; i < count; ++i) {
    const auto entry =
        load<RegionEntry>(*table, sizeof(RegionTableHeader) + i * sizeof(RegionEntry));
    const bool is_bat = entry.id == kBatRegion;
    if (!is_bat && entry.id != kMetadataRegion) {
      if ((entry.required & 1) != 0) throw Error("ENOTSUP", "the VHDX image has an unknown region");
      continue;
    }
    Region& region = is_bat ? layout.bat : layout.metadata;
    if (region.length != 0) throw damage("a region is there twice");
    region = checked_region(entry, container.size());
  }
  if (layout.bat.length == 0 || layout.metadata.length == 0) throw damage("a region is missing");
  const bool overlap = layout.bat.overlaps(layout.metadata) || layout.bat.overlaps(layout.log) ||
                       layout.metadata.overlaps(layout.log);
  if (overlap) throw damage("its regions overlap");
}

/// The items of the metadata region that say what disk it is.
class Metadata {
 public:
  Metadata(Container& container, const Region& region) : container_(container), region_(region) {
    std::vector<uint8_t> table(kMetadataTableSize);
    check(container.read(region.offset, table), "reading VHDX metadata");
    const auto header = load<MetadataTableHeader>(table);
    if (header.signature != kMetadataSignature || header.entry_count > kMaxMetadataEntries) {
      throw damage("it has no metadata table");
    }
    for (uint32_t i = 0; i < header.entry_count; ++i) {
      entries_.push_back(
          load<MetadataEntry>(table, sizeof(MetadataTableHeader) + i * sizeof(MetadataEntry)));
    }
  }

  void refuse_unknown() const {
    static constexpr std::array kKnown{kFileParameters, kVirtualDiskSize, kVirtualDiskId,
                                       kLogicalSector,  kPhysicalSector,  kParentLocator};
    for (const MetadataEntry& entry : entries_) {
      const bool known = (entry.flags & kMetadataIsUser) == 0 &&
                         std::ranges::find(kKnown, entry.id) != kKnown.end();
      if (!known && (entry.flags & kMetadataIsRequired) != 0) {
        throw Error("ENOTSUP", "the VHDX image needs metadata that is not supported");
      }
    }
  }

  template <typename T>
  [[nodiscard]] T item(const Guid& id) const {
    const auto found = std::ranges::find_if(entries_, [&](const MetadataEntry& entry) {
      return entry.id == id && (entry.flags & kMetadataIsUser) == 0;
    });
    if (found == entries_.end()) throw damage("it lacks metadata");
    // Items lie behind the table (§2.6.1.2).
    if (found->offset < kMetadataTableSize || found->length < sizeof(T) ||
        found->offset > region_.length - sizeof(T)) {
      throw damage("its metadata is not where it can be");
    }
    std::array<uint8_t, sizeof(T)> bytes{};
    check(container_.read(region_.offset + found->offset, bytes), "reading VHDX metadata");
    return load<T>(bytes);
  }

 private:
  Container& container_;
  const Region region_;
  std::vector<MetadataEntry> entries_;
};

/// §2.6.2.1
struct FileParameters {
  uint32_t block_size;
  uint32_t flags;
};

bool is_sector_size(uint32_t size) { return size == 512 || size == 4096; }

void read_disk(Container& container, Layout& layout) {
  const Metadata metadata(container, layout.metadata);
  metadata.refuse_unknown();
  const auto parameters = metadata.item<FileParameters>(kFileParameters);
  if ((parameters.flags & kHasParent) != 0) {
    throw Error("ENOTSUP", "differencing VHDX images are not supported");
  }
  layout.block_size = parameters.block_size;
  layout.disk_size = metadata.item<uint64_t>(kVirtualDiskSize);
  layout.logical_sector_size = metadata.item<uint32_t>(kLogicalSector);
  layout.physical_sector_size = metadata.item<uint32_t>(kPhysicalSector);
  if (!is_sector_size(layout.logical_sector_size) || !is_sector_size(layout.physical_sector_size)) {
    throw damage("its sector sizes are neither 512 nor 4096");
  }
  if (!std::has_single_bit(layout.block_size) || layout.block_size < kMinBlockSize ||
      layout.block_size > kMaxBlockSize) {
    throw damage("its block size is no power of two from 1 to 256 MiB");
  }
  if (layout.disk_size == 0 || layout.disk_size > kMaxDiskSize ||
      layout.disk_size % layout.logical_sector_size != 0) {
    throw damage("its disk cannot have that size");
  }
}

}  // namespace

Layout read_layout(Container& container, const Region& log) {
  Layout layout;
  layout.log = log;
  read_regions(container, layout);
  read_disk(container, layout);
  const uint64_t entries = layout.bat_index(layout.block_count() - 1) + 1;
  if (layout.bat.length / sizeof(uint64_t) < entries) {
    throw damage("its block allocation table is too short");
  }
  // A physical sector is never smaller than a logical one.
  layout.physical_sector_size = std::max(layout.physical_sector_size, layout.logical_sector_size);
  return layout;
}

}  // namespace tsvmm::vhdx
