#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "device/char_backend_source.h"
#include "memory/guest_memory.h"

namespace tsvmm {

struct SerialSpec {
  std::string id;
  uint16_t port = 0;
  unsigned gsi = 0;
  CharBackendSource backend;
};

struct DebugConsoleSpec {
  std::string id;
  uint16_t port = 0;
  CharBackendSource backend;
};

struct MemoryHotplugSpec {
  GuestAddress address = 0;
  uint32_t proximity = 0;  ///< of all that is added
};

struct CpuHotplugSpec {
  GuestAddress address = 0;
  uint16_t present = 0;  ///< vCPUs at boot
  uint16_t most = 0;
};

/// An x86 board. src/boundary/x86_64/boardSpec.ts documents each field.
struct BoardSpec {
  GuestAddress ioapic = 0;
  std::optional<SerialSpec> serial;
  std::optional<DebugConsoleSpec> debug_console;
  uint16_t cmos_port = 0;
  unsigned cmos_gsi = 0;
  uint64_t cmos_memory_below_4g = 0;
  uint64_t cmos_memory_above_4g = 0;
  uint16_t acpi_power_port = 0;
  uint16_t acpi_pm_timer_port = 0;
  uint16_t acpi_events_port = 0;
  unsigned acpi_sci = 0;
  GuestAddress ged = 0;
  unsigned ged_gsi = 0;
  GuestAddress pci_hotplug = 0;
  std::optional<MemoryHotplugSpec> memory_hotplug;
  std::optional<CpuHotplugSpec> cpu_hotplug;
};

}  // namespace tsvmm
