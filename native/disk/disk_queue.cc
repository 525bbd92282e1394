#include "disk/disk_queue.h"

#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <vector>

#include "core/io_uring.h"
#include "disk/raw_image.h"
#include "disk/sync_io.h"

namespace tsvmm {
namespace {

/// Operations that have ended, in order, with room for all that can be on the way.
class CompletedList {
 public:
  explicit CompletedList(size_t depth) { operations_.reserve(depth); }

  void push(DiskOperation& operation) noexcept { operations_.push_back(&operation); }
  DiskOperation* pop() noexcept {
    if (next_ == operations_.size()) {
      operations_.clear();
      next_ = 0;
      return nullptr;
    }
    return operations_[next_++];
  }
  [[nodiscard]] bool empty() const noexcept { return next_ == operations_.size(); }

 private:
  std::vector<DiskOperation*> operations_;
  size_t next_ = 0;
};

class SyncDiskQueue final : public DiskQueue {
 public:
  SyncDiskQueue(const RawImage& image, uint16_t depth) : image_(image), completed_(depth) {}

  void start(DiskOperation& operation) noexcept override {
    run_synchronously(image_, operation);
    completed_.push(operation);
  }
  bool submit() noexcept override { return true; }
  DiskOperation* next_completed() noexcept override { return completed_.pop(); }
  void wait() noexcept override {}
  [[nodiscard]] int completion_fd() const noexcept override { return -1; }

 private:
  const RawImage& image_;
  CompletedList completed_;
};

class UringDiskQueue final : public DiskQueue {
 public:
  UringDiskQueue(const RawImage& image, std::unique_ptr<IoUring> ring, uint16_t depth)
      : image_(image),
        ring_(std::move(ring)),
        registered_(ring_->register_file(image.fd())),
        completed_(depth) {}

  void start(DiskOperation& operation) noexcept override {
    io_uring_sqe* entry = suits_ring(operation) ? next_entry() : nullptr;
    if (entry == nullptr) {
      run_synchronously(image_, operation);
      completed_.push(operation);
      return;
    }
    ++in_ring_;
    fill(*entry, operation);
  }

  bool submit() noexcept override { return ring_->submit(); }

  DiskOperation* next_completed() noexcept override {
    if (DiskOperation* operation = completed_.pop()) return operation;
    IoUring::Completion completion;
    if (!ring_->next_completion(completion)) return nullptr;
    --in_ring_;
    auto* operation = std::bit_cast<DiskOperation*>(completion.user_data);
    finish(*operation, completion.result);
    return operation;
  }

  void wait() noexcept override {
    if (completed_.empty()) (void)ring_->submit(1);
  }

  [[nodiscard]] int completion_fd() const noexcept override { return ring_->fd(); }

 private:
  /// What would end in one of the kernel's worker threads is quicker done here, and the last of
  /// those threads would stay and wake up every five seconds: writes through the page cache, and
  /// their flushes, unless reads are on the way that need not wait for them.
  [[nodiscard]] bool suits_ring(const DiskOperation& operation) const noexcept {
    const bool cached = !image_.is_direct();
    if (operation.kind == DiskOperation::Kind::kFlush) return !cached || in_ring_ != 0;
    if (operation.kind == DiskOperation::Kind::kWrite && cached) return false;
    return operation.length != 0 && is_aligned(image_, operation);
  }

  io_uring_sqe* next_entry() noexcept {
    if (io_uring_sqe* entry = ring_->next_entry()) return entry;
    (void)ring_->submit();
    return ring_->next_entry();
  }

  void fill(io_uring_sqe& entry, DiskOperation& operation) noexcept {
    entry.fd = registered_ ? 0 : image_.fd();
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

  void finish(DiskOperation& operation, int32_t result) noexcept {
    if (operation.kind == DiskOperation::Kind::kFlush) {
      operation.error = result < 0 ? -result : 0;
      return;
    }
    if (result > 0) {
      advance(operation, static_cast<size_t>(result));
      if (operation.length == 0) return;
    }
    // EINVAL may stand for an opcode or flag that this kernel lacks; a real error repeats itself
    // below.
    const bool again = result > 0 || result == -EINTR || result == -EAGAIN || result == -EINVAL ||
                       result == -EOPNOTSUPP;
    if (again) {
      run_synchronously(image_, operation);
    } else {
      operation.error = result < 0 ? -result : EIO;
    }
  }

  /// What a transfer's 32-bit result can count.
  static constexpr uint64_t kMaxSingle = 0x7ffff000;

  const RawImage& image_;
  const std::unique_ptr<IoUring> ring_;
  const bool registered_;
  uint32_t in_ring_ = 0;  ///< operations that the kernel has not ended yet
  CompletedList completed_;
};

}  // namespace

std::unique_ptr<DiskQueue> make_disk_queue(const RawImage& image, uint16_t depth) {
  // Where even cached reads may wait, the ring would hand all of them to the kernel's workers.
  if (!image.is_direct() && !image.reads_without_waiting()) {
    return make_sync_disk_queue(image, depth);
  }
  if (auto ring = IoUring::create(depth)) {
    return std::make_unique<UringDiskQueue>(image, std::move(ring), depth);
  }
  return make_sync_disk_queue(image, depth);
}

std::unique_ptr<DiskQueue> make_sync_disk_queue(const RawImage& image, uint16_t depth) {
  return std::make_unique<SyncDiskQueue>(image, depth);
}

}  // namespace tsvmm
