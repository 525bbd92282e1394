#pragma once

#include <cstdint>
#include <vector>

#include "core/cancellation.h"
#include "disk/container.h"
#include "disk/qcow2/header.h"

namespace tsvmm::qcow2 {

/// The L1 table of an internal snapshot.
struct SnapshotL1 {
  uint64_t offset = 0;
  uint32_t entries = 0;
};

struct Snapshots {
  uint64_t table_bytes = 0;
  std::vector<SnapshotL1> l1_tables;
};

/// Reads the snapshot table, of which only the places of the L1 tables matter here. Throws Error.
[[nodiscard]] Snapshots read_snapshots(Container& container, const Header& header,
                                       const Cancellation& cancellation);

}  // namespace tsvmm::qcow2
