#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/message.h"
#include "core/unique_fd.h"
#include "device/char_backend_source.h"
#include "device/pci_hotplug.h"
#include "hypervisor/hypervisor.h"
#include "memory/guest_memory.h"
#include "virtio/device_kind.h"

namespace tsvmm {

// What the layer above decides, as plain values. src/boundary/machineSpec.ts documents each field.
// All descriptors belong to the specification (duplicates of the caller's), so that a boot may run
// after the caller closed its own.

struct VcpuSpec {
  uint32_t id = 0;  ///< Vm::create_vcpu()
  std::vector<int> affinity;
  std::shared_ptr<const VcpuSetup> setup;
};

/// A vCPU that comes to a machine that runs.
struct LateVcpu {
  unsigned index = 0;
  VcpuSpec vcpu;
};

struct MachineSpec {
  std::vector<MemoryZone> memory;
  std::optional<MemoryRange> memory_growth;
  std::vector<VcpuSpec> vcpus;   ///< at boot
  uint32_t highest_vcpu_id = 0;  ///< of those to come, too
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

struct PciFunctionSpec {
  std::string id;
  PciPlace place;
  GuestAddress bar0 = 0;
  bool bar0_is_64bit = false;
  GuestAddress bar2 = 0;  ///< of a device with memory of its own
  bool iommu = false;     ///< its accesses go through the machine's IOMMU
  std::unique_ptr<DeviceSpec> device;
};

struct PvpanicSpec {
  unsigned slot = 0;  ///< of segment 0
  GuestAddress bar0 = 0;
};

/// Where BARs of a segment's functions may lie.
struct PciSegmentSpec {
  GuestMemory::Range window32{};
  GuestMemory::Range window64{};
};

struct PciSpec {
  GuestAddress ecam = 0;                 ///< of all segments, one behind the other
  std::vector<PciSegmentSpec> segments;  ///< at least one
  std::vector<PciFunctionSpec> functions;
  std::optional<PvpanicSpec> pvpanic;
};

/// What only a board of the architecture has; machine/x86_64/board_spec.h.
struct BoardSpec;

struct BootSpec {
  std::shared_ptr<const VcpuEntry> entry;  ///< of vCPU 0; nullptr: at its reset vector
  bool held = false;                       ///< the guest waits for a debugger to let it run
  std::vector<LoadItem> load;
  std::shared_ptr<BoardSpec> board;
  GuestAddress vm_generation = 0;
  PciSpec pci;
  bool paused = false;  ///< the guest is to run from resume() on
};

// All of these throw Error, and name the field that is wrong.

[[nodiscard]] MachineSpec read_machine_spec(const Value& value);
[[nodiscard]] PciFunctionSpec read_function_spec(const Value& value);
[[nodiscard]] BootSpec read_boot_spec(const Value& value);
[[nodiscard]] LateVcpu read_late_vcpu(const Value& value);

// What the architecture's folder reads of a vCPU's and a boot's fields.

[[nodiscard]] std::shared_ptr<const VcpuSetup> read_vcpu_setup(Fields& vcpu);
[[nodiscard]] std::shared_ptr<const VcpuEntry> read_vcpu_entry(Fields& boot);
[[nodiscard]] std::shared_ptr<BoardSpec> read_board_spec(Fields& boot);

}  // namespace tsvmm
