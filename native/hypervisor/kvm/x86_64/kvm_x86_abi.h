#pragma once

#include "hypervisor/kvm/kvm_abi.h"

namespace tsvmm {

// As in kvm_abi.h: the requests of x86 whose structures end in a flexible array.

inline constexpr unsigned long kKvmGetSupportedCpuid = _IOWR(KVMIO, 0x05, KvmCountHeader);
inline constexpr unsigned long kKvmGetMsrs = _IOWR(KVMIO, 0x88, KvmCountHeader);
inline constexpr unsigned long kKvmSetMsrs = _IOW(KVMIO, 0x89, KvmCountHeader);
inline constexpr unsigned long kKvmSetCpuid2 = _IOW(KVMIO, 0x90, KvmCountHeader);

/// struct kvm_xsave without what KVM_CAP_XSAVE2 adds to it.
struct KvmXsave {
  uint8_t bytes[4096];
};
inline constexpr unsigned long kKvmGetXsave = _IOR(KVMIO, 0xa4, KvmXsave);
inline constexpr unsigned long kKvmSetXsave = _IOW(KVMIO, 0xa5, KvmXsave);
inline constexpr unsigned long kKvmGetXsave2 = _IOR(KVMIO, 0xcf, KvmXsave);

static_assert(kKvmGetSupportedCpuid == 0xc008ae05 && kKvmGetMsrs == 0xc008ae88 &&
              kKvmSetMsrs == 0x4008ae89 && kKvmSetCpuid2 == 0x4008ae90 &&
              kKvmGetXsave == 0x9000aea4 && kKvmSetXsave == 0x5000aea5 &&
              kKvmGetXsave2 == 0x9000aecf);

}  // namespace tsvmm
