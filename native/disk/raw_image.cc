#include "disk/raw_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "core/error.h"

namespace tsvmm {
namespace {

constexpr uint32_t kSector = 512;

}  // namespace

RawImage::RawImage(int fd, bool direct) : fd_(UniqueFd::duplicate(fd)), direct_(direct) {
  struct stat info {};
  check_errno(::fstat(fd_.get(), &info), "reading the disk image's attributes");
  if (S_ISBLK(info.st_mode)) {
    read_block_device();
  } else if (S_ISREG(info.st_mode)) {
    size_ = static_cast<uint64_t>(info.st_size);
    resizable_ = true;
  } else {
    throw Error("EINVAL", "a disk image must be a regular file or a block device");
  }
  if (direct) read_direct_alignment();
}

void RawImage::read_block_device() {
  uint64_t size = 0;
  check_errno(::ioctl(fd_.get(), BLKGETSIZE64, &size), "reading the block device's size");
  size_ = size;
  int logical = 0;
  unsigned physical = 0;
  check_errno(::ioctl(fd_.get(), BLKSSZGET, &logical), "reading the block device's sector size");
  logical_block_size_ = std::max<uint32_t>(static_cast<uint32_t>(logical), kSector);
  const bool known = ::ioctl(fd_.get(), BLKPBSZGET, &physical) == 0;
  physical_block_size_ = std::max(logical_block_size_, known ? physical : 0U);
}

void RawImage::read_direct_alignment() {
  // What direct I/O needs where the kernel does not tell (before 6.1): the sector size of most
  // disks.
  offset_alignment_ = logical_block_size_;
  memory_alignment_ = logical_block_size_;
#ifdef STATX_DIOALIGN
  struct statx info {};
  if (::statx(fd_.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN) != 0 && std::has_single_bit(info.stx_dio_offset_align) &&
      std::has_single_bit(info.stx_dio_mem_align)) {
    offset_alignment_ = info.stx_dio_offset_align;
    memory_alignment_ = info.stx_dio_mem_align;
  }
#endif
  // A file's logical block stays a sector, as partition tables inside it count in those; the guest
  // is told to prefer more.
  physical_block_size_ = std::max(physical_block_size_, offset_alignment_);
}

DiskLimits RawImage::limits() const noexcept {
  return {.logical_block_size = logical_block_size_, .physical_block_size = physical_block_size_};
}

std::unique_ptr<DiskQueue> RawImage::make_queue(uint16_t depth) {
  return make_disk_queue(*this, depth);
}

void RawImage::resize(uint64_t bytes) {
  if (!resizable_) throw Error("ENOTSUP", "the size of a block device is its own");
  if (bytes % kSector != 0) throw Error("EINVAL", "a disk's size must be a multiple of 512 bytes");
  // What the guest sees must never be more than there is.
  if (bytes < size_) size_.store(bytes, std::memory_order_release);
  check_errno(::ftruncate(fd_.get(), static_cast<off_t>(bytes)), "resizing the disk image");
  size_.store(bytes, std::memory_order_release);
}

bool RawImage::reads_without_waiting() const noexcept {
  uint8_t byte = 0;
  const iovec buffer{.iov_base = &byte, .iov_len = 1};
  return ::preadv2(fd_.get(), &buffer, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

}  // namespace tsvmm
