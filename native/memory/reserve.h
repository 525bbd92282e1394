#pragma once

#include <cstdint>

namespace tsvmm {

/// Reserves address space for `size` bytes that begins at a multiple of 2 MiB: a huge page of the
/// guest can then be one of the host. To be mapped over by MAP_FIXED. Throws Error.
uint8_t* reserve_aligned(uint64_t size);

}  // namespace tsvmm
