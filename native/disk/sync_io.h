#pragma once

#include <sys/uio.h>

#include <cstddef>

#include "disk/disk_queue.h"
#include "disk/image_file.h"

namespace tsvmm {

/// Most buffers that one system call takes (IOV_MAX).
inline constexpr size_t kMaxBuffersPerCall = 1024;

/// True if the rest of the operation fits what the file's direct I/O asks for.
[[nodiscard]] bool is_aligned(const ImageFile& file, const DiskOperation& operation) noexcept;

/// Takes `bytes` off the front of the operation's rest.
void advance(DiskOperation& operation, size_t bytes) noexcept;

/// Reads all of the operation from the page cache. False, with the operation as it was, if that
/// would mean waiting, or if it fails.
[[nodiscard]] bool read_without_waiting(const ImageFile& file, DiskOperation& operation) noexcept;

/// Does the rest of the operation in this thread, through a buffer of our own where direct I/O
/// needs one, and sets its error.
void run_synchronously(const ImageFile& file, DiskOperation& operation) noexcept;

/// Puts all that was written to the file on stable storage: 0 or an errno, for good once it has
/// failed (SyncRecord).
[[nodiscard]] int sync_file(const ImageFile& file) noexcept;

/// Ends a flush that the kernel has answered with `result`, 0 or a negative errno.
void finish_flush(const ImageFile& file, DiskOperation& operation, int64_t result) noexcept;

/// Ends a transfer that the kernel has answered with `result`, bytes or a negative errno: what it
/// has not done, or not known how to, is done here.
void finish_transfer(const ImageFile& file, DiskOperation& operation, int64_t result) noexcept;

}  // namespace tsvmm
