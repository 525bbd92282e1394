#pragma once

#include <mutex>
#include <set>
#include <utility>

#include "disk/disk_queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// Reports I/O errors of the host for a disk: each kind of operation and error once in the
/// device's life, however often the guest runs into it. Any thread.
class BlockErrors {
 public:
  void report(DiskOperation::Kind kind, int error, VirtioTransport& transport) noexcept;

 private:
  std::mutex mutex_;
  std::set<std::pair<DiskOperation::Kind, int>> told_;
};

}  // namespace tsvmm
