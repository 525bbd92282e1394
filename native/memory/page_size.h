#pragma once

#include <cstdint>

namespace tsvmm {

/// Of the host's ordinary pages, and of the huge ones that it makes of these (THP).
inline constexpr uint64_t kHostPageSize = 4096;
inline constexpr uint64_t kHostHugePageSize = 2U << 20;

}  // namespace tsvmm
