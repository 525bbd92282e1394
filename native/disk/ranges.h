#pragma once

#include <cstdint>

#include "disk/disk_queue.h"
#include "disk/image_file.h"

namespace tsvmm {

/// Gives the space of a range back to the host, as far as it can take it. 0 or an errno.
[[nodiscard]] int discard_range(const ImageFile& file, uint64_t offset, uint64_t length) noexcept;

/// Makes the operation's range read as zeros, in the host's way if it has one, else by writing
/// them. 0 or an errno.
[[nodiscard]] int zero_range(const ImageFile& file, const DiskOperation& operation) noexcept;

}  // namespace tsvmm
