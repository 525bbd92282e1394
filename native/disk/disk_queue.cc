#include "disk/disk_queue.h"

#include <string>

#include "core/io_uring.h"
#include "disk/aio_queue.h"
#include "disk/raw_image.h"
#include "disk/sync_queue.h"
#include "disk/uring_queue.h"

namespace tsvmm {
namespace {

/// Why io_uring is out of question, or "".
std::string why_no_uring(const RawImage& image) {
  if (!image.engines().io_uring) return "io_uring is disabled";
  // The ring would hand every read to the kernel's workers.
  if (!image.is_direct() && !image.reads_without_waiting()) {
    return "the file system cannot tell which reads would wait";
  }
  return {};
}

}  // namespace

std::unique_ptr<DiskQueue> make_disk_queue(const RawImage& image, uint16_t depth) {
  if (image.is_in_memory()) {
    return std::make_unique<SyncDiskQueue>(image, depth, "nothing waits in memory");
  }
  std::string reason = why_no_uring(image);
  if (reason.empty()) {
    if (auto ring = IoUring::create(depth)) {
      return std::make_unique<UringDiskQueue>(image, std::move(ring), depth);
    }
    reason = "the host refuses io_uring";
  }
  if (image.is_direct()) {
    if (!image.engines().linux_aio) {
      reason += ", Linux AIO is disabled";
    } else if (auto queue = AioDiskQueue::create(image, depth, reason)) {
      return queue;
    } else {
      reason += " and Linux AIO";
    }
  }
  return std::make_unique<SyncDiskQueue>(image, depth, reason);
}

}  // namespace tsvmm
