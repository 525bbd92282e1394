#include "disk/qcow2/header.h"

#include <cctype>
#include <string>

#include "core/error.h"

namespace tsvmm::qcow2 {
namespace {

// Offsets of the header's fields.
constexpr size_t kVersion = 4;
constexpr size_t kBackingOffset = 8;
constexpr size_t kBackingSize = 16;
constexpr size_t kClusterBits = 20;
constexpr size_t kSize = 24;
constexpr size_t kCryptMethod = 32;
constexpr size_t kL1Entries = 36;
constexpr size_t kL1Offset = 40;
constexpr size_t kRefcountTableOffset = 48;
constexpr size_t kRefcountTableClusters = 56;
constexpr size_t kSnapshots = 60;
constexpr size_t kSnapshotsOffset = 64;
constexpr size_t kVersion2Length = 72;
constexpr size_t kIncompatible = 72;
constexpr size_t kCompatible = 80;
constexpr size_t kAutoclear = 88;
constexpr size_t kRefcountOrder = 96;
constexpr size_t kHeaderLength = 100;
constexpr size_t kVersion3Length = 104;
constexpr size_t kCompressionTypeField = 104;

constexpr uint32_t kMaxBackingName = 1023;
constexpr uint32_t kFeatureNameTable = 0x6803f857;
constexpr uint32_t kBitmapsExtension = 0x23852875;
constexpr size_t kFeatureNameEntry = 48;

[[noreturn]] void refuse(const std::string& why) { throw Error("EINVAL", "qcow2 image: " + why); }
[[noreturn]] void unsupported(const std::string& why) {
  throw Error("ENOTSUP", "qcow2 image: " + why);
}

/// Calls `visit(type, data)` for each header extension. Their lengths are the file's word.
template <typename Visit>
void for_each_extension(std::span<const uint8_t> area, Visit visit) {
  while (area.size() >= 8) {
    const auto type = load_be<uint32_t>(area, 0);
    const auto length = load_be<uint32_t>(area, 4);
    if (type == 0) return;
    if (length > area.size() - 8) return;
    visit(type, area.subspan(8, length));
    const size_t padded = (size_t{length} + 7) & ~size_t{7};
    if (padded > area.size() - 8) return;
    area = area.subspan(8 + padded);
  }
}

/// What the image's feature name table calls an incompatible feature, cleaned for a message.
std::string name_of_feature(std::span<const uint8_t> extensions, uint32_t bit) {
  std::string name;
  for_each_extension(extensions, [&](uint32_t type, std::span<const uint8_t> data) {
    if (type != kFeatureNameTable) return;
    for (; data.size() >= kFeatureNameEntry; data = data.subspan(kFeatureNameEntry)) {
      if (data[0] != 0 || data[1] != bit) continue;
      for (const uint8_t byte : data.subspan(2, kFeatureNameEntry - 2)) {
        if (byte == 0) break;
        name += std::isprint(byte) != 0 ? static_cast<char>(byte) : '?';
      }
      return;
    }
  });
  const std::string number = "incompatible feature bit " + std::to_string(bit);
  return name.empty() ? number : "'" + name + "' (" + number + ")";
}

void check_features(const Header& header, std::span<const uint8_t> extensions) {
  if ((header.incompatible & kExternalData) != 0) {
    unsupported("an external data file (incompatible feature bit 2) is not supported");
  }
  constexpr uint64_t kKnown = kDirty | kCorrupt | kCompressionType | kExtendedL2;
  for (uint32_t bit = 0; bit < 64; ++bit) {
    const uint64_t mask = uint64_t{1} << bit;
    if ((header.incompatible & ~kKnown & mask) == 0) continue;
    unsupported("it needs the unknown feature " + name_of_feature(extensions, bit));
  }
}

void check_compression(Header& header, std::span<const uint8_t> bytes, uint32_t header_length) {
  const uint8_t type = header_length > kCompressionTypeField ? bytes[kCompressionTypeField] : 0;
  const bool flagged = (header.incompatible & kCompressionType) != 0;
  if (flagged != (type != 0)) refuse("its compression type and feature bit disagree");
  if (type > static_cast<uint8_t>(Compression::kZstd)) {
    unsupported("compression type " + std::to_string(type) + " is unknown");
  }
  header.compression = static_cast<Compression>(type);
}

/// A table of `length` bytes at `offset` must be aligned, in the file, and not in the header.
void check_table(const Header& header, const char* name, uint64_t offset, uint64_t length,
                 uint64_t file_size) {
  if (length == 0) return;
  if ((offset & header.geometry.cluster_mask()) != 0) {
    refuse(std::string(name) + " is not aligned to a cluster");
  }
  if (offset == 0) refuse(std::string(name) + " overlaps the header");
  if (offset >= kMaxHostOffset || length > file_size || offset > file_size - length) {
    refuse(std::string(name) + " lies beyond the end of the file");
  }
}

void check_tables(const Header& header, uint64_t file_size) {
  const Geometry& geometry = header.geometry;
  if (header.l1_entries > kMaxL1Bytes / sizeof(uint64_t)) refuse("its L1 table is too large");
  if (header.l1_entries < l1_entries_for(geometry, header.size)) {
    refuse("its L1 table is too small for its size");
  }
  check_table(header, "its L1 table", header.l1_offset, header.l1_entries * sizeof(uint64_t),
              file_size);
  if (header.refcount_table_clusters == 0) refuse("it has no refcount table");
  if (header.refcount_table_clusters > (kMaxRefcountTableBytes >> geometry.cluster_bits)) {
    refuse("its refcount table is too large");
  }
  check_table(header, "its refcount table", header.refcount_table_offset,
              uint64_t{header.refcount_table_clusters} << geometry.cluster_bits, file_size);
  if (header.snapshots > kMaxSnapshots) refuse("it has too many snapshots");
  check_table(header, "its snapshot table", header.snapshots_offset, header.snapshots, file_size);
}

void check_backing_name(std::span<const uint8_t> bytes, const Header& header) {
  const auto offset = load_be<uint64_t>(bytes, kBackingOffset);
  const auto size = load_be<uint32_t>(bytes, kBackingSize);
  const uint64_t cluster = header.geometry.cluster_size();
  if (size > kMaxBackingName || offset > cluster || size > cluster - offset) {
    refuse("its backing file's name does not fit");
  }
}

void parse_version3(Header& header, std::span<const uint8_t> bytes) {
  if (bytes.size() < kVersion3Length) refuse("its header is cut short");
  header.incompatible = load_be<uint64_t>(bytes, kIncompatible);
  header.compatible = load_be<uint64_t>(bytes, kCompatible);
  header.autoclear = load_be<uint64_t>(bytes, kAutoclear);
  header.geometry.refcount_order = load_be<uint32_t>(bytes, kRefcountOrder);
  if (header.geometry.refcount_order > kMaxRefcountOrder) refuse("its refcounts are too wide");
  header.geometry.extended = (header.incompatible & kExtendedL2) != 0;
}

uint32_t header_length_of(const Header& header, std::span<const uint8_t> bytes) {
  if (header.version == 2) return kVersion2Length;
  const auto length = load_be<uint32_t>(bytes, kHeaderLength);
  if (length < kVersion3Length || length % 8 != 0 || length > header.geometry.cluster_size()) {
    refuse("its header has an impossible length");
  }
  return length;
}

}  // namespace

uint64_t l1_entries_for(const Geometry& geometry, uint64_t size) noexcept {
  const uint64_t span = uint64_t{1} << geometry.table_span_bits();
  return size / span + (size % span != 0 ? 1 : 0);
}

Header parse_header(std::span<const uint8_t> bytes, uint64_t file_size) {
  if (bytes.size() < kSectorSize || load_be<uint32_t>(bytes, 0) != kMagic) {
    refuse("it does not begin with a qcow2 header");
  }
  Header header;
  header.version = load_be<uint32_t>(bytes, kVersion);
  if (header.version != 2 && header.version != 3) {
    unsupported("version " + std::to_string(header.version) + " is not supported");
  }
  header.geometry.cluster_bits = load_be<uint32_t>(bytes, kClusterBits);
  if (header.geometry.cluster_bits < kMinClusterBits ||
      header.geometry.cluster_bits > kMaxClusterBits) {
    refuse("its clusters are neither 512 bytes nor up to 2 MiB");
  }
  header.size = load_be<uint64_t>(bytes, kSize);
  if (load_be<uint32_t>(bytes, kCryptMethod) != 0) unsupported("encryption is not supported");
  header.l1_entries = load_be<uint32_t>(bytes, kL1Entries);
  header.l1_offset = load_be<uint64_t>(bytes, kL1Offset);
  header.refcount_table_offset = load_be<uint64_t>(bytes, kRefcountTableOffset);
  header.refcount_table_clusters = load_be<uint32_t>(bytes, kRefcountTableClusters);
  header.snapshots = load_be<uint32_t>(bytes, kSnapshots);
  header.snapshots_offset = load_be<uint64_t>(bytes, kSnapshotsOffset);
  header.has_backing = load_be<uint64_t>(bytes, kBackingOffset) != 0;
  if (header.version == 3) parse_version3(header, bytes);

  const uint32_t length = header_length_of(header, bytes);
  const size_t area_end = std::min<uint64_t>(bytes.size(), header.geometry.cluster_size());
  const auto extensions =
      length < area_end ? bytes.subspan(length, area_end - length) : std::span<const uint8_t>{};
  check_features(header, extensions);
  if (header.geometry.extended && header.geometry.cluster_bits < kMinExtendedClusterBits) {
    refuse("its clusters are too small for subclusters");
  }
  check_compression(header, bytes, length);
  if (header.has_backing) check_backing_name(bytes, header);
  check_tables(header, file_size);
  for_each_extension(extensions, [&](uint32_t type, std::span<const uint8_t>) {
    header.has_bitmaps |= type == kBitmapsExtension;
  });
  std::ranges::copy(bytes.first(kSectorSize), header.sector.begin());
  return header;
}

void render_header(Header& header) noexcept {
  const std::span<uint8_t> sector(header.sector);
  store_be(sector, kSize, header.size);
  store_be(sector, kL1Entries, header.l1_entries);
  store_be(sector, kL1Offset, header.l1_offset);
  store_be(sector, kRefcountTableOffset, header.refcount_table_offset);
  store_be(sector, kRefcountTableClusters, header.refcount_table_clusters);
  if (header.version == 2) return;
  store_be(sector, kIncompatible, header.incompatible);
  store_be(sector, kAutoclear, header.autoclear);
}

}  // namespace tsvmm::qcow2
