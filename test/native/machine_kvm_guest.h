#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "hypervisor/kvm/kvm_vm.h"
#include "hypervisor/kvm/x86_64/host_processor.h"
#include "machine_fixture.h"

/// Guests of a few instructions, for machines with the host's KVM.
namespace tsvmm::machine_test {

inline constexpr GuestAddress kGdt = 0x500;
inline constexpr GuestAddress kCode = 0x1000;

inline VcpuSpec vcpu_spec(uint32_t id, const std::vector<uint8_t>& cpuid) {
  return {.id = id,
          .affinity = {},
          .setup = std::make_shared<const VcpuSetup>(VcpuSetup{.cpuid = cpuid, .msrs = {}})};
}

/// The same with vCPUs of that kind.
inline MachineSpec with_cpuid(MachineSpec spec, const std::vector<uint8_t>& cpuid) {
  for (VcpuSpec& vcpu : spec.vcpus) vcpu = vcpu_spec(vcpu.id, cpuid);
  return spec;
}

/// The first vCPU begins with `code`, in 32-bit mode without paging; the others wait to be started.
inline void put_flat_guest(BootSpec& boot, const std::vector<uint8_t>& code) {
  boot.entry = std::make_shared<const VcpuEntry>(
      VcpuEntry{.rip = kCode, .rsp = 0x8000, .gdt_address = kGdt, .gdt_limit = 5 * 8 - 1});
  // Null, null, and flat segments of 4 GiB: code, data, a task's.
  constexpr std::array<uint64_t, 5> gdt{0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff,
                                        0x00008b0000000067};
  std::vector<uint8_t> table(sizeof gdt);
  std::memcpy(table.data(), gdt.data(), sizeof gdt);
  boot.load.emplace_back(LoadBytes{kGdt, table});
  boot.load.emplace_back(LoadBytes{kCode, code});
}

}  // namespace tsvmm::machine_test
