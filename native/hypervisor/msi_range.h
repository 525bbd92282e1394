#pragma once

#include "memory/guest_memory.h"

namespace tsvmm {

/// Addresses where a device's store is a message-signalled interrupt, and not an access to memory.
struct MsiRange {
  GuestAddress first;
  GuestAddress last;
};

/// The architecture's, whose folder defines it.
[[nodiscard]] MsiRange msi_range() noexcept;

}  // namespace tsvmm
