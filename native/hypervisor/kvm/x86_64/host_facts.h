#pragma once

#include <cstdint>
#include <future>
#include <vector>

#include "hypervisor/kvm/empty_vm.h"
#include "hypervisor/kvm/x86_64/host_processor.h"

namespace tsvmm {

/// What the host's KVM and processor offer. Finding out takes a good part of the time that a VM
/// needs to start (each CPUID instruction traps where the host is itself a guest), so another
/// thread than those who ask does it.
class HostFacts {
 public:
  /// Once, on a thread of its own. Makes `precreated` on the way, if it is given.
  void find_out(PrecreatedVm* precreated) noexcept;

  // These wait for find_out(), and throw Error if KVM cannot be used.
  [[nodiscard]] int max_vcpus() const { return basics_.get().max_vcpus; }
  [[nodiscard]] const ProcessorFacts& processor() const { return basics_.get().processor; }
  /// Packed kvm_cpuid_entry2.
  [[nodiscard]] const std::vector<uint8_t>& supported_cpuid() const { return cpuid_.get(); }
  /// Whether one of them throws, as far as is known. Waits for the first two.
  [[nodiscard]] bool failed() const noexcept;

 private:
  struct Basics {
    int max_vcpus;
    ProcessorFacts processor;
  };

  std::promise<Basics> found_basics_;
  std::promise<std::vector<uint8_t>> found_cpuid_;
  std::shared_future<Basics> basics_ = found_basics_.get_future().share();
  std::shared_future<std::vector<uint8_t>> cpuid_ = found_cpuid_.get_future().share();
};

}  // namespace tsvmm
