#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "memory/guest_memory.h"

namespace tsvmm {

/// Which small pages of huge ones are in the balloon. Huge ones can be given back as a whole only.
class HugePageTally {
 public:
  HugePageTally(uint64_t small_pages, uint64_t small_in_huge);
  /// A small page goes in. The index of its huge page if that is now complete.
  std::optional<uint64_t> add(uint64_t page) noexcept;
  /// It is the guest's again.
  void remove(uint64_t page) noexcept;

 private:
  const uint64_t small_in_huge_;
  std::vector<uint64_t> inside_;   ///< a bit for each small page
  std::vector<uint32_t> counted_;  ///< bits set, by huge page
};

/// Which pages of guest memory are in the balloon, as far as the host has to know: pages that go in
/// are given back to the host. Belongs to one thread at a time, and allocates nothing after
/// construction but for regions of huge pages that are added to the guest's memory.
class BalloonPages {
 public:
  /// A page of the balloon (virtio 1.2 §5.5.6).
  static constexpr uint64_t kPageSize = 4096;
  /// The most that one inflate() or deflate() takes.
  static constexpr size_t kMaxPages = 256;

  /// `memory` outlives this.
  explicit BalloonPages(const GuestMemory& memory);

  /// The guest gives up the pages with these numbers; those outside RAM are ignored. Reorders
  /// `pages`, of which there are at most kMaxPages. Returns how many bytes the host got.
  uint64_t inflate(std::span<uint32_t> pages) noexcept;
  /// The guest uses them again.
  void deflate(std::span<const uint32_t> pages) noexcept;

 private:
  /// A region whose backing goes by pages larger than the balloon's.
  struct HugeRegion {
    const MemoryRegion* region;
    HugePageTally tally;
  };

  void follow_memory();
  [[nodiscard]] HugeRegion* huge_region(GuestAddress address) noexcept;
  uint64_t inflate_huge(HugeRegion& huge, uint64_t page) noexcept;
  uint64_t inflate_run(GuestAddress address, uint64_t length) noexcept;

  const GuestMemory& memory_;
  size_t known_ = 0;  ///< of memory_.regions(), which only grow
  std::vector<HugeRegion> huge_;
};

}  // namespace tsvmm
