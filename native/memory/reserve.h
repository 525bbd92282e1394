#pragma once

#include <cstdint>

namespace tsvmm {

/// Reserves address space for `size` bytes that begins `lead` bytes behind a multiple of
/// `alignment`, a power of two of at least a page: with that of a huge page, and the guest's
/// address as `lead`, one of the guest can be one of the host. To be mapped over by MAP_FIXED.
/// Throws Error.
uint8_t* reserve_aligned(uint64_t size, uint64_t alignment = 2U << 20, uint64_t lead = 0);

}  // namespace tsvmm
