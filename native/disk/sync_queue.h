#pragma once

#include <cstdint>
#include <string>

#include "disk/completed_list.h"
#include "disk/disk_queue.h"
#include "disk/image_file.h"

namespace tsvmm {

/// Plain system calls on the queue's own thread: every operation has ended when start() returns.
class SyncDiskQueue final : public DiskQueue {
 public:
  /// `reason` says why no better engine was taken.
  SyncDiskQueue(const RawImage& image, uint16_t depth, const std::string& reason);

  void start(DiskOperation& operation) noexcept override;
  void submit() noexcept override {}
  DiskOperation* next_completed() noexcept override { return completed_.pop(); }
  [[nodiscard]] bool needs_submit() const noexcept override { return false; }
  void wait() noexcept override {}
  [[nodiscard]] int completion_fd() const noexcept override { return -1; }
  [[nodiscard]] std::string_view engine() const noexcept override { return engine_; }

 private:
  const ImageFile file_;
  CompletedList completed_;
  const std::string engine_;
};

}  // namespace tsvmm
