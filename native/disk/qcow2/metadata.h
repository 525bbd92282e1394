#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <mutex>

#include "core/cancellation.h"
#include "disk/container.h"
#include "disk/qcow2/header.h"
#include "disk/qcow2/in_flight.h"
#include "disk/qcow2/mapping.h"
#include "disk/qcow2/metadata_map.h"
#include "disk/qcow2/refcounts.h"

namespace tsvmm::qcow2 {

/// All that an image has besides data, and the order in which changes of it reach the file.
///
/// Changes stay in memory until commit(), which a guest's flush asks for. It writes them in an
/// order that leaves the image consistent wherever it is cut short, up to clusters that are counted
/// but not used:
///
/// 1. data, new L2 tables and refcounts, then a barrier;
/// 2. a changed refcount table, then a barrier;
/// 3. L2 and L1 entries, then a barrier;
/// 4. only now are clusters that have lost their entries given up: refcounts go down, and the
///    clusters may be used for something else.
///
/// With lazy refcounts the first two have the data only; the dirty bit says so.
class Metadata {
 public:
  struct Options {
    bool read_only = false;
    bool punch = true;  ///< give the space of free clusters back to the host
  };

  Metadata(Container& container, const Header& header, Options options);

  /// Reads the tables; a writable image gets its dirty bit honoured. Throws Error.
  void open(const Cancellation& cancellation);
  /// Commits, and leaves the file as short and clean as it can be.
  void close() noexcept;

  [[nodiscard]] const Header& header() const noexcept { return header_; }
  [[nodiscard]] const Geometry& geometry() const noexcept { return header_.geometry; }
  [[nodiscard]] bool read_only() const noexcept { return options_.read_only; }
  /// Any thread. Changes wait for commit(): a flush has to call it.
  [[nodiscard]] bool dirty() const noexcept { return dirty_.load(std::memory_order_acquire); }

  /// Any thread: 0, or EIO if the image must not be changed any more.
  [[nodiscard]] int writable() const noexcept {
    return damaged_.load(std::memory_order_relaxed) ? EIO : 0;
  }
  /// Any thread; enters in_flight() for data. The image must be open.
  [[nodiscard]] Extent find(uint64_t offset, uint64_t length) noexcept {
    return mapping_.find(offset, length, in_flight_);
  }
  [[nodiscard]] InFlight& in_flight() noexcept { return in_flight_; }

  /// Whoever calls any of the following holds it.
  [[nodiscard]] std::mutex& lock() noexcept { return lock_; }

  [[nodiscard]] int load(uint64_t offset) noexcept;
  /// Makes the L2 table that maps `offset` one that may be changed, and loads its slice.
  [[nodiscard]] int own_table(uint64_t offset) noexcept;
  [[nodiscard]] bool has_table(uint64_t offset) const noexcept {
    return (mapping_.l1(mapping_.l1_index(offset)) & kOffsetMask) != 0;
  }
  [[nodiscard]] Entry entry(uint64_t cluster) const noexcept { return mapping_.entry(cluster); }
  /// Of a table that own_table() was called for. What the entry referred to before and does not
  /// any more is given up by and by. `has_data`: it refers to data that has just been written.
  void set_entry(uint64_t cluster, const Entry& entry, bool has_data) noexcept;
  [[nodiscard]] int allocate(uint64_t wanted, ClusterRun& run) noexcept;
  /// Takes back what was allocated and never referred to.
  void cancel(const ClusterRun& run) noexcept;
  /// Makes sure that a data cluster's place, which an image may have put beyond the end, is there.
  [[nodiscard]] int reach(uint64_t host_end) noexcept;

  /// A failure is for good, as it may have left the file without what it said to be there.
  [[nodiscard]] int commit() noexcept;
  /// Grows the L1 table for a disk of `size` bytes. Throws Error.
  void prepare_size(uint64_t size);
  /// Writes the disk's size into the header. Throws Error.
  void set_size(uint64_t size);

 private:
  struct Unlinked {
    uint64_t cluster;
    uint64_t epoch;
  };

  void check_openable() const;
  void collect_places(const Cancellation& cancellation);
  void clear_autoclear();
  [[nodiscard]] int write_header() noexcept;
  [[nodiscard]] int commit_changes() noexcept;
  [[nodiscard]] int begin_change() noexcept;
  void mark_dirty(bool has_data) noexcept;
  void mark_damaged() noexcept;
  [[nodiscard]] int judge(int error) noexcept;
  void unlink(const Entry& entry) noexcept;
  void unlink_cluster(uint64_t cluster) noexcept;
  [[nodiscard]] int write_refcounts() noexcept;
  void give_up_unlinked() noexcept;
  [[nodiscard]] bool lazy() const noexcept {
    return header_.version >= 3 && (header_.compatible & kLazyRefcounts) != 0;
  }

  Container& container_;
  Header header_;
  const Options options_;
  const uint64_t initial_size_;
  MetadataMap places_;
  Mapping mapping_;
  Refcounts refcounts_;
  InFlight in_flight_;

  std::mutex lock_;
  std::atomic<bool> dirty_ = false;
  bool needs_barrier_ = false;  ///< what changed entries refer to may not be durable yet
  std::atomic<bool> damaged_ = false;
  std::deque<Unlinked> unlinked_;  ///< the entries are gone in memory
  std::deque<Unlinked> waiting_;   ///< and in the file; operations may still be on their way
};

}  // namespace tsvmm::qcow2
