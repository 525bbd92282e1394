#include "disk/qcow2/metadata.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "core/error.h"
#include "disk/qcow2/repair.h"
#include "disk/qcow2/snapshots.h"

namespace tsvmm::qcow2 {
namespace {

/// Given-up clusters that may wait for a flush, before there is one unasked.
constexpr size_t kMaxUnlinked = 65536;

void check(int error, const char* what) {
  if (error != 0) throw Error::from_errno(what, error);
}

}  // namespace

Metadata::Metadata(Container& container, const Header& header, Options options)
    : container_(container),
      header_(header),
      options_(options),
      initial_size_(container.size()),
      mapping_(container, header_, options.read_only ? nullptr : &places_),
      refcounts_(container, header_, places_) {}

void Metadata::check_openable() const {
  if ((header_.incompatible & kCorrupt) != 0) {
    throw Error("EUCLEAN",
                "qcow2 image: it is marked as corrupt, so it can only be opened read-only until "
                "it has been repaired ('qemu-img check -r all' does that)");
  }
  const uint32_t block = container_.limits().physical_block_size;
  if (geometry().cluster_size() < block && block > kSectorSize) {
    throw Error("EINVAL", "qcow2 image: its clusters are smaller than the host's blocks of " +
                              std::to_string(block) + " bytes, which direct I/O cannot do");
  }
}

void Metadata::open(const Cancellation& cancellation) {
  if (options_.read_only) {
    mapping_.open();
    return;
  }
  check_openable();
  mapping_.open();
  refcounts_.open();
  collect_places(cancellation);
  check(container_.grow(geometry().clusters(initial_size_) << geometry().cluster_bits),
        "rounding up the qcow2 image's size");
  clear_autoclear();
  if ((header_.incompatible & kDirty) == 0) return;
  repair_refcounts(container_, header_, refcounts_, cancellation);
  check(write_refcounts(), "repairing the qcow2 image's refcounts");
  check(container_.barrier(), "repairing the qcow2 image's refcounts");
  header_.incompatible &= ~kDirty;
  check(write_header(), "clearing the qcow2 image's dirty bit");
}

void Metadata::collect_places(const Cancellation& cancellation) {
  const auto collect = [this](uint64_t offset, uint64_t bytes) {
    places_.collect(offset >> geometry().cluster_bits, geometry().clusters(bytes));
  };
  collect(0, 1);
  collect(header_.l1_offset, uint64_t{header_.l1_entries} * sizeof(uint64_t));
  const Snapshots snapshots = read_snapshots(container_, header_, cancellation);
  collect(header_.snapshots_offset, snapshots.table_bytes);
  for (const SnapshotL1& l1 : snapshots.l1_tables) {
    collect(l1.offset, uint64_t{l1.entries} * sizeof(uint64_t));
  }
  if (places_.seal()) return;
  mark_damaged();
  throw Error("EUCLEAN", "qcow2 image: two of its tables lie in the same place");
}

void Metadata::clear_autoclear() {
  if (header_.autoclear == 0) return;
  header_.autoclear = 0;
  check(write_header(), "clearing the qcow2 image's autoclear bits");
}

int Metadata::write_header() noexcept {
  render_header(header_);
  if (const int error = container_.write_bytes(0, header_.sector)) {
    // The file may have either header now.
    container_.syncs().fail(error);
    return error;
  }
  return container_.barrier();
}

int Metadata::begin_change() noexcept {
  if (damaged_) return EIO;
  if (const int error = container_.syncs().failure()) return error;
  if (!lazy() || (header_.incompatible & kDirty) != 0) return 0;
  header_.incompatible |= kDirty;
  const int error = write_header();
  if (error != 0) header_.incompatible &= ~kDirty;
  return error;
}

void Metadata::mark_dirty(bool has_data) noexcept {
  needs_barrier_ |= has_data;
  dirty_.store(true, std::memory_order_release);
}

void Metadata::mark_damaged() noexcept {
  if (damaged_.exchange(true)) return;
  if (header_.version < 3 || options_.read_only) return;
  header_.incompatible |= kCorrupt;
  (void)write_header();
}

int Metadata::judge(int error) noexcept {
  if (error != EUCLEAN) return error;
  mark_damaged();
  return EIO;
}

int Metadata::load(uint64_t offset) noexcept {
  int error = mapping_.load(offset);
  if (error == EBUSY) {
    error = commit();
    if (error == 0) error = mapping_.load(offset);
  }
  // What is wrong with one entry need not keep others from being read.
  if (error == EUCLEAN) {
    mark_damaged();
    return 0;
  }
  return error;
}

int Metadata::own_table(uint64_t offset) noexcept {
  if (const int error = begin_change()) return error;
  const uint64_t index = mapping_.l1_index(offset);
  const uint64_t word = mapping_.l1(index);
  const uint64_t old = word & kOffsetMask;
  if (old == 0 || (word & kCopied) == 0) {
    std::vector<uint8_t> table(geometry().cluster_size());
    if (old != 0) {
      if (const int error = container_.read(old, table)) return error;
    }
    ClusterRun run;
    if (const int error = allocate(1, run)) return error;
    const uint64_t place = run.first << geometry().cluster_bits;
    if (const int error = container_.write_bytes(place, table)) {
      cancel(run);
      return error;
    }
    places_.insert(run.first, 1);
    mark_dirty(true);
    mapping_.set_l1(index, place | kCopied);
    if (old != 0) unlink_cluster(old >> geometry().cluster_bits);
  }
  if (const int error = load(offset)) return error;
  return writable();
}

void Metadata::set_entry(uint64_t cluster, const Entry& entry, bool has_data) noexcept {
  const Entry old = mapping_.entry(cluster);
  // First: a thread that finds the entry and writes durably has to see that it must be committed.
  mark_dirty(has_data);
  mapping_.set_entry(cluster, entry);
  if (old.compressed() || (old.host() != 0 && old.host() != entry.host())) unlink(old);
}

void Metadata::unlink(const Entry& entry) noexcept {
  const uint32_t bits = geometry().cluster_bits;
  if (!entry.compressed()) return unlink_cluster(entry.host() >> bits);
  // Its clusters count once for each compressed cluster that has a part in them.
  const CompressedRange range = compressed_range(geometry(), entry.word);
  const uint64_t last = (range.offset + range.length - 1) >> bits;
  for (uint64_t at = range.offset >> bits; at <= last; ++at) unlink_cluster(at);
}

void Metadata::unlink_cluster(uint64_t cluster) noexcept {
  const std::lock_guard guard(mapping_.lock());
  unlinked_.push_back({cluster, in_flight_.epoch()});
}

int Metadata::allocate(uint64_t wanted, ClusterRun& run) noexcept {
  if (const int error = begin_change()) return error;
  if (unlinked_.size() >= kMaxUnlinked) {
    if (const int error = commit()) return error;
  }
  const int error = judge(refcounts_.allocate(wanted, run));
  for (const ClusterRun& old : refcounts_.take_abandoned()) {
    for (uint64_t i = 0; i < old.count; ++i) unlink_cluster(old.first + i);
  }
  return error;
}

void Metadata::cancel(const ClusterRun& run) noexcept {
  for (uint64_t i = 0; i < run.count; ++i) {
    if (refcounts_.set(run.first + i, 0) == 0) refcounts_.reuse(run.first + i);
  }
}

int Metadata::reach(uint64_t host_end) noexcept {
  if (host_end <= container_.size()) return 0;
  if (const int error = begin_change()) return error;
  if (geometry().clusters(host_end) > refcounts_.capacity()) return judge(EUCLEAN);
  return container_.grow(host_end);
}

int Metadata::write_refcounts() noexcept {
  if (const int error = refcounts_.write_blocks()) return error;
  if (!refcounts_.table_is_dirty()) return 0;
  if (const int error = container_.barrier()) return error;
  return refcounts_.write_table();
}

int Metadata::commit() noexcept {
  if (damaged_) return EIO;
  // After a failure the file has what the last commit left, and may lack what was to be next.
  if (const int error = container_.syncs().failure()) return error;
  if (!dirty()) return container_.barrier();
  const int error = commit_changes();
  if (error != 0) container_.syncs().fail(error);
  return error;
}

int Metadata::commit_changes() noexcept {
  if (needs_barrier_) {
    if (!lazy()) {
      if (const int error = write_refcounts()) return error;
    }
    if (const int error = container_.barrier()) return error;
  }
  if (const int error = mapping_.write_back()) return error;
  if (const int error = container_.barrier()) return error;
  mapping_.set_clean();
  needs_barrier_ = false;
  waiting_.insert(waiting_.end(), unlinked_.begin(), unlinked_.end());
  unlinked_.clear();
  dirty_.store(false, std::memory_order_release);
  give_up_unlinked();
  return 0;
}

void Metadata::give_up_unlinked() noexcept {
  if (waiting_.empty()) return;
  size_t ready = 0;
  {
    const std::lock_guard guard(mapping_.lock());
    in_flight_.advance();
    while (ready < waiting_.size() && in_flight_.is_over(waiting_[ready].epoch)) ++ready;
  }
  ClusterRun hole;
  const auto punch = [&] {
    if (hole.count == 0 || !options_.punch) return;
    container_.discard(hole.first << geometry().cluster_bits,
                       hole.count << geometry().cluster_bits);
  };
  for (; ready > 0; --ready) {
    const uint64_t cluster = waiting_.front().cluster;
    waiting_.pop_front();
    bool is_free = false;
    // A count that cannot be read stays too high: a leak.
    if (judge(refcounts_.release(cluster, is_free)) != 0 || !is_free) continue;
    refcounts_.reuse(cluster);
    if (hole.first + hole.count != cluster) {
      punch();
      hole = {cluster, 0, false};
    }
    ++hole.count;
  }
  punch();
  // Without a barrier: nothing depends on it.
  if (!lazy()) (void)refcounts_.write_blocks();
}

void Metadata::prepare_size(uint64_t size) {
  const uint64_t entries = l1_entries_for(geometry(), size);
  if (entries <= mapping_.l1_size()) return;
  if (entries > kMaxL1Bytes / sizeof(uint64_t)) {
    throw Error("EFBIG", "qcow2 image: its L1 table would be too large for this size");
  }
  check(begin_change(), "marking the qcow2 image as dirty");
  check(commit(), "flushing the qcow2 image");
  const uint64_t old_entries = mapping_.l1_size();
  const uint64_t old_offset = header_.l1_offset;
  ClusterRun run;
  check(judge(refcounts_.allocate_row(geometry().clusters(entries * sizeof(uint64_t)), run)),
        "making room for a larger L1 table");
  mapping_.resize_l1(entries);
  const uint64_t place = run.first << geometry().cluster_bits;
  int error = mapping_.write_l1(place);
  if (error == 0) error = write_refcounts();
  if (error == 0) error = container_.barrier();
  if (error == 0) {
    header_.l1_offset = place;
    header_.l1_entries = static_cast<uint32_t>(entries);
    error = write_header();
  }
  if (error != 0) {
    header_.l1_offset = old_offset;
    header_.l1_entries = static_cast<uint32_t>(old_entries);
    mapping_.resize_l1(old_entries);
    throw Error::from_errno("writing a larger L1 table", error);
  }
  places_.insert(run.first, run.count);
  const uint64_t old_clusters = geometry().clusters(old_entries * sizeof(uint64_t));
  for (uint64_t i = 0; i < old_clusters; ++i) {
    unlink_cluster((old_offset >> geometry().cluster_bits) + i);
  }
  mark_dirty(false);
}

void Metadata::set_size(uint64_t size) {
  check(commit(), "flushing the qcow2 image");
  const uint64_t old = header_.size;
  header_.size = size;
  if (const int error = write_header()) {
    header_.size = old;
    throw Error::from_errno("writing the qcow2 image's size", error);
  }
}

void Metadata::close() noexcept {
  if (options_.read_only || damaged_ || container_.syncs().failure() != 0) return;
  if (dirty() && commit() != 0) return;
  give_up_unlinked();
  if (write_refcounts() != 0) return;
  if ((header_.incompatible & kDirty) != 0) {
    if (container_.barrier() != 0) return;
    header_.incompatible &= ~kDirty;
    (void)write_header();
  }
  const uint64_t end = std::max(refcounts_.used_end(), mapping_.data_end());
  (void)container_.truncate(std::max(initial_size_, end << geometry().cluster_bits));
}

}  // namespace tsvmm::qcow2
