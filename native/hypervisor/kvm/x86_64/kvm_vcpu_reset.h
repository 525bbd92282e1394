#pragma once

#include <cstdint>

namespace tsvmm {

/// Takes from a vCPU that its guest has given up what an INIT leaves as it is, or that would keep
/// the INIT away (SDM vol. 3 table 10-1; KVM does the rest when the guest sends it one): it waits
/// for one as after power-on. MSRs are the caller's. On the vCPU's thread, not in KVM_RUN. Throws
/// Error.
void reset_kvm_vcpu(int vcpu_fd, uint32_t apic_id);

}  // namespace tsvmm
