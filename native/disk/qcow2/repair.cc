#include "disk/qcow2/repair.h"

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "disk/qcow2/snapshots.h"

namespace tsvmm::qcow2 {
namespace {

constexpr uint64_t kMaxClusters = 64 << 20;
/// How many clusters are looked at between two looks at whether to go on.
constexpr uint64_t kCheckMask = (1 << 16) - 1;
/// Tables that are read for it at most: those of 8 TiB with clusters of 64 KiB.
constexpr uint64_t kMaxTableBytes = uint64_t{1} << 30;

[[noreturn]] void refuse(const std::string& why) {
  throw Error("EUCLEAN", "qcow2 image: it was not closed cleanly, and " + why +
                             ": 'qemu-img check -r all' repairs it");
}

/// A number for each cluster, of which only what is touched takes memory.
class ClusterCounts {
 public:
  explicit ClusterCounts(uint64_t size)
      : size_(size), counts_(static_cast<uint32_t*>(std::calloc(size, sizeof(uint32_t)))) {
    if (!counts_) throw Error("ENOMEM", "no memory to count the qcow2 image's clusters");
  }

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] uint32_t operator[](uint64_t cluster) const { return counts_.get()[cluster]; }
  void add(uint64_t cluster, uint32_t times) {
    uint32_t& count = counts_.get()[cluster];
    if (__builtin_add_overflow(count, times, &count)) refuse("a refcount would not fit");
  }

 private:
  struct Free {
    void operator()(uint32_t* memory) const { std::free(memory); }
  };
  const uint64_t size_;
  const std::unique_ptr<uint32_t, Free> counts_;
};

/// How often each cluster is referred to. Each table is read once, however many others name it.
class Census {
 public:
  Census(Container& container, const Header& header, const Cancellation& cancellation)
      : container_(container),
        geometry_(header.geometry),
        cancellation_(cancellation),
        counts_(geometry_.clusters(container.size())),
        tables_(counts_.size()) {}

  void count(uint64_t offset, uint64_t bytes, uint32_t times = 1) {
    if (bytes == 0) return;
    const uint64_t first = offset >> geometry_.cluster_bits;
    const uint64_t last = (offset + bytes - 1) >> geometry_.cluster_bits;
    if (last >= counts_.size()) refuse("its tables refer to what lies beyond its end");
    for (uint64_t at = first; at <= last; ++at) counts_.add(at, times);
  }

  /// An L1 table, and that it refers to its L2 tables.
  void count_l1(uint64_t offset, uint64_t entries) {
    count(offset, entries * sizeof(uint64_t));
    for (uint64_t done = 0; done < entries;) {
      const uint64_t piece = std::min(entries - done, kPieceEntries);
      for (const uint64_t word : read(offset + done * sizeof(uint64_t), piece)) {
        const uint64_t table = word & kOffsetMask;
        if (table == 0) continue;
        if ((table & geometry_.cluster_mask()) != 0) refuse("an L1 entry is damaged");
        count(table, geometry_.cluster_size());
        tables_.add(table >> geometry_.cluster_bits, 1);
      }
      done += piece;
    }
  }

  /// What the L2 tables refer to, once all L1 tables have been counted.
  void count_l2_tables() {
    for (uint64_t cluster = 0; cluster < tables_.size(); ++cluster) {
      if (tables_[cluster] != 0) count_table(cluster << geometry_.cluster_bits, tables_[cluster]);
    }
  }

  [[nodiscard]] const ClusterCounts& counts() const { return counts_; }

 private:
  static constexpr uint64_t kPieceEntries = 1 << 16;

  void count_table(uint64_t table, uint32_t times) {
    const auto words = read(table, geometry_.cluster_size() / sizeof(uint64_t));
    for (size_t i = 0; i < words.size(); i += geometry_.entry_words()) {
      if ((words[i] & kCompressed) != 0) {
        const CompressedRange range = compressed_range(geometry_, words[i]);
        // The last sector may be said to lie beyond the end.
        const uint64_t end = counts_.size() << geometry_.cluster_bits;
        if (range.offset >= end) refuse("its tables refer to what lies beyond its end");
        count(range.offset, std::min(range.length, end - range.offset), times);
      } else if ((words[i] & kOffsetMask) != 0) {
        count(words[i] & kOffsetMask, geometry_.cluster_size(), times);
      }
    }
  }

  std::vector<uint64_t> read(uint64_t offset, uint64_t entries) {
    cancellation_.check();
    const uint64_t bytes = entries * sizeof(uint64_t);
    if (bytes > budget_) refuse("its tables are very large");
    budget_ -= bytes;
    std::vector<uint64_t> words(entries);
    const std::span<uint8_t> raw(reinterpret_cast<uint8_t*>(words.data()), bytes);
    if (const int error = container_.read(offset, raw)) {
      throw Error::from_errno("reading the qcow2 image's tables", error);
    }
    for (uint64_t& word : words) word = big_endian(word);
    return words;
  }

  Container& container_;
  const Geometry geometry_;
  const Cancellation& cancellation_;
  uint64_t budget_ = kMaxTableBytes;
  ClusterCounts counts_;
  ClusterCounts tables_;  ///< how often each cluster is named as an L2 table
};

void set_count(Refcounts& refcounts, uint64_t cluster, uint64_t wanted) {
  uint64_t stored = 0;
  int error = refcounts.get(cluster, stored);
  if (error == 0 && stored != wanted) error = refcounts.set(cluster, wanted);
  if (error != 0) throw Error::from_errno("repairing the qcow2 image's refcounts", error);
}

}  // namespace

void repair_refcounts(Container& container, const Header& header, Refcounts& refcounts,
                      const Cancellation& cancellation) {
  const Geometry& geometry = header.geometry;
  if (header.has_bitmaps) refuse("it has bitmaps");
  if (geometry.clusters(container.size()) > kMaxClusters) refuse("it is very large");

  Census census(container, header, cancellation);
  census.count(0, geometry.cluster_size());
  census.count(header.refcount_table_offset,
               uint64_t{header.refcount_table_clusters} << geometry.cluster_bits);
  for (const uint64_t block : refcounts.table()) {
    if (block != 0) census.count(block, geometry.cluster_size());
  }
  census.count_l1(header.l1_offset, header.l1_entries);
  const Snapshots snapshots = read_snapshots(container, header, cancellation);
  census.count(header.snapshots_offset, snapshots.table_bytes);
  for (const SnapshotL1& l1 : snapshots.l1_tables) census.count_l1(l1.offset, l1.entries);
  census.count_l2_tables();

  const uint32_t block_bits = geometry.refcount_block_bits();
  const uint64_t most = geometry.refcount_order >= 5
                            ? UINT32_MAX
                            : (uint64_t{1} << (1U << geometry.refcount_order)) - 1;
  const ClusterCounts& counts = census.counts();
  for (uint64_t cluster = 0; cluster < counts.size(); ++cluster) {
    if ((cluster & kCheckMask) == 0) cancellation.check();
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
