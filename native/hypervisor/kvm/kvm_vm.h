#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "hypervisor/hypervisor.h"
#include "hypervisor/kvm/empty_vm.h"
#include "hypervisor/kvm/irq_router.h"

namespace tsvmm {

/// A KVM virtual machine; what each architecture adds is in kvm_arch.h.
class KvmVm : public Vm, public MemoryListener {
 public:
  /// Memory is registered before the interrupt controllers are made: the other order waits for a
  /// grace period for each region. `highest_vcpu_id` is the largest that create_vcpu() will be
  /// given. Throws Error.
  KvmVm(EmptyVm empty, GuestMemory& memory, uint32_t highest_vcpu_id);
  ~KvmVm() override;

  std::unique_ptr<Interrupt> create_msi() override;
  std::unique_ptr<Interrupt> create_wired_interrupt(unsigned gsi) override;
  std::unique_ptr<DoorbellRegistration> register_doorbell(GuestAddress address,
                                                          const EventFd& event) override;
  /// May be called again for an id whose vCPU could not be made, or is gone.
  std::unique_ptr<Vcpu> create_vcpu(uint32_t id) override;
  void save_clock() noexcept override;
  void restore_clock() noexcept override;
  void begin_teardown() noexcept override { router_->abandon(); }

  void region_added(const MemoryRegion& region) override;
  void region_removed(const MemoryRegion& region) override;

 private:
  [[nodiscard]] int vcpu_fd(uint32_t id);

  GuestMemory& memory_;
  KvmDevice kvm_;
  UniqueFd vm_;
  std::mutex vcpu_mutex_;
  std::map<uint32_t, UniqueFd> vcpu_fds_;  ///< KVM creates each vCPU once in the life of its VM
  std::shared_ptr<IrqRouter> router_;
  std::vector<bool> slots_;             ///< by slot number: taken
  std::vector<uint64_t> slot_address_;  ///< by slot number: the region's guest address
  uint64_t saved_clock_ = 0;
  uint64_t saved_realtime_ = 0;
  bool clock_saved_ = false;
  bool clock_has_realtime_ = false;
};

/// Makes a machine's VM, in `precreated` if there is one.
[[nodiscard]] std::function<std::unique_ptr<Vm>(GuestMemory& memory, uint32_t highest_vcpu_id)>
kvm_maker(std::shared_ptr<PrecreatedVm> precreated);

}  // namespace tsvmm
