#include "hypervisor/kvm/x86_64/host_facts.h"

#include <exception>
#include <memory>
#include <utility>

#include "core/thread.h"
#include "hypervisor/kvm/kvm_device.h"

namespace tsvmm {

HostFacts::HostFacts(std::shared_ptr<PrecreatedVm> precreated) {
  auto kvm = std::make_shared<KvmDevice>();
  max_vcpus_ = kvm->max_vcpus();
  auto result = std::make_shared<std::promise<std::vector<uint8_t>>>();
  cpuid_ = result->get_future().share();
  reader_ = spawn_thread("host-facts", [this, kvm, result, precreated = std::move(precreated)] {
    static_cast<void>(processor());
    if (precreated) precreated->make();
    try {
      result->set_value(read_supported_cpuid(*kvm));
    } catch (...) {
      result->set_exception(std::current_exception());
    }
  });
}

HostFacts::~HostFacts() { reader_.join(); }

const ProcessorFacts& HostFacts::processor() const {
  std::call_once(processor_read_, [this] { processor_ = read_processor_facts(); });
  return processor_;
}

}  // namespace tsvmm
