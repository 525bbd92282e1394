#pragma once

#include <sys/uio.h>

#include <cstddef>

#include "disk/disk_queue.h"
#include "disk/raw_image.h"

namespace tsvmm {

/// Most buffers that one system call takes (IOV_MAX).
inline constexpr size_t kMaxBuffersPerCall = 1024;

/// True if the rest of the operation fits what the image's direct I/O asks for.
[[nodiscard]] bool is_aligned(const RawImage& image, const DiskOperation& operation) noexcept;

/// Takes `bytes` off the front of the operation's rest.
void advance(DiskOperation& operation, size_t bytes) noexcept;

/// Reads all of the operation from the page cache. False, with the operation as it was, if that
/// would mean waiting, or if it fails.
[[nodiscard]] bool read_without_waiting(const RawImage& image, DiskOperation& operation) noexcept;

/// Does the rest of the operation in this thread, through a buffer of our own where direct I/O
/// needs one, and sets its error.
void run_synchronously(const RawImage& image, DiskOperation& operation) noexcept;

/// Ends a transfer that the kernel has answered with `result`, bytes or a negative errno: what it
/// has not done, or not known how to, is done here.
void finish_transfer(const RawImage& image, DiskOperation& operation, int64_t result) noexcept;

}  // namespace tsvmm
