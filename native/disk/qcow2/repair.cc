#include "disk/qcow2/repair.h"

#include <string>
#include <vector>

#include "core/error.h"
#include "disk/qcow2/snapshots.h"

namespace tsvmm::qcow2 {
namespace {

constexpr uint64_t kMaxClusters = 64 << 20;

[[noreturn]] void refuse(const std::string& why) {
  throw Error("EUCLEAN", "qcow2 image: it was not closed cleanly, and " + why +
                             ": 'qemu-img check -r all' repairs it");
}

/// How often each cluster is referred to.
class Census {
 public:
  Census(Container& container, const Header& header)
      : container_(container),
        geometry_(header.geometry),
        counts_(geometry_.clusters(container.size())) {}

  void count(uint64_t offset, uint64_t bytes) {
    if (bytes == 0) return;
    const uint64_t first = offset >> geometry_.cluster_bits;
    const uint64_t last = (offset + bytes - 1) >> geometry_.cluster_bits;
    if (last >= counts_.size()) refuse("its tables refer to what lies beyond its end");
    for (uint64_t at = first; at <= last; ++at) ++counts_[at];
  }

  void count_tables(uint64_t l1_offset, uint64_t entries) {
    count(l1_offset, entries * sizeof(uint64_t));
    for (const uint64_t word : read(l1_offset, entries)) {
      const uint64_t table = word & kOffsetMask;
      if (table == 0) continue;
      count(table, geometry_.cluster_size());
      count_table(table);
    }
  }

  [[nodiscard]] const std::vector<uint32_t>& counts() const { return counts_; }

 private:
  void count_table(uint64_t table) {
    const auto words = read(table, geometry_.cluster_size() / sizeof(uint64_t));
    for (size_t i = 0; i < words.size(); i += geometry_.entry_words()) {
      if ((words[i] & kCompressed) != 0) {
        const CompressedRange range = compressed_range(geometry_, words[i]);
        // The last sector may be said to lie beyond the end.
        const uint64_t end = counts_.size() << geometry_.cluster_bits;
        if (range.offset >= end) refuse("its tables refer to what lies beyond its end");
        count(range.offset, std::min(range.length, end - range.offset));
      } else if ((words[i] & kOffsetMask) != 0) {
        count(words[i] & kOffsetMask, geometry_.cluster_size());
      }
    }
  }

  std::vector<uint64_t> read(uint64_t offset, uint64_t entries) {
    std::vector<uint64_t> words(entries);
    const std::span<uint8_t> raw(reinterpret_cast<uint8_t*>(words.data()), entries * 8);
    if (const int error = container_.read(offset, raw)) {
      throw Error::from_errno("reading the qcow2 image's tables", error);
    }
    for (uint64_t& word : words) word = big_endian(word);
    return words;
  }

  Container& container_;
  const Geometry geometry_;
  std::vector<uint32_t> counts_;
};

void set_count(Refcounts& refcounts, uint64_t cluster, uint64_t wanted) {
  uint64_t stored = 0;
  int error = refcounts.get(cluster, stored);
  if (error == 0 && stored != wanted) error = refcounts.set(cluster, wanted);
  if (error != 0) throw Error::from_errno("repairing the qcow2 image's refcounts", error);
}

}  // namespace

void repair_refcounts(Container& container, const Header& header, Refcounts& refcounts) {
  const Geometry& geometry = header.geometry;
  if (header.has_bitmaps) refuse("it has bitmaps");
  if (geometry.clusters(container.size()) > kMaxClusters) refuse("it is very large");

  Census census(container, header);
  census.count(0, geometry.cluster_size());
  census.count(header.refcount_table_offset,
               uint64_t{header.refcount_table_clusters} << geometry.cluster_bits);
  for (const uint64_t block : refcounts.table()) {
    if (block != 0) census.count(block, geometry.cluster_size());
  }
  census.count_tables(header.l1_offset, header.l1_entries);
  const Snapshots snapshots = read_snapshots(container, header);
  census.count(header.snapshots_offset, snapshots.table_bytes);
  for (const SnapshotL1& l1 : snapshots.l1_tables) census.count_tables(l1.offset, l1.entries);

  const uint32_t block_bits = geometry.refcount_block_bits();
  const uint64_t most = geometry.refcount_order >= 5
                            ? UINT32_MAX
                            : (uint64_t{1} << (1U << geometry.refcount_order)) - 1;
  const auto& counts = census.counts();
  for (uint64_t cluster = 0; cluster < counts.size(); ++cluster) {
    if (counts[cluster] > most) refuse("a refcount would not fit");
    const uint64_t block = cluster >> block_bits;
    if (block >= refcounts.table().size()) {
      if (counts[cluster] != 0) refuse("its refcount table is too small");
      continue;
    }
    // A missing block comes to lie in the first cluster that it counts.
    const bool missing = refcounts.table()[block] == 0;
    if (missing && counts[cluster] != 0 && counts[block << block_bits] != 0) {
      refuse("a refcount block is missing");
    }
    const bool is_new_block = refcounts.table()[block] == cluster << geometry.cluster_bits &&
                              counts[cluster] == 0 && !missing;
    if (!is_new_block) set_count(refcounts, cluster, counts[cluster]);
  }
}

}  // namespace tsvmm::qcow2
