#pragma once

#include <linux/kvm.h>
#include <pthread.h>

#include <atomic>
#include <optional>

#include "hypervisor/hypervisor.h"
#include "hypervisor/kvm/kvm_device.h"
#include "hypervisor/kvm/kvm_statistics.h"
#include "hypervisor/kvm/x86_64/kvm_vcpu_debug.h"
#include "hypervisor/x86_64/access_handler.h"
#include "hypervisor/x86_64/exit_counters.h"
#include "hypervisor/x86_64/vcpu_setup.h"

namespace tsvmm {

/// An x86 vCPU of KVM. Its kick is SIGRTMIN, blocked outside KVM_RUN and let through inside it, so
/// that no handler is ever needed: the signal ends KVM_RUN and is then taken off the queue.
class KvmVcpu : public Vcpu {
 public:
  /// `kvm` and `fd`, the vCPU's descriptor, outlive it. KVM makes the id that the vCPU was created
  /// with its initial APIC id. Throws Error.
  KvmVcpu(const KvmDevice& kvm, int fd, uint32_t apic_id);
  ~KvmVcpu() override;

  void set_up(const VcpuSetup& setup) override;
  void set_entry(const VcpuEntry& entry) override;
  void reset(const VcpuSetup& setup) override;
  VcpuExit run(AccessHandler& handler) override;
  void kick() noexcept override;
  void inject_nmi() noexcept override;
  void mark_paused() noexcept override;
  VcpuDebug& debug() noexcept override { return *debug_; }
  VcpuStatistics statistics() const override;

 private:
  void let_kick_through();
  void set_cpuid(const std::vector<uint8_t>& entries);
  void set_msrs(const std::vector<uint8_t>& entries);
  void set_local_apic();
  [[nodiscard]] bool waits_for_init() const;
  void take_kick() noexcept;
  void serve_port(AccessHandler& handler);
  void serve_mmio(AccessHandler& handler);
  [[nodiscard]] VcpuExit failure(VcpuExit::Reason reason, uint64_t code) const;
  [[nodiscard]] std::string describe_registers() const;

  const int fd_;
  const uint32_t apic_id_;
  const pthread_t thread_;
  const pid_t thread_id_;
  kvm_run* run_ = nullptr;
  size_t run_size_ = 0;
  std::atomic<bool> nmi_wanted_ = false;
  std::optional<KvmVcpuDebug> debug_;
  std::optional<KvmStatistics> statistics_;
  ExitCounters exits_;
};

}  // namespace tsvmm
