#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "hypervisor/hypervisor.h"
#include "hypervisor/kvm/empty_vm.h"
#include "hypervisor/kvm/irq_router.h"

namespace tsvmm {

/// A KVM virtual machine with local APICs in the kernel and the I/O APIC in user space (split
/// irqchip).
class KvmVm : public Vm, public MemoryListener {
 public:
  /// Memory is registered before the interrupt controllers are made: the other order waits for a
  /// grace period for each region. `highest_apic_id` above 254 turns 32-bit APIC ids on. Throws
  /// Error.
  KvmVm(EmptyVm empty, GuestMemory& memory, uint32_t highest_apic_id);
  ~KvmVm() override;

  std::unique_ptr<InterruptLine> create_line() override;
  std::unique_ptr<InterruptLine> create_ioapic_line(unsigned pin) override;
  std::unique_ptr<Doorbell> create_doorbell(GuestAddress address, const EventFd& event) override;
  std::unique_ptr<Vcpu> create_vcpu(uint32_t apic_id) override;
  void save_clock() noexcept override;
  void restore_clock() noexcept override;
  void prepare_to_go() noexcept override { router_->abandon(); }

  void region_added(const MemoryRegion& region) override;
  void region_removed(const MemoryRegion& region) override;

 private:
  void create_interrupt_controllers(uint32_t highest_apic_id);

  GuestMemory& memory_;
  KvmDevice kvm_;
  UniqueFd vm_;
  std::shared_ptr<IrqRouter> router_;
  std::vector<bool> slots_;             ///< by slot number: taken
  std::vector<uint64_t> slot_address_;  ///< by slot number: the region's guest address
  uint64_t saved_clock_ = 0;
  uint64_t saved_realtime_ = 0;
  bool clock_saved_ = false;
  bool clock_has_realtime_ = false;
};

/// Makes a machine's VM, in `spare` if there is one.
[[nodiscard]] std::function<std::unique_ptr<Vm>(GuestMemory& memory, uint32_t highest_apic_id)>
kvm_maker(std::shared_ptr<SpareVm> spare);

}  // namespace tsvmm
