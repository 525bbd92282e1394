#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"

namespace tsvmm::vhdx {

/// Disks have at most 64 TiB (§2.6.2.2); no file needs more than twice that.
inline constexpr uint64_t kMaxDiskSize = 64ULL << 40;
inline constexpr uint64_t kMaxFileSize = 2 * kMaxDiskSize;

/// What to throw for a file that contradicts itself.
inline Error damage(const std::string& what) {
  return {"ERR_TSVMM_IMAGE", "the VHDX image is damaged: " + what};
}

/// Throws Error unless `error` is 0.
inline void check(int error, const char* what) {
  if (error != 0) throw Error::from_errno(what, error);
}

}  // namespace tsvmm::vhdx
