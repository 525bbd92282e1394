#include "disk/sync_io.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

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

/// Reads or writes all of an aligned range; 0 or an errno. The image may end inside the last block.
int transfer_blocks(const RawImage& image, DiskOperation::Kind kind, bool durable, uint64_t offset,
                    std::span<uint8_t> bytes) {
  iovec buffer{bytes.data(), bytes.size()};
  DiskOperation operation{.kind = kind,
                          .durable = durable,
                          .offset = offset,
                          .length = bytes.size(),
                          .buffers = {&buffer, 1}};
  while (operation.length != 0 && operation.offset < image.size()) {
    const ssize_t result = transfer(image.fd(), operation);
    if (result < 0) return errno;
    if (result == 0) return EIO;
    advance(operation, static_cast<size_t>(result));
  }
  return 0;
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
int bounce_piece(const RawImage& image, DiskOperation& operation, uint8_t* bounce) {
  const uint64_t alignment = image.offset_alignment();
  const uint64_t start = operation.offset & ~(alignment - 1);
  const size_t skip = operation.offset - start;
  const size_t size = std::min<uint64_t>(operation.length, kBounceSize - skip);
  const size_t covered = (skip + size + alignment - 1) & ~(alignment - 1);
  const std::span<uint8_t> blocks(bounce, covered);
  const bool partial = covered != size;

  std::unique_lock<std::mutex> lock(image.partial_blocks(), std::defer_lock);
  if (partial && !is_read(operation)) lock.lock();
  if (is_read(operation) || partial) {
    const int error = transfer_blocks(image, DiskOperation::Kind::kRead, false, start, blocks);
    if (error != 0) return error;
  }
  copy(operation, blocks.subspan(skip, size));
  if (is_read(operation)) return 0;
  const int error = transfer_blocks(image, operation.kind, operation.durable, start, blocks);
  // A whole block written over the end of a file has made it longer.
  if (error == 0 && start + covered > image.size()) {
    return ::ftruncate(image.fd(), static_cast<off_t>(image.size())) == 0 ? 0 : errno;
  }
  return error;
}

int bounce_all(const RawImage& image, DiskOperation& operation) {
  const size_t alignment =
      std::max<size_t>({image.offset_alignment(), image.memory_alignment(), sizeof(void*)});
  const Bounce bounce(static_cast<uint8_t*>(std::aligned_alloc(alignment, kBounceSize)));
  if (!bounce) return ENOMEM;
  while (operation.length != 0) {
    const int error = bounce_piece(image, operation, bounce.get());
    if (error != 0) return error;
  }
  return 0;
}

}  // namespace

bool is_aligned(const RawImage& image, const DiskOperation& operation) noexcept {
  if (image.offset_alignment() == 1) return true;
  const uint64_t offset_mask = image.offset_alignment() - 1;
  const uint64_t memory_mask = image.memory_alignment() - 1;
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

void run_synchronously(const RawImage& image, DiskOperation& operation) noexcept {
  if (operation.kind == DiskOperation::Kind::kFlush) {
    operation.error = ::fdatasync(image.fd()) == 0 ? 0 : errno;
    return;
  }
  while (operation.length != 0) {
    if (!is_aligned(image, operation)) {
      operation.error = bounce_all(image, operation);
      return;
    }
    const ssize_t result = transfer(image.fd(), operation);
    // The guest sees a disk of fixed size, so an end of file inside it is an error (the file was
    // truncated).
    if (result <= 0) {
      operation.error = result < 0 ? errno : EIO;
      return;
    }
    advance(operation, static_cast<size_t>(result));
  }
  operation.error = 0;
}

}  // namespace tsvmm
