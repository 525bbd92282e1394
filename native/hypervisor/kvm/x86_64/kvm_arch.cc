#include "hypervisor/kvm/kvm_arch.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <array>

#include "core/error.h"
#include "hypervisor/kvm/x86_64/kvm_vcpu.h"
#include "hypervisor/x86_64/apic.h"

namespace tsvmm::kvm_arch {
namespace {

constexpr std::array<KvmCapability, 4> kNeeded{{
    {KVM_CAP_EXT_CPUID, "EXT_CPUID"},
    {KVM_CAP_SPLIT_IRQCHIP, "SPLIT_IRQCHIP"},
    {KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER"},
    {KVM_CAP_USER_NMI, "USER_NMI"},
}};

// Intel processors without "unrestricted guest" need three pages for a task state segment and one
// for an identity map. They lie in the part of the 32-bit hole that the platform's memory map keeps
// for them.
constexpr uint64_t kTssAddress = 0xf8000000;
constexpr uint64_t kIdentityMapAddress = 0xf8003000;

void enable_capability(int vm_fd, uint32_t capability, uint64_t argument, const char* what) {
  kvm_enable_cap request{};
  request.cap = capability;
  request.args[0] = argument;
  check_errno(::ioctl(vm_fd, KVM_ENABLE_CAP, &request), what);
}

}  // namespace

std::span<const KvmCapability> needed_capabilities() noexcept { return kNeeded; }

unsigned wired_interrupts() noexcept { return kIoApicPins; }

void prepare_address_space(const KvmDevice& kvm, int vm_fd) {
  uint64_t identity_map = kIdentityMapAddress;
  if (kvm.capability(KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0) {
    check_errno(::ioctl(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map),
                "KVM_SET_IDENTITY_MAP_ADDR");
  }
  if (kvm.capability(KVM_CAP_SET_TSS_ADDR) > 0) {
    check_errno(::ioctl(vm_fd, KVM_SET_TSS_ADDR, kTssAddress), "KVM_SET_TSS_ADDR");
  }
}

/// Local APICs in the kernel, the I/O APIC in user space; 32-bit APIC ids where 8 bits are not
/// enough.
void create_interrupt_controllers(int vm_fd, uint32_t highest_vcpu_id) {
  enable_capability(vm_fd, KVM_CAP_SPLIT_IRQCHIP, kIoApicPins, "KVM_CAP_SPLIT_IRQCHIP");
  if (highest_vcpu_id > kHighestXapicId) {
    enable_capability(vm_fd, KVM_CAP_X2APIC_API,
                      KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
                      "KVM_CAP_X2APIC_API");
  }
}

std::unique_ptr<Vcpu> create_vcpu(const KvmDevice& kvm, int vcpu_fd, uint32_t id) {
  return std::make_unique<KvmVcpu>(kvm, vcpu_fd, id);
}

}  // namespace tsvmm::kvm_arch
