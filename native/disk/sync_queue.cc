#include "disk/sync_queue.h"

#include "disk/sync_io.h"

namespace tsvmm {

SyncDiskQueue::SyncDiskQueue(const RawImage& image, uint16_t depth, const std::string& reason)
    : file_(image), completed_(depth), engine_("plain system calls (" + reason + ")") {}

void SyncDiskQueue::start(DiskOperation& operation) noexcept {
  run_synchronously(file_, operation);
  completed_.push(operation);
}

}  // namespace tsvmm
