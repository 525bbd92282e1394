#pragma once

#include <string>
#include <vector>

#include "core/event_loop.h"
#include "machine/machine_event.h"
#include "memory/guest_memory.h"

namespace tsvmm {

/// The zones that GuestMemory::lost_pages() are of, one for each of them.
[[nodiscard]] std::vector<std::string> zones_with_files(const std::vector<MemoryZone>& zones);

/// Has `loop` report, once for each file, that a part of it is gone and reads as zeros for the
/// guest. `memory` outlives the loop's use.
void watch_zone_files(const GuestMemory& memory, const std::vector<std::string>& zones,
                      EventLoop& loop, const EventReport& report);

/// The hypervisor could not reach guest memory. True if that was a file's fault, and is whole
/// again.
[[nodiscard]] bool repair_zone_files(const GuestMemory& memory) noexcept;

}  // namespace tsvmm
