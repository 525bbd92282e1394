#include "disk/uring_queue.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "disk/sync_io.h"

namespace tsvmm {
namespace {

/// What a transfer's 32-bit result can count.
constexpr uint64_t kMaxSingle = 0x7ffff000;

}  // namespace

UringDiskQueue::UringDiskQueue(const RawImage& image, std::unique_ptr<IoUring> ring, uint16_t depth)
    : file_(image),
      ring_(std::move(ring)),
      cached_(!image.is_direct()),
      registered_(ring_->register_file(file_.fd())),
      completed_(depth) {}

void UringDiskQueue::start(DiskOperation& operation) noexcept {
  if (!suits_ring(operation)) return run_here(operation);
  if (alone_ != nullptr) {
    start_in_ring(*std::exchange(alone_, nullptr));
  } else if (cached_ && in_ring_ == 0 && operation.kind == DiskOperation::Kind::kRead) {
    alone_ = &operation;
    return;
  }
  start_in_ring(operation);
}

/// What would end in one of the kernel's worker threads is quicker done here, and the last of those
/// threads would stay and wake up every five seconds: writes through the page cache, and their
/// flushes, unless reads are on the way that need not wait for them; whatever is done to a range.
bool UringDiskQueue::suits_ring(const DiskOperation& operation) const noexcept {
  switch (operation.kind) {
    case DiskOperation::Kind::kFlush:
      return (!cached_ || in_ring_ != 0) && file_.image().syncs().failure() == 0;
    case DiskOperation::Kind::kWrite:
      if (cached_ || (operation.durable && file_.image().syncs().failure() != 0)) return false;
      [[fallthrough]];
    case DiskOperation::Kind::kRead:
      return operation.length != 0 && is_aligned(file_, operation);
    default:
      return false;
  }
}

void UringDiskQueue::start_in_ring(DiskOperation& operation) noexcept {
  io_uring_sqe* entry = next_entry();
  if (entry == nullptr) return run_here(operation);
  ++in_ring_;
  fill(*entry, operation);
}

void UringDiskQueue::run_here(DiskOperation& operation) noexcept {
  run_synchronously(file_, operation);
  completed_.push(operation);
}

void UringDiskQueue::submit() noexcept {
  // One read of what the page cache has costs less as a call of its own.
  if (DiskOperation* operation = std::exchange(alone_, nullptr)) {
    if (read_without_waiting(file_, *operation)) {
      completed_.push(*operation);
      return;
    }
    start_in_ring(*operation);
  }
  refused_ = !ring_->submit();
  // What is on the way ends, and is then followed by another try. Without it the kernel tells
  // nobody when it takes more, and that may be never (a seccomp filter, for one).
  if (!refused_ || in_ring_ != ring_->unsubmitted()) return;
  refused_ = false;
  while (in_ring_ != 0) {
    --in_ring_;
    run_here(*std::bit_cast<DiskOperation*>(ring_->withdraw()));
  }
}

DiskOperation* UringDiskQueue::next_completed() noexcept {
  if (DiskOperation* operation = completed_.pop()) return operation;
  if (in_ring_ == 0) return nullptr;
  IoUring::Completion completion;
  if (!ring_->next_completion(completion)) return nullptr;
  --in_ring_;
  refused_ = false;
  auto* operation = std::bit_cast<DiskOperation*>(completion.user_data);
  finish(*operation, completion.result);
  return operation;
}

void UringDiskQueue::wait() noexcept {
  submit();
  if (completed_.empty() && in_ring_ != 0) ring_->wait();
}

bool UringDiskQueue::completions_pending() const noexcept {
  return !completed_.empty() || (in_ring_ != 0 && ring_->completions_pending());
}

io_uring_sqe* UringDiskQueue::next_entry() noexcept {
  if (io_uring_sqe* entry = ring_->next_entry()) return entry;
  (void)ring_->submit();
  return ring_->next_entry();
}

void UringDiskQueue::fill(io_uring_sqe& entry, DiskOperation& operation) const noexcept {
  entry.fd = registered_ ? 0 : file_.fd();
  entry.flags = registered_ ? IOSQE_FIXED_FILE : 0;
  entry.user_data = std::bit_cast<uint64_t>(&operation);
  if (operation.kind == DiskOperation::Kind::kFlush) {
    entry.opcode = IORING_OP_FSYNC;
    entry.fsync_flags = IORING_FSYNC_DATASYNC;
    return;
  }
  const bool is_read = operation.kind == DiskOperation::Kind::kRead;
  entry.off = operation.offset;
  entry.rw_flags = operation.durable ? RWF_DSYNC : 0;
  // READ and WRITE (kernel 5.6) save the copy of a vector.
  if (operation.buffers.size() == 1 && operation.length <= kMaxSingle) {
    entry.opcode = is_read ? IORING_OP_READ : IORING_OP_WRITE;
    entry.addr = reinterpret_cast<uint64_t>(operation.buffers[0].iov_base);
    entry.len = static_cast<uint32_t>(operation.length);
  } else {
    entry.opcode = is_read ? IORING_OP_READV : IORING_OP_WRITEV;
    entry.addr = reinterpret_cast<uint64_t>(operation.buffers.data());
    entry.len = static_cast<uint32_t>(std::min(operation.buffers.size(), kMaxBuffersPerCall));
  }
}

void UringDiskQueue::finish(DiskOperation& operation, int32_t result) noexcept {
  if (operation.kind == DiskOperation::Kind::kFlush) {
    finish_flush(file_, operation, result);
  } else {
    finish_transfer(file_, operation, result);
  }
}

}  // namespace tsvmm
