#pragma once

#include <cstdint>
#include <vector>

namespace tsvmm::qcow2 {

/// The host clusters that hold metadata (header, tables, refcount blocks, snapshots), so that data
/// is never put on top of it, whatever a damaged or hostile image says. 8 bytes a cluster of
/// metadata.
class MetadataMap {
 public:
  /// For filling it at first; ends with seal(), before which nothing can be asked.
  void collect(uint64_t cluster, uint64_t count);
  /// False if a cluster was collected twice: two tables in one place.
  [[nodiscard]] bool seal();

  [[nodiscard]] bool overlaps(uint64_t cluster, uint64_t count) const noexcept;
  void insert(uint64_t cluster, uint64_t count);
  void erase(uint64_t cluster) noexcept;

 private:
  std::vector<uint64_t> clusters_;  ///< sorted
};

}  // namespace tsvmm::qcow2
