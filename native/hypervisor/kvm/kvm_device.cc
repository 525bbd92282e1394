#include "hypervisor/kvm/kvm_device.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <string>

#include "core/error.h"
#include "hypervisor/kvm/kvm_arch.h"

namespace tsvmm {
namespace {

// What no machine of any architecture can do without (kernel documentation, virt/kvm/api.rst).
constexpr std::array<KvmCapability, 8> kNeeded{{
    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"},
    {KVM_CAP_IOEVENTFD, "IOEVENTFD"},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, "IOEVENTFD_ANY_LENGTH"},
    {KVM_CAP_IRQFD, "IRQFD"},
    {KVM_CAP_IRQ_ROUTING, "IRQ_ROUTING"},
    {KVM_CAP_MP_STATE, "MP_STATE"},
    {KVM_CAP_SIGNAL_MSI, "SIGNAL_MSI"},
    {KVM_CAP_USER_MEMORY, "USER_MEMORY"},
}};

}  // namespace
KvmDevice::KvmDevice()
    : fd_(check_errno(::open("/dev/kvm", O_RDWR | O_CLOEXEC), "opening /dev/kvm")) {
  const int version = ::ioctl(fd_.get(), KVM_GET_API_VERSION, 0);
  if (version != kApiVersion) {
    throw Error("ERR_TSVMM_KVM_VERSION", "KVM API version " + std::to_string(version) +
                                             " instead of " + std::to_string(kApiVersion));
  }
  require(kNeeded);
  require(kvm_arch::needed_capabilities());
}

void KvmDevice::require(std::span<const KvmCapability> needed) const {
  for (const auto& [extension, name] : needed) {
    if (capability(extension) <= 0) {
      throw Error("ERR_TSVMM_KVM_CAPABILITY", std::string("this KVM lacks KVM_CAP_") + name);
    }
  }
}

int KvmDevice::capability(unsigned long extension) const noexcept {
  const int value = ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, extension);
  return value < 0 ? 0 : value;
}

int KvmDevice::max_vcpus() const noexcept { return capability(KVM_CAP_MAX_VCPUS); }

UniqueFd KvmDevice::create_vm() const {
  int fd = -1;
  do {
    fd = ::ioctl(fd_.get(), KVM_CREATE_VM, 0);
  } while (fd < 0 && errno == EINTR);
  return UniqueFd(check_errno(fd, "KVM_CREATE_VM"));
}

}  // namespace tsvmm
