#include "disk/qcow2/snapshots.h"

#include <array>

#include "core/error.h"

namespace tsvmm::qcow2 {
namespace {

constexpr size_t kEntryBytes = 40;
constexpr size_t kL1Offset = 0;
constexpr size_t kL1Entries = 8;
constexpr size_t kIdLength = 12;
constexpr size_t kNameLength = 14;
constexpr size_t kExtraLength = 36;
/// QEMU's bound of the data that may follow an entry.
constexpr uint32_t kMaxExtra = 1024;

[[noreturn]] void refuse(const char* why) {
  throw Error("EINVAL", std::string("qcow2 image: its snapshot table ") + why);
}

}  // namespace

Snapshots read_snapshots(Container& container, const Header& header,
                         const Cancellation& cancellation) {
  Snapshots snapshots;
  uint64_t offset = header.snapshots_offset;
  const uint64_t file_size = container.size();
  for (uint32_t i = 0; i < header.snapshots; ++i) {
    cancellation.check();
    std::array<uint8_t, kEntryBytes> entry{};
    if (offset + entry.size() > file_size) refuse("lies beyond the end of the file");
    if (const int error = container.read(offset, entry)) {
      throw Error::from_errno("reading the qcow2 image's snapshot table", error);
    }
    const SnapshotL1 l1{load_be<uint64_t>(entry, kL1Offset), load_be<uint32_t>(entry, kL1Entries)};
    const auto extra = load_be<uint32_t>(entry, kExtraLength);
    if (extra > kMaxExtra) refuse("is damaged");
    const uint64_t bytes = uint64_t{l1.entries} * sizeof(uint64_t);
    if ((l1.offset & header.geometry.cluster_mask()) != 0 || bytes > kMaxL1Bytes ||
        bytes > file_size || l1.offset > file_size - bytes) {
      refuse("names an L1 table that cannot be");
    }
    snapshots.l1_tables.push_back(l1);
    const uint64_t length = kEntryBytes + extra + load_be<uint16_t>(entry, kIdLength) +
                            load_be<uint16_t>(entry, kNameLength);
    offset += (length + 7) & ~uint64_t{7};
    snapshots.table_bytes = offset - header.snapshots_offset;
    if (snapshots.table_bytes > kMaxSnapshotTableBytes) refuse("is too large");
  }
  return snapshots;
}

}  // namespace tsvmm::qcow2
