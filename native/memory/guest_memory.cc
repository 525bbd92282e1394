#include "memory/guest_memory.h"

#include <linux/memfd.h>
#include <sys/mman.h>

#include <bit>
#include <cerrno>

#include "core/error.h"

namespace tsvmm {
namespace {

UniqueFd create_backing(uint64_t size, const MemoryOptions& options) {
  unsigned flags = MFD_CLOEXEC;
  if (options.hugepage_size != 0) {
    const auto log2 = static_cast<unsigned>(std::countr_zero(options.hugepage_size));
    flags |= MFD_HUGETLB | log2 << MFD_HUGE_SHIFT;
  }
  UniqueFd file(check_errno(::memfd_create("guest-ram", flags), "memfd_create for guest memory"));
  check_errno(::ftruncate(file.get(), static_cast<off_t>(size)), "sizing guest memory");
  return file;
}

uint8_t* map_backing(int fd, uint64_t size, const MemoryOptions& options) {
  // Always a shared mapping of the memfd: a private one would leave the descriptor without the
  // guest's writes and cost a page-cache page beside each anonymous one. "shared" in the options
  // only tells whether the descriptor may leave us.
  int flags = MAP_SHARED;
  if (!options.reserve) flags |= MAP_NORESERVE;
  if (options.prefault) flags |= MAP_POPULATE;
  void* host = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (host == MAP_FAILED) throw Error::from_errno("mapping guest memory", errno);
  // All three are advice: a kernel that lacks them still runs the guest correctly.
  if (options.mergeable) ::madvise(host, size, MADV_MERGEABLE);
  if (options.thp && options.hugepage_size == 0) ::madvise(host, size, MADV_HUGEPAGE);
  ::madvise(host, size, MADV_DONTDUMP);
  return static_cast<uint8_t*>(host);
}

}  // namespace

GuestMemory::GuestMemory(const std::vector<Range>& ranges, const MemoryOptions& options) {
  try {
    for (const Range& range : ranges) {
      UniqueFd file = create_backing(range.size, options);
      uint8_t* host = map_backing(file.get(), range.size, options);
      regions_.push_back({range.address, range.size, file.get(), 0, host});
      files_.push_back(std::move(file));
    }
  } catch (...) {
    for (const MemoryRegion& region : regions_) ::munmap(region.host, region.size);
    throw;
  }
}

GuestMemory::~GuestMemory() {
  for (const MemoryRegion& region : regions_) {
    for (MemoryListener* listener : listeners_) listener->region_removed(region);
    ::munmap(region.host, region.size);
  }
}

void GuestMemory::add_listener(MemoryListener& listener) {
  listeners_.push_back(&listener);
  for (const MemoryRegion& region : regions_) listener.region_added(region);
}

void GuestMemory::remove_listener(MemoryListener& listener) { std::erase(listeners_, &listener); }

std::optional<std::span<uint8_t>> GuestMemory::slice(GuestAddress address,
                                                     uint64_t length) const noexcept {
  for (const MemoryRegion& region : regions_) {
    if (address < region.address) break;
    const uint64_t offset = address - region.address;
    if (offset >= region.size) continue;
    if (length > region.size - offset) return std::nullopt;
    return std::span<uint8_t>(region.host + offset, length);
  }
  return std::nullopt;
}

bool GuestMemory::read(GuestAddress address, std::span<uint8_t> into) const noexcept {
  const auto bytes = slice(address, into.size());
  if (!bytes) return false;
  std::memcpy(into.data(), bytes->data(), into.size());
  return true;
}

bool GuestMemory::write(GuestAddress address, std::span<const uint8_t> from) const noexcept {
  const auto bytes = slice(address, from.size());
  if (!bytes) return false;
  std::memcpy(bytes->data(), from.data(), from.size());
  return true;
}

}  // namespace tsvmm
