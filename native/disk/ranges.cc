#include "disk/ranges.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#include "disk/sync_io.h"

namespace tsvmm {
namespace {

/// How many zeros are written at a time.
constexpr size_t kZeroSize = 256UL * 1024;

bool is_unsupported(int error) {
  return error == EOPNOTSUPP || error == ENOSYS || error == ENODEV || error == ENOTTY;
}

/// Held while the host zeroes or punches what cuts one of its blocks: a write of another part of
/// the block may be reading it, to write it back with what it had.
std::unique_lock<std::mutex> lock_cut_blocks(const ImageFile& file, uint64_t offset,
                                             uint64_t length) {
  std::unique_lock<std::mutex> lock(file.image().partial_blocks(), std::defer_lock);
  const uint64_t mask = file.image().offset_alignment() - 1;
  if (((offset | length) & mask) != 0) lock.lock();
  return lock;
}

int allocate(const ImageFile& file, int mode, uint64_t offset, uint64_t length) {
  const auto lock = lock_cut_blocks(file, offset, length);
  int result;
  do {
    result = ::fallocate(file.fd(), mode | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                         static_cast<off_t>(length));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

/// Block devices want whole logical blocks, of which the range may have none.
int discard_blocks(const ImageFile& file, uint64_t offset, uint64_t length) {
  const uint64_t block = file.image().limits().logical_block_size;
  const uint64_t begin = (offset + block - 1) / block * block;
  const uint64_t end = (offset + length) / block * block;
  if (begin >= end) return 0;
  std::array<uint64_t, 2> range{begin, end - begin};
  int result;
  do {
    result = ::ioctl(file.fd(), BLKDISCARD, range.data());
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

int write_zeros(const ImageFile& file, uint64_t offset, uint64_t length) {
  const size_t alignment = std::max<size_t>({file.image().memory_alignment(), sizeof(void*)});
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  const std::unique_ptr<void, Free> zeros(std::aligned_alloc(alignment, kZeroSize));
  if (!zeros) return ENOMEM;
  std::memset(zeros.get(), 0, kZeroSize);
  while (length != 0) {
    const size_t size = std::min<uint64_t>(length, kZeroSize);
    iovec buffer{zeros.get(), size};
    DiskOperation write{.kind = DiskOperation::Kind::kWrite,
                        .offset = offset,
                        .length = size,
                        .buffers = {&buffer, 1}};
    run_synchronously(file, write);
    if (write.error != 0) return write.error;
    offset += size;
    length -= size;
  }
  return 0;
}

}  // namespace

int discard_range(const ImageFile& file, uint64_t offset, uint64_t length) noexcept {
  const int error = file.image().is_block_device()
                        ? discard_blocks(file, offset, length)
                        : allocate(file, FALLOC_FL_PUNCH_HOLE, offset, length);
  // Nobody may rely on what a discarded range has (virtio 1.2 §5.2.6.2): nothing is lost.
  return is_unsupported(error) ? 0 : error;
}

int zero_range(const ImageFile& file, const DiskOperation& operation) noexcept {
  const uint64_t offset = operation.offset;
  const uint64_t length = operation.length;
  // A hole in a file reads as zeros; in a block device that holds for FALLOC_FL_PUNCH_HOLE too.
  int error =
      operation.may_unmap ? allocate(file, FALLOC_FL_PUNCH_HOLE, offset, length) : EOPNOTSUPP;
  if (error != 0) error = allocate(file, FALLOC_FL_ZERO_RANGE, offset, length);
  // EINVAL: a part of a block device's block.
  return is_unsupported(error) || error == EINVAL ? write_zeros(file, offset, length) : error;
}

}  // namespace tsvmm
