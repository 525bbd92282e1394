#pragma once

#include <linux/kvm.h>

#include "hypervisor/vcpu_debug.h"

namespace tsvmm {

/// KVM_SET_GUEST_DEBUG and what belongs to it, of one vCPU.
class KvmVcpuDebug final : public VcpuDebug {
 public:
  /// `kvm_fd` and `vcpu_fd` stay open as long as this lives, and `run` mapped.
  KvmVcpuDebug(int kvm_fd, int vcpu_fd, const kvm_run& run)
      : kvm_fd_(kvm_fd), vcpu_fd_(vcpu_fd), run_(run) {}

  void set_traps(const DebugTraps& traps, bool single_step) override;
  std::vector<uint8_t> registers(RegisterSet set) override;
  void set_registers(RegisterSet set, std::span<const uint8_t> bytes) override;
  std::optional<GuestAddress> translate(uint64_t address) override;

  /// After KVM_EXIT_DEBUG, on the vCPU's thread: what stopped it. nullopt if that was an exception
  /// of the guest's own.
  [[nodiscard]] std::optional<DebugStop> own_stop() const noexcept;
  /// Has the guest's next run begin with that exception. Returns 0, or an errno: EBUSY if KVM has
  /// another one for it, where this one would be lost.
  [[nodiscard]] int give_to_guest() noexcept;

 private:
  [[nodiscard]] std::vector<uint8_t> xsave_area() const;
  void set_vector_registers(std::span<const uint8_t> bytes) const;
  [[nodiscard]] bool tell_cause() const noexcept;
  [[nodiscard]] uint32_t block_interrupts() const noexcept;

  const int kvm_fd_;
  const int vcpu_fd_;
  const kvm_run& run_;
  DebugTraps traps_;
  kvm_guest_debug control_{};  ///< what KVM was told last
};

}  // namespace tsvmm
