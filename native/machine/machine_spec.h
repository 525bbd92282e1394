#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/unique_fd.h"
#include "hypervisor/hypervisor.h"
#include "machine/device_specs.h"
#include "memory/guest_memory.h"

namespace tsvmm {

// What the layer above decides, as plain values. src/native.ts documents each field; the addon
// fills these in. All descriptors belong to the specification (duplicates of the caller's), so that
// a boot may run after the caller closed its own.

struct VcpuPlacement {
  uint32_t id = 0;  ///< Vm::create_vcpu()
  std::vector<int> affinity;
};

struct MachineSpec {
  std::vector<GuestMemory::Range> memory;
  MemoryOptions memory_options;
  std::vector<VcpuPlacement> vcpus;
};

struct LoadBytes {
  GuestAddress address = 0;
  std::vector<uint8_t> bytes;
};

struct LoadFile {
  GuestAddress address = 0;
  UniqueFd fd;
  uint64_t offset = 0;
  uint64_t length = 0;
};

using LoadItem = std::variant<LoadBytes, LoadFile>;

struct PvpanicSpec {
  unsigned slot = 0;
  GuestAddress bar0 = 0;
};

struct PciSpec {
  GuestAddress ecam = 0;
  GuestMemory::Range window32{};
  GuestMemory::Range window64{};
  std::vector<PciFunctionSpec> functions;
  std::optional<PvpanicSpec> pvpanic;
};

/// What only a board of the architecture has; machine/x86_64/board_spec.h.
struct BoardSpec;

struct BootSpec {
  std::vector<std::shared_ptr<const VcpuSetup>> vcpus;  ///< by index
  bool held = false;  ///< the guest waits for a debugger to let it run
  std::vector<LoadItem> load;
  std::shared_ptr<BoardSpec> board;
  GuestAddress vm_generation = 0;
  PciSpec pci;
  bool paused = false;  ///< the guest is to run from resume() on
};

}  // namespace tsvmm
