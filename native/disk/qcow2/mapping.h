#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "disk/container.h"
#include "disk/qcow2/header.h"
#include "disk/qcow2/in_flight.h"
#include "disk/qcow2/metadata_map.h"

namespace tsvmm::qcow2 {

/// An L2 entry.
struct Entry {
  uint64_t word = 0;
  uint64_t bitmap = 0;  ///< with subclusters: low half allocated, high half zero

  [[nodiscard]] bool compressed() const noexcept { return (word & kCompressed) != 0; }
  /// Of a standard cluster; 0 for none.
  [[nodiscard]] uint64_t host() const noexcept { return compressed() ? 0 : word & kOffsetMask; }
  /// Whether the host cluster may be written in place.
  [[nodiscard]] bool owned() const noexcept { return (word & kCopied) != 0 && host() != 0; }
  [[nodiscard]] uint32_t allocated() const noexcept { return static_cast<uint32_t>(bitmap); }
  [[nodiscard]] uint32_t zeroes() const noexcept { return static_cast<uint32_t>(bitmap >> 32); }
  bool operator==(const Entry&) const = default;
};

/// A range of the guest's disk that is kept in one way.
struct Extent {
  enum class Kind : uint8_t {
    kUnallocated,  ///< the backing file has it, or it is zeros
    kZero,
    kData,
    kCompressed,
    kMissing,  ///< not in memory: load() it
    kDamaged,
  };
  Kind kind = Kind::kMissing;
  bool writable = false;  ///< kData: in place
  uint8_t epoch = 0;      ///< to leave afterwards, if the extent was entered
  uint64_t length = 0;    ///< bytes
  uint64_t host = 0;      ///< kData: where; kCompressed: the L2 entry
};

/// Where the guest's data is: the L1 table, and a bounded cache of slices of L2 tables.
///
/// find() may be called by any thread at any time. All else belongs to the one thread that holds
/// the metadata's lock, and changes to the tables are made under this object's own.
class Mapping {
 public:
  Mapping(Container& container, const Header& header, MetadataMap* metadata);

  /// Reads the L1 table. Throws Error.
  void open();

  /// How the disk's bytes from `offset` on are kept, up to `length`. If that is data in the
  /// container, enters `in_flight`.
  [[nodiscard]] Extent find(uint64_t offset, uint64_t length, InFlight& in_flight) noexcept;

  /// Brings the slice that maps `offset` into memory. EBUSY: there is no room before changes have
  /// been written back; EUCLEAN: the image is damaged.
  [[nodiscard]] int load(uint64_t offset) noexcept;

  /// The entry of a cluster whose slice is in memory.
  [[nodiscard]] Entry entry(uint64_t cluster) const noexcept;
  void set_entry(uint64_t cluster, const Entry& entry) noexcept;

  /// Where the host clusters end that entries in memory have named, also beyond the file's end.
  [[nodiscard]] uint64_t data_end() const noexcept { return data_end_; }

  [[nodiscard]] uint64_t l1_size() const noexcept { return l1_.size(); }
  [[nodiscard]] uint64_t l1_index(uint64_t offset) const noexcept {
    return offset >> geometry_.table_span_bits();
  }
  /// An L1 entry, with its flag.
  [[nodiscard]] uint64_t l1(uint64_t index) const noexcept { return l1_[index]; }
  void set_l1(uint64_t index, uint64_t word) noexcept;
  /// Further entries are 0.
  void resize_l1(uint64_t entries);

  [[nodiscard]] bool dirty() const noexcept { return !dirty_slices_.empty() || !dirty_l1_.empty(); }
  /// Writes what has changed, without making it durable.
  [[nodiscard]] int write_back() noexcept;
  /// What write_back() wrote is on stable storage.
  void set_clean() noexcept;
  /// Writes all of the L1 table to another place.
  [[nodiscard]] int write_l1(uint64_t offset) noexcept;

  /// Guards the tables against find(), and `in_flight`.
  [[nodiscard]] std::mutex& lock() noexcept { return lock_; }

 private:
  struct Slice {
    uint64_t index = 0;
    std::unique_ptr<uint64_t[]> words;
    bool dirty = false;
    bool recent = false;
  };

  [[nodiscard]] Slice* slice_at(uint64_t index) const noexcept;
  [[nodiscard]] Extent extent_in(const Slice& slice, uint64_t offset,
                                 uint64_t length) const noexcept;
  [[nodiscard]] Extent granule(const Slice& slice, uint64_t offset) const noexcept;
  [[nodiscard]] int write_l1_piece(uint64_t piece) noexcept;
  [[nodiscard]] bool evict() noexcept;
  [[nodiscard]] bool check(Slice& slice) noexcept;
  [[nodiscard]] bool is_sound(const Entry& entry) const noexcept;
  [[nodiscard]] uint64_t slice_place(uint64_t index) const noexcept;

  Container& container_;
  const Header& header_;
  const Geometry geometry_;
  MetadataMap* const metadata_;  ///< none if the image is only read
  const size_t max_slices_;
  uint64_t data_end_ = 0;  ///< clusters; belongs to who may change tables

  mutable std::mutex lock_;
  std::vector<uint64_t> l1_;
  std::unordered_map<uint64_t, std::unique_ptr<Slice>> slices_;
  mutable Slice* last_ = nullptr;  ///< of slice_at()
  std::vector<Slice*> clock_;      ///< all slices, for eviction
  size_t hand_ = 0;
  std::vector<Slice*> dirty_slices_;
  std::vector<uint64_t> dirty_l1_;  ///< pieces of the L1 table
};

}  // namespace tsvmm::qcow2
