#pragma once

#include <cstdint>
#include <vector>

#include "core/unique_fd.h"

namespace tsvmm {

/// /dev/kvm: what the host's hypervisor can do, and the way to a new VM.
class KvmDevice {
 public:
  /// Throws Error: an errno if the device cannot be opened, ERR_TSVMM_KVM_VERSION or
  /// ERR_TSVMM_KVM_CAPABILITY if it lacks something that every machine needs.
  KvmDevice();

  [[nodiscard]] int fd() const { return fd_.get(); }
  /// KVM_CHECK_EXTENSION, 0 if absent.
  [[nodiscard]] int capability(unsigned long extension) const noexcept;
  /// KVM_GET_API_VERSION that the constructor insists on.
  static constexpr int kApiVersion = 12;
  /// The most vCPUs of one VM.
  [[nodiscard]] int max_vcpus() const noexcept;
  /// KVM_GET_SUPPORTED_CPUID as packed kvm_cpuid_entry2, with the processor's name and cache sizes
  /// where KVM leaves them empty. Throws Error.
  [[nodiscard]] std::vector<uint8_t> supported_cpuid() const;
  [[nodiscard]] UniqueFd create_vm() const;

 private:
  UniqueFd fd_;
};

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

}  // namespace tsvmm
