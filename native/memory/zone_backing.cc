#include "memory/zone_backing.h"

#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string>
#include <vector>

#include "core/error.h"
#include "memory/page_size.h"

namespace tsvmm {
namespace {

/// What is populated at a time, if pages are not larger: a fraction of a second.
constexpr uint64_t kPopulateStep = 64U << 20;

std::string huge_page_size(const MemoryOptions& options) {
  return std::to_string(options.hugepage_size >> 10) + " KiB";
}

std::string in_mib(uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

std::string fewer_huge_pages(uint64_t size, const MemoryOptions& options) {
  return " has fewer than " + std::to_string(size / options.hugepage_size) +
         " free huge pages of " + huge_page_size(options);
}

Error too_few_huge_pages(uint64_t size, const MemoryOptions& options) {
  return {"ENOMEM", "the host" + fewer_huge_pages(size, options) +
                        ", or a hugetlbfs mount or control group (hugetlb.max) limits them: "
                        "reserve them (/sys/kernel/mm/hugepages, /proc/sys/vm/nr_hugepages), or "
                        "leave hugepages out"};
}

Error too_few_huge_pages_on_node(uint64_t size, const MemoryOptions& options) {
  const std::string node = "node" + std::to_string(*options.host_node);
  return {"ENOMEM", "the host's NUMA " + node + fewer_huge_pages(size, options) +
                        ": reserve them (/sys/devices/system/node/" + node +
                        "/hugepages), or leave hugepages or host_numa_node out"};
}

Error too_little_memory(uint64_t size) {
  return {"ENOMEM", "the host lacks memory to populate " + in_mib(size) +
                        " of guest memory: free some, raise the limit of the control group "
                        "(memory.max) if there is one, or choose a smaller size"};
}

Error file_system_full(const BackingPiece& piece, const struct statfs& system) {
  const auto block = static_cast<uint64_t>(system.f_bsize);
  return {"ENOSPC", "the file of guest memory cannot have the " + in_mib(piece.size) +
                        " that are to be populated: its file system, of " +
                        in_mib(system.f_blocks * block) + ", has " +
                        in_mib(system.f_bavail * block) +
                        " left; enlarge it (a tmpfs: mount -o remount,size=), free space in it, "
                        "or choose a smaller size"};
}

/// The kernel says EFAULT where an access would end in SIGBUS, and not why that is.
Error population_error(const BackingPiece& piece, const MemoryOptions& options, int error) {
  if (error == ENOMEM) return too_little_memory(piece.size);
  if (error == EFAULT && options.hugepage_size != 0) {
    return options.host_node ? too_few_huge_pages_on_node(piece.size, options)
                             : too_few_huge_pages(piece.size, options);
  }
  struct statfs system {};
  // What the kernel mounts for itself, for memfds, has no size.
  const bool is_limited =
      piece.fd >= 0 && ::fstatfs(piece.fd, &system) == 0 && system.f_blocks != 0;
  if (error == EFAULT && is_limited) return file_system_full(piece, system);
  return Error::from_errno("populating guest memory", error);
}

/// Memory comes from that node and no other. Only a kernel without NUMA, which has one node, may
/// know nothing of it.
void bind_to_node(const BackingPiece& piece, uint32_t node) {
  constexpr unsigned kWordBits = 64;
  std::vector<unsigned long> nodes(node / kWordBits + 1);
  nodes.back() = 1UL << (node % kWordBits);
  // The kernel counts one bit less than it is told.
  const unsigned long bits = nodes.size() * kWordBits + 1;
  if (::syscall(SYS_mbind, piece.host, piece.size, MPOL_BIND, nodes.data(), bits, 0UL) == 0) return;
  if (errno == ENOSYS && node == 0) return;
  const int error = errno;
  if (error == EINVAL || error == ENOSYS) {
    throw Error("ENODEV", "the host has no NUMA node " + std::to_string(node) +
                              ": /sys/devices/system/node lists those that it has");
  }
  throw Error::from_errno("binding guest memory to a NUMA node", error);
}

}  // namespace

/// Anonymous memory is the only kind that gets transparent huge pages everywhere (for memfds an
/// administrator has to allow them), and a guest of many small pages spends its time in page
/// faults. What other processes are to map, and explicit huge pages, need a descriptor.
bool needs_descriptor(const MemoryOptions& options) noexcept {
  return options.shared || options.hugepage_size != 0;
}

uint64_t page_size_of(const MemoryOptions& options) noexcept {
  return options.hugepage_size != 0 ? options.hugepage_size : kHostPageSize;
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

void check_backing(int fd, uint64_t size, const MemoryOptions& options) {
  struct stat status {};
  struct statfs system {};
  check_errno(::fstat(fd, &status), "looking at the file of guest memory");
  check_errno(::fstatfs(fd, &system), "looking at the file of guest memory");
  if (static_cast<uint64_t>(status.st_size) < size) {
    throw Error("EINVAL", "the file of guest memory has " + std::to_string(status.st_size) +
                              " bytes, and the guest is to have " + std::to_string(size) +
                              " of it");
  }
  const auto block = static_cast<uint64_t>(system.f_bsize);
  if (system.f_type == HUGETLBFS_MAGIC && block != options.hugepage_size) {
    throw Error("EINVAL", "the file of guest memory has huge pages of " + std::to_string(block) +
                              " bytes: hugepages and hugepage_size must say so");
  }
}

void map_backing(const BackingPiece& piece, const MemoryOptions& options) {
  const auto& [host, size, fd, copy_on_write, offset, small, later] = piece;
  int flags = MAP_FIXED | (fd < 0 || copy_on_write ? MAP_PRIVATE : MAP_SHARED);
  if (fd < 0) flags |= MAP_ANONYMOUS;
  // Huge pages are always reserved: a guest must not find out by a bus error of ours that there are
  // too few.
  if (later || (!options.reserve && options.hugepage_size == 0)) flags |= MAP_NORESERVE;
  if (::mmap(host, size, PROT_READ | PROT_WRITE, flags, fd, static_cast<off_t>(offset)) ==
      MAP_FAILED) {
    const int error = errno;
    if (options.hugepage_size != 0 && error == ENOMEM) throw too_few_huge_pages(size, options);
    throw Error::from_errno("mapping guest memory", error);
  }
  if (options.host_node) bind_to_node(piece, *options.host_node);
  // All three are advice: a kernel that lacks them still runs the guest correctly.
  if (options.mergeable) ::madvise(host, size, MADV_MERGEABLE);
  if (options.thp && options.hugepage_size == 0) {
    ::madvise(host + small, size - small, MADV_HUGEPAGE);
  }
  ::madvise(host, size, MADV_DONTDUMP);
}

void unmap_backing(const BackingPiece& piece) noexcept {
  (void)::mmap(piece.host, piece.size, PROT_NONE,
               MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

void populate(const BackingPiece& piece, const MemoryOptions& options,
              const Cancellation& cancellation) {
  const uint64_t step = std::max(kPopulateStep, page_size_of(options));
  for (uint64_t done = 0; done < piece.size; done += step) {
    cancellation.check();
    const uint64_t length = std::min(step, piece.size - done);
    if (::madvise(piece.host + done, length, MADV_POPULATE_WRITE) == 0) continue;
    if (errno == EINVAL) return;
    throw population_error(piece, options, errno);
  }
}

}  // namespace tsvmm
