#include "hypervisor/kvm/x86_64/host_facts.h"

#include <chrono>
#include <exception>
#include <optional>

#include "hypervisor/kvm/kvm_device.h"

namespace tsvmm {

void HostFacts::find_out(PrecreatedVm* precreated) noexcept {
  std::optional<KvmDevice> kvm;
  try {
    kvm.emplace();
    found_basics_.set_value({kvm->max_vcpus(), read_processor_facts()});
  } catch (...) {
    found_basics_.set_exception(std::current_exception());
  }
  if (precreated != nullptr) precreated->make();
  try {
    if (!kvm) static_cast<void>(basics_.get());
    found_cpuid_.set_value(read_supported_cpuid(*kvm));
  } catch (...) {
    found_cpuid_.set_exception(std::current_exception());
  }
}

bool HostFacts::failed() const noexcept {
  try {
    static_cast<void>(basics_.get());
    if (cpuid_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
      static_cast<void>(cpuid_.get());
    }
    return false;
  } catch (...) {
    return true;
  }
}

}  // namespace tsvmm
