#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "hypervisor/kvm/empty_vm.h"
#include "hypervisor/kvm/x86_64/host_processor.h"

namespace tsvmm {

/// What the host's KVM and processor offer. Finding out takes a good part of the time that a VM
/// needs to start (each CPUID instruction traps where the host is itself a guest), so a thread does
/// it while the caller goes on.
class HostFacts {
 public:
  /// Throws Error if KVM cannot be used. The thread makes `precreated` first, if it is given.
  explicit HostFacts(std::shared_ptr<PrecreatedVm> precreated = nullptr);
  ~HostFacts();
  HostFacts(const HostFacts&) = delete;
  HostFacts& operator=(const HostFacts&) = delete;

  [[nodiscard]] int max_vcpus() const { return max_vcpus_; }
  /// Waits for the thread if that is about it already.
  [[nodiscard]] const ProcessorFacts& processor() const;
  /// Packed kvm_cpuid_entry2. Waits for the thread. Throws Error.
  [[nodiscard]] const std::vector<uint8_t>& supported_cpuid() const { return cpuid_.get(); }

 private:
  int max_vcpus_ = 0;
  mutable std::once_flag processor_read_;
  mutable ProcessorFacts processor_{};
  std::shared_future<std::vector<uint8_t>> cpuid_;
  std::thread reader_;
};

}  // namespace tsvmm
