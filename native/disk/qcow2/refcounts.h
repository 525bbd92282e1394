#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "disk/container.h"
#include "disk/qcow2/header.h"
#include "disk/qcow2/metadata_map.h"

namespace tsvmm::qcow2 {

/// Consecutive host clusters.
struct ClusterRun {
  uint64_t first = 0;
  uint64_t count = 0;
  bool fresh = false;  ///< never used before: reads as zeros
};

/// The reference counts of an image's host clusters, and who gets free ones.
///
/// Changes stay in memory until write_blocks() and write_table(), or until their block makes room
/// for another one. They may reach the file at any time: a count that is too high is a leak only,
/// and one is lowered only after the reference is gone from stable storage.
///
/// Keeps the refcount table (at most 8 MiB) and up to 1 MiB of blocks in memory. Calls come from
/// one thread at a time and return 0 or an errno; EUCLEAN means that the image is damaged.
class Refcounts {
 public:
  Refcounts(Container& container, Header& header, MetadataMap& metadata);

  /// Reads the table and adds it and its blocks to the metadata map. Throws Error.
  void open();

  /// Takes up to `wanted` clusters (at least 1), with a refcount of 1.
  [[nodiscard]] int allocate(uint64_t wanted, ClusterRun& run) noexcept;
  /// Takes exactly `count` clusters in a row at the end of what has been used.
  [[nodiscard]] int allocate_row(uint64_t count, ClusterRun& run) noexcept;
  /// Lowers a count; `is_free` tells that nothing refers to the cluster any more.
  [[nodiscard]] int release(uint64_t cluster, bool& is_free) noexcept;
  /// Lets a cluster with a refcount of 0 be allocated again.
  void reuse(uint64_t cluster) noexcept;

  [[nodiscard]] int get(uint64_t cluster, uint64_t& count) noexcept;
  [[nodiscard]] int set(uint64_t cluster, uint64_t count) noexcept;

  /// Where the clusters end that have been used, or were there when the image was opened.
  [[nodiscard]] uint64_t used_end() const noexcept { return used_end_; }
  /// Clusters that the table can count: none beyond can be referred to.
  [[nodiscard]] uint64_t capacity() const noexcept;

  /// Writes changed blocks, without making them durable.
  [[nodiscard]] int write_blocks() noexcept;
  [[nodiscard]] bool table_is_dirty() const noexcept { return table_dirty_; }
  /// Writes a changed table; its blocks must be on stable storage.
  [[nodiscard]] int write_table() noexcept;

  /// Where the blocks are, by what they count; 0 for none.
  [[nodiscard]] const std::vector<uint64_t>& table() const noexcept { return table_; }
  /// Clusters that the table had before it moved, to be released, once.
  [[nodiscard]] std::vector<ClusterRun> take_abandoned() noexcept;

 private:
  struct Block {
    std::unique_ptr<uint8_t[]> bytes;
    uint64_t used = 0;  ///< when last, for eviction
    bool dirty = false;
  };

  [[nodiscard]] int load(uint64_t index, Block*& block) noexcept;
  [[nodiscard]] int make_room() noexcept;
  /// Makes the container hold `count` clusters from `first` on.
  [[nodiscard]] int reach(uint64_t first, uint64_t count) noexcept;
  [[nodiscard]] int write_block(uint64_t index, Block& block) noexcept;
  [[nodiscard]] int add_block(uint64_t index) noexcept;
  [[nodiscard]] int grow_table() noexcept;
  [[nodiscard]] int move_table(uint64_t new_clusters, uint64_t new_blocks) noexcept;
  [[nodiscard]] int take(uint64_t first, uint64_t count) noexcept;
  [[nodiscard]] bool take_reusable(uint64_t wanted, ClusterRun& run) noexcept;
  [[nodiscard]] uint64_t count_in(const Block& block, uint64_t slot) const noexcept;
  void set_in(Block& block, uint64_t slot, uint64_t count) const noexcept;
  [[nodiscard]] uint64_t block_entries() const noexcept { return uint64_t{1} << block_bits_; }
  Block& new_block(uint64_t index);

  Container& container_;
  Header& header_;
  MetadataMap& metadata_;
  const Geometry geometry_;
  const uint32_t block_bits_;
  const size_t max_blocks_;
  std::vector<uint64_t> table_;
  bool table_dirty_ = false;
  std::unordered_map<uint64_t, Block> blocks_;
  uint64_t clock_ = 0;
  uint64_t scan_ = 0;        ///< clusters before it have been looked at
  uint64_t fresh_from_ = 0;  ///< clusters from here on have never been used
  uint64_t used_end_ = 0;
  std::map<uint64_t, uint64_t> reusable_;  ///< first cluster -> count
  std::vector<ClusterRun> abandoned_;
};

}  // namespace tsvmm::qcow2
