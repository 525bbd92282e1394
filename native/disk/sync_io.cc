#include "disk/sync_io.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#include "disk/ranges.h"

namespace tsvmm {
namespace {

/// How much of a misaligned transfer is copied at a time.
constexpr size_t kBounceSize = 256UL * 1024;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Bounce = std::unique_ptr<uint8_t, Free>;

bool is_read(const DiskOperation& operation) {
  return operation.kind == DiskOperation::Kind::kRead;
}

/// One call for as many of the operation's buffers as it takes; the kernel's answer, with EINTR
/// retried.
ssize_t transfer(int fd, const DiskOperation& operation) {
  const auto count = static_cast<int>(std::min(operation.buffers.size(), kMaxBuffersPerCall));
  const auto offset = static_cast<off_t>(operation.offset);
  const int flags = operation.durable ? RWF_DSYNC : 0;
  ssize_t result;
  do {
    result = is_read(operation) ? ::preadv2(fd, operation.buffers.data(), count, offset, 0)
                                : ::pwritev2(fd, operation.buffers.data(), count, offset, flags);
  } while (result < 0 && errno == EINTR);
  return result;
}

/// A write that was to last has failed, which may be the sync in it: then more than this write may
/// be lost.
void note_failed_write(const ImageFile& file, const DiskOperation& operation) {
  if (!operation.durable || is_read(operation)) return;
  if (is_refusal(operation.error)) {
    if (file.image().is_direct()) return;
    // In the page cache a lack of space may show as late as in the sync.
    DiskOperation without_sync = operation;
    without_sync.durable = false;
    if (transfer(file.fd(), without_sync) < 0) return;
  }
  file.image().syncs().fail(operation.error);
}

/// The file's size, or what the image says if that cannot be had.
uint64_t file_size(const ImageFile& file) {
  const off_t end = ::lseek(file.fd(), 0, SEEK_END);
  return end < 0 ? file.image().size() : static_cast<uint64_t>(end);
}

/// Reads or writes an aligned range, as much of it as lies before `end`; 0 or an errno.
int transfer_blocks(const ImageFile& file, DiskOperation::Kind kind, bool durable, uint64_t offset,
                    std::span<uint8_t> bytes, uint64_t end) {
  iovec buffer{bytes.data(), bytes.size()};
  DiskOperation operation{.kind = kind,
                          .durable = durable,
                          .offset = offset,
                          .length = bytes.size(),
                          .buffers = {&buffer, 1}};
  while (operation.length != 0 && operation.offset < end) {
    const ssize_t result = transfer(file.fd(), operation);
    if (result < 0) {
      operation.error = errno;
      note_failed_write(file, operation);
      return operation.error;
    }
    if (result == 0) return EIO;
    advance(operation, static_cast<size_t>(result));
  }
  return 0;
}

/// Reads the whole blocks that a piece lies in. Behind the end of the file, where `needed` bytes
/// must not reach, there are zeros.
int read_blocks(const ImageFile& file, uint64_t start, std::span<uint8_t> blocks, size_t needed) {
  const uint64_t end = file_size(file);
  const size_t present = start < end ? std::min<uint64_t>(blocks.size(), end - start) : 0;
  if (present < needed) return EIO;
  std::ranges::fill(blocks.subspan(present), uint8_t{0});
  return transfer_blocks(file, DiskOperation::Kind::kRead, false, start, blocks, end);
}

/// Writes the whole blocks that a piece of the operation lies in, up to `wanted`. What makes the
/// file longer than that is cut off again.
int write_blocks(const ImageFile& file, bool durable, uint64_t start, std::span<uint8_t> blocks,
                 uint64_t wanted) {
  const uint64_t end = std::max(file_size(file), wanted);
  const uint64_t covered = start + blocks.size();
  const int error =
      transfer_blocks(file, DiskOperation::Kind::kWrite, durable, start, blocks, covered);
  if (error != 0 || covered <= end) return error;
  return change_file_size(file.fd(), end);
}

/// Moves bytes between the operation's buffers and `bytes`, and takes them off the operation.
void copy(DiskOperation& operation, std::span<uint8_t> bytes) {
  while (!bytes.empty()) {
    const iovec& front = operation.buffers.front();
    const size_t size = std::min(front.iov_len, bytes.size());
    if (is_read(operation)) {
      std::memcpy(front.iov_base, bytes.data(), size);
    } else {
      std::memcpy(bytes.data(), front.iov_base, size);
    }
    bytes = bytes.subspan(size);
    advance(operation, size);
  }
}

/// Does the next piece of a misaligned operation through `bounce`; 0 or an errno.
int bounce_piece(const ImageFile& file, DiskOperation& operation, uint8_t* bounce) {
  const uint64_t alignment = file.image().offset_alignment();
  const uint64_t start = operation.offset & ~(alignment - 1);
  const size_t skip = operation.offset - start;
  const size_t size = std::min<uint64_t>(operation.length, kBounceSize - skip);
  const size_t covered = (skip + size + alignment - 1) & ~(alignment - 1);
  const std::span<uint8_t> blocks(bounce, covered);
  const bool partial = covered != size;

  if (is_read(operation)) {
    const int error = read_blocks(file, start, blocks, skip + size);
    if (error == 0) copy(operation, blocks.subspan(skip, size));
    return error;
  }
  const uint64_t wanted = operation.offset + size;
  std::unique_lock<std::mutex> lock(file.image().partial_blocks(), std::defer_lock);
  if (partial) {
    lock.lock();
    const int error = read_blocks(file, start, blocks, 0);
    if (error != 0) return error;
  }
  copy(operation, blocks.subspan(skip, size));
  return write_blocks(file, operation.durable, start, blocks, wanted);
}

int bounce_all(const ImageFile& file, DiskOperation& operation) {
  const size_t alignment = std::max<size_t>(
      {file.image().offset_alignment(), file.image().memory_alignment(), sizeof(void*)});
  const Bounce bounce(static_cast<uint8_t*>(std::aligned_alloc(alignment, kBounceSize)));
  if (!bounce) return ENOMEM;
  while (operation.length != 0) {
    const int error = bounce_piece(file, operation, bounce.get());
    if (error != 0) return error;
  }
  return 0;
}

void run_transfer(const ImageFile& file, DiskOperation& operation) {
  while (operation.length != 0) {
    if (!is_aligned(file, operation)) {
      operation.error = bounce_all(file, operation);
      return;
    }
    const ssize_t result = transfer(file.fd(), operation);
    // The guest sees a disk of fixed size, so an end of file inside it is an error (the file was
    // truncated).
    if (result <= 0) {
      operation.error = result < 0 ? errno : EIO;
      if (result < 0) note_failed_write(file, operation);
      return;
    }
    advance(operation, static_cast<size_t>(result));
  }
  operation.error = 0;
}

}  // namespace

bool is_aligned(const ImageFile& file, const DiskOperation& operation) noexcept {
  if (file.image().offset_alignment() == 1) return true;
  const uint64_t offset_mask = file.image().offset_alignment() - 1;
  const uint64_t memory_mask = file.image().memory_alignment() - 1;
  if ((operation.offset & offset_mask) != 0) return false;
  return std::ranges::all_of(operation.buffers, [=](const iovec& buffer) {
    return (reinterpret_cast<uintptr_t>(buffer.iov_base) & memory_mask) == 0 &&
           (buffer.iov_len & offset_mask) == 0;
  });
}

void advance(DiskOperation& operation, size_t bytes) noexcept {
  operation.offset += bytes;
  operation.length -= bytes;
  while (bytes != 0) {
    iovec& front = operation.buffers.front();
    const size_t taken = std::min(bytes, front.iov_len);
    front.iov_base = static_cast<uint8_t*>(front.iov_base) + taken;
    front.iov_len -= taken;
    bytes -= taken;
    if (front.iov_len == 0) operation.buffers = operation.buffers.subspan(1);
  }
}

bool read_without_waiting(const ImageFile& file, DiskOperation& operation) noexcept {
  if (operation.buffers.size() > kMaxBuffersPerCall) return false;
  const ssize_t result =
      ::preadv2(file.fd(), operation.buffers.data(), static_cast<int>(operation.buffers.size()),
                static_cast<off_t>(operation.offset), RWF_NOWAIT);
  if (result < 0 || static_cast<uint64_t>(result) != operation.length) return false;
  operation.length = 0;
  operation.error = 0;
  return true;
}

int sync_file(const ImageFile& file) noexcept {
  SyncRecord& syncs = file.image().syncs();
  if (const int error = syncs.failure()) return error;
  int result;
  do {
    result = ::fdatasync(file.fd());
  } while (result != 0 && errno == EINTR);
  return syncs.judge(result == 0 ? 0 : errno);
}

void run_synchronously(const ImageFile& file, DiskOperation& operation) noexcept {
  if (operation.durable) {
    operation.error = file.image().syncs().failure();
    if (operation.error != 0) return;
  }
  switch (operation.kind) {
    case DiskOperation::Kind::kRead:
    case DiskOperation::Kind::kWrite:
      return run_transfer(file, operation);
    case DiskOperation::Kind::kFlush:
      operation.error = sync_file(file);
      return;
    case DiskOperation::Kind::kDiscard:
      operation.error = discard_range(file, operation.offset, operation.length);
      break;
    case DiskOperation::Kind::kWriteZeroes:
      operation.error = zero_range(file, operation);
      break;
  }
  if (operation.error == 0 && operation.durable) operation.error = sync_file(file);
}

void finish_flush(const ImageFile& file, DiskOperation& operation, int64_t result) noexcept {
  if (result == -EINTR || result == -EAGAIN) return run_synchronously(file, operation);
  operation.error = file.image().syncs().judge(result < 0 ? static_cast<int>(-result) : 0);
}

void finish_transfer(const ImageFile& file, DiskOperation& operation, int64_t result) noexcept {
  if (result > 0) {
    advance(operation, static_cast<size_t>(result));
    if (operation.length == 0) return;
  }
  // EINVAL may stand for an opcode or flag that this kernel lacks; a real error repeats itself
  // below.
  const bool again = result > 0 || result == -EINTR || result == -EAGAIN || result == -EINVAL ||
                     result == -EOPNOTSUPP;
  if (again) {
    run_synchronously(file, operation);
  } else {
    operation.error = result < 0 ? static_cast<int>(-result) : EIO;
    note_failed_write(file, operation);
  }
}

}  // namespace tsvmm
