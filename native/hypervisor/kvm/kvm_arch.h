#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "hypervisor/hypervisor.h"
#include "hypervisor/kvm/kvm_device.h"

/// What KVM's interface has for each architecture alone; the folder of the one that is built for
/// defines it.
namespace tsvmm::kvm_arch {

/// Without which no machine of this architecture can be.
[[nodiscard]] std::span<const KvmCapability> needed_capabilities() noexcept;

/// Global system interrupts that are wired: the lowest ones.
[[nodiscard]] unsigned wired_interrupts() noexcept;

/// What is to be decided before the VM has memory. Throws Error.
void prepare_address_space(const KvmDevice& kvm, int vm_fd);

/// After the memory, before any vCPU. `highest_vcpu_id` is the largest that create_vcpu() will be
/// given. Throws Error.
void create_interrupt_controllers(int vm_fd, uint32_t highest_vcpu_id);

/// On the thread that will run it. `kvm` and `vcpu_fd`, which KVM_CREATE_VCPU gave for `id`,
/// outlive it. Throws Error; it may then be tried again with the same descriptor.
[[nodiscard]] std::unique_ptr<Vcpu> create_vcpu(const KvmDevice& kvm, int vcpu_fd, uint32_t id);

}  // namespace tsvmm::kvm_arch
