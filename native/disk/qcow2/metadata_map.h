#pragma once

#include <cstdint>
#include <vector>

namespace tsvmm::qcow2 {

/// The host clusters that hold metadata (header, tables, refcount blocks, snapshots), so that data
/// is never put on top of it, whatever a damaged or hostile image says. 16 bytes for each piece
/// that lies alone, however long it is.
class MetadataMap {
 public:
  /// For filling it at first; ends with seal(), before which nothing can be asked.
  void collect(uint64_t cluster, uint64_t count);
  /// False if a cluster was collected twice: two tables in one place.
  [[nodiscard]] bool seal();

  [[nodiscard]] bool overlaps(uint64_t cluster, uint64_t count) const noexcept;
  /// Clusters that are not in it yet.
  void insert(uint64_t cluster, uint64_t count);
  void erase(uint64_t cluster) noexcept;

 private:
  struct Piece {
    uint64_t first = 0;
    uint64_t count = 0;
    [[nodiscard]] uint64_t end() const noexcept { return first + count; }
  };

  std::vector<Piece> pieces_;  ///< sorted, apart from each other
};

}  // namespace tsvmm::qcow2
