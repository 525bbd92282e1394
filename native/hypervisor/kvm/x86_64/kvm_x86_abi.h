#pragma once

#include "hypervisor/kvm/kvm_abi.h"

namespace tsvmm {

// As in kvm_abi.h: the requests of x86 whose structures end in a flexible array.

inline constexpr unsigned long kKvmGetSupportedCpuid = _IOWR(KVMIO, 0x05, KvmCountHeader);
inline constexpr unsigned long kKvmGetMsrs = _IOWR(KVMIO, 0x88, KvmCountHeader);
inline constexpr unsigned long kKvmSetMsrs = _IOW(KVMIO, 0x89, KvmCountHeader);
inline constexpr unsigned long kKvmSetCpuid2 = _IOW(KVMIO, 0x90, KvmCountHeader);

static_assert(kKvmGetSupportedCpuid == 0xc008ae05 && kKvmGetMsrs == 0xc008ae88 &&
              kKvmSetMsrs == 0x4008ae89 && kKvmSetCpuid2 == 0x4008ae90);

}  // namespace tsvmm
