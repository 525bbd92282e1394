#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "disk/container.h"
#include "disk/disk_image.h"
#include "disk/qcow2/decompress.h"
#include "disk/qcow2/metadata.h"

namespace tsvmm::qcow2 {

/// Writes that need new clusters, and ranges that become zero: all that changes the tables. Blocks.
///
/// Calls are made with the metadata's lock held, and return 0 or an errno.
class ClusterWriter {
 public:
  /// `backing` may be none.
  ClusterWriter(Container& container, Metadata& metadata, DiskImage* backing);

  /// Writes the front of the operation's rest, and takes it off. At least a byte, unless
  /// what comes first can be written in place: then nothing.
  [[nodiscard]] int write(DiskOperation& operation) noexcept;

  /// Makes a range read as zeros. `unmap`: without its space if possible.
  [[nodiscard]] int write_zeroes(uint64_t offset, uint64_t length, bool unmap) noexcept;
  /// Gives back the space of what the range covers wholly.
  [[nodiscard]] int discard(uint64_t offset, uint64_t length) noexcept;

 private:
  /// What one call of write() does: `count` clusters from `first` on, which lie at `host`.
  struct Plan {
    uint64_t first = 0;
    uint64_t count = 0;
    uint64_t host = 0;
    bool fresh = false;     ///< what is at `host` reads as zeros
    bool in_place = false;  ///< `host` is what the entry has already
    ClusterRun run;
    uint64_t offset = 0;  ///< of the guest's bytes
    uint64_t length = 0;
    uint64_t fill_start = 0;  ///< what becomes data of the clusters, in guest offsets
    uint64_t fill_end = 0;
  };

  [[nodiscard]] int plan(const DiskOperation& operation, Plan& plan) noexcept;
  [[nodiscard]] int plan_in_place(const Entry& entry, Plan& plan) noexcept;
  [[nodiscard]] uint64_t count_clusters(const Plan& plan, uint64_t wanted) const noexcept;
  void plan_fill(Plan& plan, const Entry& first, const Entry& last) const noexcept;
  [[nodiscard]] int write_data(DiskOperation& operation, Plan& plan) noexcept;
  [[nodiscard]] Entry new_entry(const Plan& plan, uint64_t cluster,
                                const Entry& old) const noexcept;

  /// What a range of the disk holds; `is_zero` if that is nothing.
  [[nodiscard]] int read_old(uint64_t offset, std::span<uint8_t> bytes, bool& is_zero) noexcept;
  [[nodiscard]] int read_extent(const Extent& extent, uint64_t offset, std::span<uint8_t> bytes,
                                bool& is_zero) noexcept;
  [[nodiscard]] int read_backing(uint64_t offset, std::span<uint8_t> bytes, bool& is_zero) noexcept;

  [[nodiscard]] int zero_granules(uint64_t offset, uint64_t end, bool unmap, bool discard) noexcept;
  [[nodiscard]] int zero_cluster(uint64_t cluster, uint32_t granules, bool unmap, bool discard,
                                 bool& needs_data) noexcept;
  [[nodiscard]] Entry zeroed(const Entry& old, uint32_t granules, bool unmap, bool has_backing,
                             bool& possible) const noexcept;
  [[nodiscard]] int write_zero_bytes(uint64_t offset, uint64_t end) noexcept;
  /// Whether the backing file has something at `offset`.
  [[nodiscard]] bool is_backed(uint64_t offset) const noexcept {
    return backing_ != nullptr && offset < backing_->size();
  }

  Container& container_;
  Metadata& metadata_;
  const Geometry geometry_;
  DiskImage* const backing_;
  std::unique_ptr<DiskQueue> backing_queue_;  ///< made when first needed
  CompressedReader compressed_;
  std::vector<uint8_t> head_;
  std::vector<uint8_t> tail_;
  std::vector<iovec> pieces_;
  std::vector<uint8_t> zeros_;
};

}  // namespace tsvmm::qcow2
