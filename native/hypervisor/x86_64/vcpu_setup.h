#pragma once

#include <cstdint>
#include <vector>

namespace tsvmm {

/// 32-bit protected mode, paging off, flat 4 GiB segments: what PVH and Linux's 32-bit boot
/// protocol ask for.
struct VcpuEntry {
  uint64_t rip = 0;
  uint64_t rbx = 0;
  uint64_t rsi = 0;
  uint64_t rsp = 0;
  uint64_t gdt_address = 0;  ///< its descriptors 2, 3 and 4 are code, data and task
  uint16_t gdt_limit = 0;    ///< bytes less one
};

/// What an x86 vCPU is: as such it begins at the reset vector, or waits for INIT and SIPI.
struct VcpuSetup {
  std::vector<uint8_t> cpuid;  ///< packed kvm_cpuid_entry2
  std::vector<uint8_t> msrs;   ///< packed kvm_msr_entry
};

}  // namespace tsvmm
