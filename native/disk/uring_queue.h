#pragma once

#include <cstdint>
#include <memory>

#include "core/io_uring.h"
#include "disk/completed_list.h"
#include "disk/disk_queue.h"
#include "disk/image_file.h"

namespace tsvmm {

/// Moves a raw image's bytes by io_uring, and what would only wait in one of the kernel's worker
/// threads by plain system calls.
class UringDiskQueue final : public DiskQueue {
 public:
  UringDiskQueue(const RawImage& image, std::unique_ptr<IoUring> ring, uint16_t depth);

  void start(DiskOperation& operation) noexcept override;
  void submit() noexcept override;
  DiskOperation* next_completed() noexcept override;
  [[nodiscard]] bool needs_submit() const noexcept override {
    return alone_ != nullptr || (ring_->unsubmitted() != 0 && !refused_);
  }
  void wait() noexcept override;
  [[nodiscard]] int completion_fd() const noexcept override { return ring_->fd(); }
  [[nodiscard]] bool completions_pending() const noexcept override;
  [[nodiscard]] std::string_view engine() const noexcept override { return "io_uring"; }

 private:
  [[nodiscard]] bool suits_ring(const DiskOperation& operation) const noexcept;
  void start_in_ring(DiskOperation& operation) noexcept;
  void run_here(DiskOperation& operation) noexcept;
  io_uring_sqe* next_entry() noexcept;
  void fill(io_uring_sqe& entry, DiskOperation& operation) const noexcept;
  void finish(DiskOperation& operation, int32_t result) noexcept;

  const ImageFile file_;
  const std::unique_ptr<IoUring> ring_;
  const bool cached_;
  const bool registered_;
  uint32_t in_ring_ = 0;            ///< operations that the kernel has not ended yet
  bool refused_ = false;            ///< the rest, until one of those in the kernel has ended
  DiskOperation* alone_ = nullptr;  ///< a cached read that has no company yet
  CompletedList completed_;
};

}  // namespace tsvmm
