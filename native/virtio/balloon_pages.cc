#include "virtio/balloon_pages.h"

#include <algorithm>
#include <new>

namespace tsvmm {
namespace {

constexpr uint64_t kWordBits = 64;

uint64_t address_of(uint32_t page) { return uint64_t{page} * BalloonPages::kPageSize; }

}  // namespace

HugePageTally::HugePageTally(uint64_t small_pages, uint64_t small_in_huge)
    : small_in_huge_(small_in_huge),
      inside_((small_pages + kWordBits - 1) / kWordBits),
      counted_((small_pages + small_in_huge - 1) / small_in_huge) {}

std::optional<uint64_t> HugePageTally::add(uint64_t page) noexcept {
  const uint64_t bit = uint64_t{1} << page % kWordBits;
  uint64_t& word = inside_[page / kWordBits];
  if ((word & bit) != 0) return std::nullopt;
  word |= bit;
  const uint64_t index = page / small_in_huge_;
  if (++counted_[index] != small_in_huge_) return std::nullopt;
  return index;
}

void HugePageTally::remove(uint64_t page) noexcept {
  const uint64_t bit = uint64_t{1} << page % kWordBits;
  uint64_t& word = inside_[page / kWordBits];
  if ((word & bit) == 0) return;
  word &= ~bit;
  --counted_[page / small_in_huge_];
}

BalloonPages::BalloonPages(const GuestMemory& memory) : memory_(memory) { follow_memory(); }

void BalloonPages::follow_memory() {
  for (const MemoryRegion& region : memory_.regions().subspan(known_)) {
    if (region.page_size > kPageSize) {
      huge_.push_back({&region, {region.size / kPageSize, region.page_size / kPageSize}});
    }
    ++known_;
  }
}

BalloonPages::HugeRegion* BalloonPages::huge_region(GuestAddress address) noexcept {
  for (HugeRegion& huge : huge_) {
    if (address >= huge.region->address && address - huge.region->address < huge.region->size) {
      return &huge;
    }
  }
  return nullptr;
}

uint64_t BalloonPages::inflate(std::span<uint32_t> pages) noexcept {
  try {
    follow_memory();
  } catch (const std::bad_alloc&) {
    return 0;  // the pages stay with the guest, which may have them back at any time
  }
  // One call of the system for neighbours, in whatever order the guest found them.
  std::ranges::sort(pages);
  uint64_t freed = 0;
  GuestAddress run = 0;
  uint64_t length = 0;
  for (const uint32_t page : pages) {
    const GuestAddress address = address_of(page);
    if (HugeRegion* huge = huge_region(address)) {
      freed += inflate_huge(*huge, (address - huge->region->address) / kPageSize);
      continue;
    }
    if (!memory_.slice(address, kPageSize)) continue;
    if (length != 0 && address < run + length) continue;  // named twice
    if (length != 0 && address == run + length) {
      length += kPageSize;
      continue;
    }
    freed += inflate_run(run, length);
    run = address;
    length = kPageSize;
  }
  return freed + inflate_run(run, length);
}

uint64_t BalloonPages::inflate_run(GuestAddress address, uint64_t length) noexcept {
  // A run may go on in the next region, which is mapped elsewhere.
  uint64_t freed = 0;
  for (const MemoryRegion& region : memory_.regions()) {
    const GuestAddress begin = std::max(address, region.address);
    const GuestAddress end = std::min(address + length, region.address + region.size);
    if (begin < end) freed += memory_.discard(region.host + (begin - region.address), end - begin);
  }
  return freed;
}

uint64_t BalloonPages::inflate_huge(HugeRegion& huge, uint64_t page) noexcept {
  const auto complete = huge.tally.add(page);
  if (!complete) return 0;
  const uint64_t size = huge.region->page_size;
  return memory_.discard(huge.region->host + *complete * size, size);
}

void BalloonPages::deflate(std::span<const uint32_t> pages) noexcept {
  if (huge_.empty()) return;  // Other memory comes back by itself when it is touched.
  for (const uint32_t page : pages) {
    HugeRegion* huge = huge_region(address_of(page));
    if (huge != nullptr) huge->tally.remove((address_of(page) - huge->region->address) / kPageSize);
  }
}

}  // namespace tsvmm
