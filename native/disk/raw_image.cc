#include "disk/raw_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <string>

#include "core/error.h"

namespace tsvmm {
namespace {

constexpr uint32_t kSector = 512;
/// A larger granularity is ignored: hardly any discarded range would be that large and aligned.
constexpr uint64_t kLargestGranularity = 1UL << 30;

bool is_in_tmpfs(int fd) {
  struct statfs info {};
  return ::fstatfs(fd, &info) == 0 && info.f_type == TMPFS_MAGIC;
}

/// `value` if it is a power of two from `least` on, else `least`.
uint32_t power_of_two_or(uint64_t value, uint32_t least) {
  const bool fits = value >= least && value <= kLargestGranularity && std::has_single_bit(value);
  return fits ? static_cast<uint32_t>(value) : least;
}

/// A number from a file of sysfs; 0 if there is none.
uint64_t read_number(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 24> text{};
  const ssize_t size = file.valid() ? ::read(file.get(), text.data(), text.size()) : 0;
  uint64_t number = 0;
  if (size > 0) std::from_chars(text.data(), text.data() + size, number);
  return number;
}

}  // namespace

int change_file_size(int fd, uint64_t bytes) noexcept {
  int result;
  do {
    result = ::ftruncate(fd, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

RawImage::RawImage(int fd, bool direct, DiskEngines engines)
    : fd_(UniqueFd::duplicate(fd)), direct_(direct), engines_(engines) {
  struct stat info {};
  check_errno(::fstat(fd_.get(), &info), "reading the disk image's attributes");
  if (S_ISBLK(info.st_mode)) {
    block_device_ = true;
    read_block_device();
    read_discard_limits(info.st_rdev);
  } else if (S_ISREG(info.st_mode)) {
    size_ = static_cast<uint64_t>(info.st_size);
    in_memory_ = is_in_tmpfs(fd_.get());
    // A file system without holes says so when one is asked for, and nothing is lost then.
    discard_granularity_ = power_of_two_or(static_cast<uint64_t>(info.st_blksize), kSector);
  } else {
    throw Error("EINVAL", "a disk image must be a regular file or a block device");
  }
  if (direct) read_direct_alignment();
}

uint64_t RawImage::block_device_size() const {
  uint64_t size = 0;
  check_errno(::ioctl(fd_.get(), BLKGETSIZE64, &size), "reading the block device's size");
  return size;
}

void RawImage::read_block_device() {
  size_ = block_device_size();
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

void RawImage::read_discard_limits(dev_t device) {
  const std::string folder =
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  // A partition's queue is its disk's.
  for (const char* queue : {"/queue/", "/../queue/"}) {
    if (read_number(folder + queue + "discard_max_bytes") == 0) continue;
    const uint64_t granularity = read_number(folder + queue + "discard_granularity");
    discard_granularity_ = power_of_two_or(granularity, logical_block_size_);
    return;
  }
}

DiskLimits RawImage::limits() const noexcept {
  return {.logical_block_size = logical_block_size_,
          .physical_block_size = physical_block_size_,
          .discard_granularity = discard_granularity_,
          .can_write_zeroes = true};
}

std::unique_ptr<DiskQueue> RawImage::make_queue(uint16_t depth) {
  return make_disk_queue(*this, depth);
}

void RawImage::resize(uint64_t bytes) {
  if (block_device_) {
    const uint64_t there = look_at_block_device();
    if (bytes == there) return;
    throw Error("EINVAL", "the block device has " + std::to_string(there) +
                              " bytes: give it its new size on the host first");
  }
  if (bytes % kSector != 0) throw Error("EINVAL", "a disk's size must be a multiple of 512 bytes");
  if (const int error = set_size(bytes)) throw Error::from_errno("resizing the disk image", error);
}

uint64_t RawImage::look_at_block_device() {
  const uint64_t bytes = block_device_size();
  size_.store(bytes, std::memory_order_release);
  return bytes;
}

int RawImage::set_size(uint64_t bytes) noexcept {
  const std::lock_guard lock(partial_blocks_);
  const uint64_t before = size_;
  // What the guest sees must never be more than there is.
  if (bytes < before) size_.store(bytes, std::memory_order_release);
  const int error = change_file_size(fd_.get(), bytes);
  size_.store(error == 0 ? bytes : before, std::memory_order_release);
  return error;
}

bool RawImage::reads_without_waiting() const noexcept {
  uint8_t byte = 0;
  const iovec buffer{.iov_base = &byte, .iov_len = 1};
  return ::preadv2(fd_.get(), &buffer, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

}  // namespace tsvmm
