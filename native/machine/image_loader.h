#pragma once

#include <atomic>
#include <vector>

#include "core/cancellation.h"
#include "machine/machine_spec.h"
#include "memory/guest_memory.h"

namespace tsvmm {

/// Puts the items into guest memory. Throws Error: ERR_TSVMM_LOAD if one does not fit into RAM or
/// its file is shorter than said, an errno if reading fails, ECANCELED if it is to end.
void load_images(const GuestMemory& memory, const std::vector<LoadItem>& items,
                 const Cancellation& cancellation = Cancellation::never());

}  // namespace tsvmm
