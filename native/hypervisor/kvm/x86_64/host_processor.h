#pragma once

#include <cstdint>
#include <vector>

#include "hypervisor/kvm/kvm_device.h"

namespace tsvmm {

/// What the host's processor says of itself.
struct ProcessorFacts {
  /// It offers VMX or SVM, so that KVM runs guest kernels on hardware.
  bool has_hardware_virtualization;
  /// Less those bits that memory encryption takes.
  unsigned physical_address_bits;
  /// 0 unless the time stamp counter is invariant and the processor tells its rate; guests then
  /// take kvm-clock's.
  unsigned tsc_khz;
};
[[nodiscard]] ProcessorFacts read_processor_facts() noexcept;

/// KVM_GET_SUPPORTED_CPUID as packed kvm_cpuid_entry2, with the processor's name and cache sizes
/// where KVM leaves them empty. Throws Error.
[[nodiscard]] std::vector<uint8_t> read_supported_cpuid(const KvmDevice& kvm);

}  // namespace tsvmm
