#include "memory/guest_memory.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string>

#include "core/error.h"
#include "memory/reserve.h"

namespace tsvmm {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHugePage = 2U << 20;
/// What is populated at a time, if pages are not larger: a fraction of a second.
constexpr uint64_t kPopulateStep = 64U << 20;

std::string huge_page_size(const MemoryOptions& options) {
  return std::to_string(options.hugepage_size >> 10) + " KiB";
}

Error too_few_huge_pages(const GuestMemory::Range& range, const MemoryOptions& options) {
  return {"ENOMEM", "the host has fewer than " +
                        std::to_string(range.size / options.hugepage_size) +
                        " free huge pages of " + huge_page_size(options) +
                        ": reserve them (/sys/kernel/mm/hugepages, /proc/sys/vm/nr_hugepages), or "
                        "leave hugepages out"};
}

UniqueFd create_backing(uint64_t size, const MemoryOptions& options) {
  unsigned flags = MFD_CLOEXEC;
  if (options.hugepage_size != 0) {
    const auto log2 = static_cast<unsigned>(std::countr_zero(options.hugepage_size));
    flags |= MFD_HUGETLB | log2 << MFD_HUGE_SHIFT;
  }
  const int created = ::memfd_create("guest-ram", flags);
  if (created < 0 && options.hugepage_size != 0 && (errno == ENODEV || errno == EINVAL)) {
    throw Error("ENODEV", "the host has no huge pages of " + huge_page_size(options) +
                              ": /sys/kernel/mm/hugepages lists those that it has");
  }
  UniqueFd file(check_errno(created, "memfd_create for guest memory"));
  check_errno(::ftruncate(file.get(), static_cast<off_t>(size)), "sizing guest memory");
  return file;
}

/// `fd` is -1 for anonymous memory.
uint8_t* map_backing(int fd, const GuestMemory::Range& range, const MemoryOptions& options) {
  int flags = MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
  // Huge pages are always reserved: a guest must not find out by a bus error of ours that there are
  // too few.
  if (!options.reserve && options.hugepage_size == 0) flags |= MAP_NORESERVE;
  uint8_t* host = reserve_aligned(range.size);
  if (::mmap(host, range.size, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
    const int error = errno;
    ::munmap(host, range.size);
    if (options.hugepage_size != 0 && error == ENOMEM) throw too_few_huge_pages(range, options);
    throw Error::from_errno("mapping guest memory", error);
  }
  // All three are advice: a kernel that lacks them still runs the guest correctly.
  if (options.mergeable) ::madvise(host, range.size, MADV_MERGEABLE);
  // The boot data of the first two megabytes is a few small pages, which take less time than
  // clearing a huge one.
  const uint64_t small = range.address == 0 ? std::min(kHugePage, range.size) : 0;
  if (options.thp && options.hugepage_size == 0) {
    ::madvise(host + small, range.size - small, MADV_HUGEPAGE);
  }
  ::madvise(host, range.size, MADV_DONTDUMP);
  return host;
}

/// Makes the pages of a region. After all advice, so that huge pages are what it takes. Kernels
/// before 5.14 lack this, and their guests take their pages one by one.
void populate(const MemoryRegion& region, const Cancellation& cancellation) {
  const uint64_t step = std::max(kPopulateStep, region.page_size);
  for (uint64_t done = 0; done < region.size; done += step) {
    cancellation.check();
    const uint64_t size = std::min(step, region.size - done);
    if (::madvise(region.host + done, size, MADV_POPULATE_WRITE) == 0) continue;
    if (errno == EINVAL) return;
    throw Error::from_errno("populating guest memory", errno);
  }
}

/// Anonymous memory is the only kind that gets transparent huge pages everywhere (for memfds an
/// administrator has to allow them), and a guest of many small pages spends its time in page
/// faults. What other processes are to map, and explicit huge pages, need a descriptor.
bool needs_descriptor(const MemoryOptions& options) {
  return options.shared || options.hugepage_size != 0;
}

}  // namespace

GuestMemory::GuestMemory(const std::vector<Range>& ranges, const MemoryOptions& options,
                         const Cancellation& cancellation) {
  try {
    for (const Range& range : ranges) {
      UniqueFd file;
      if (needs_descriptor(options)) file = create_backing(range.size, options);
      uint8_t* host = map_backing(file.get(), range, options);
      const uint64_t page = options.hugepage_size != 0 ? options.hugepage_size : kPage;
      regions_.push_back({range.address, range.size, file.get(), 0, host, page});
      files_.push_back(std::move(file));
      if (options.prefault) populate(regions_.back(), cancellation);
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
  for (const auto& window : windows_) {
    if (const auto bytes = window->slice(address, length)) return bytes;
  }
  return std::nullopt;
}

MemoryWindow& GuestMemory::add_window(uint8_t* host, uint64_t size, int fd) {
  windows_.push_back(std::make_unique<MemoryWindow>(*this, host, size, fd));
  return *windows_.back();
}

MemoryWindow::MemoryWindow(GuestMemory& memory, uint8_t* host, uint64_t size, int fd)
    : memory_(memory), host_(host), size_(size), fd_(fd) {}

MemoryRegion MemoryWindow::region(GuestAddress address) const {
  return {.address = address,
          .size = size_,
          .fd = fd_,
          .offset = 0,
          .host = host_,
          .page_size = kPage,
          .ram = false};
}

void MemoryWindow::show(GuestAddress address) {
  hide();
  for (MemoryListener* listener : memory_.listeners_) listener->region_added(region(address));
  address_.store(address, std::memory_order_release);
}

void MemoryWindow::hide() noexcept {
  const GuestAddress address = address_.exchange(kHidden, std::memory_order_acq_rel);
  if (address == kHidden) return;
  for (MemoryListener* listener : memory_.listeners_) listener->region_removed(region(address));
}

std::optional<std::span<uint8_t>> MemoryWindow::slice(GuestAddress address,
                                                      uint64_t length) const noexcept {
  const GuestAddress begin = address_.load(std::memory_order_acquire);
  if (begin == kHidden || address < begin || address - begin >= size_) return std::nullopt;
  const uint64_t offset = address - begin;
  if (length > size_ - offset) return std::nullopt;
  return std::span<uint8_t>(host_ + offset, length);
}

uint64_t GuestMemory::discard(const uint8_t* host, uint64_t length) const noexcept {
  for (const MemoryRegion& region : regions_) {
    if (host < region.host || host >= region.host + region.size) continue;
    const auto offset = static_cast<uint64_t>(host - region.host);
    const uint64_t mask = region.page_size - 1;
    const uint64_t begin = (offset + mask) & ~mask;
    const uint64_t end = (offset + std::min(length, region.size - offset)) & ~mask;
    if (begin >= end) return 0;
    const uint64_t size = end - begin;
    // A hole in the file unmaps its pages from every process. Anonymous memory has only our
    // mapping.
    const int result =
        region.fd >= 0
            ? ::fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          static_cast<off_t>(region.offset + begin), static_cast<off_t>(size))
            : ::madvise(region.host + begin, size, MADV_DONTNEED);
    return result == 0 ? size : 0;
  }
  return 0;
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
