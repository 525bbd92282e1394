#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/cancellation.h"
#include "hypervisor/hypervisor.h"
#include "hypervisor/kvm/empty_vm.h"
#include "machine/machine_event.h"
#include "machine/machine_spec.h"
#include "machine/vcpu_group.h"
#include "machine/x86_64/platform_devices.h"
#include "memory/guest_memory.h"

namespace tsvmm {

/// One virtual machine: memory, vCPUs and devices, from its making to its end.
///
/// build, boot, pause, resume, resize_disk and destroy may take long and come from one thread at a
/// time. The rest may come from any thread at any time and returns at once: it throws Error EBUSY
/// while one of those is at work, and ERR_TSVMM_NO_MACHINE before boot or after destroy.
class Machine {
 public:
  /// `events` outlives the machine. At most one event that ends the run is emitted, and none after
  /// destroy().
  Machine(MachineSpec spec, MachineEventSink& events);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Makes what does not depend on the payload, in `spare` if there is one. Throws Error.
  void build(SpareVm* spare = nullptr);
  /// Loads the payload, makes the devices, lets the guest run. After build(), once. Throws Error.
  void boot(BootSpec boot);
  void pause();
  void resume();
  /// Throws Error, ERR_TSVMM_NO_DEVICE if there is no such disk.
  void resize_disk(const std::string& id, uint64_t bytes);
  /// Stops everything and frees it. Idempotent, also before boot().
  void destroy();
  /// destroy() is about to come: build() or boot(), if at work, need not end what they do. Any
  /// thread; returns at once.
  void cancel() noexcept { cancellation_.request(); }

  void press_power_button();
  void inject_nmi();
  void resize_console(uint16_t columns, uint16_t rows);
  /// Gives the VM another generation id and tells the guest.
  void set_vm_generation(std::span<const uint8_t, 16> id);
  /// Wishes that the guest puts `size` bytes into its balloon; throws Error ENODEV if it has none.
  void resize_balloon(uint64_t size);
  /// Bytes that are in it now.
  [[nodiscard]] uint64_t balloon_size();
  [[nodiscard]] std::vector<PlatformDevices::DeviceCounters> counters();
  [[nodiscard]] PostCodeState post_code();

 private:
  void report(MachineEvent event) noexcept;
  void on_vcpu_exit(unsigned index, const VcpuExit& exit);
  [[nodiscard]] std::unique_lock<std::mutex> lock_running();

  MachineSpec spec_;
  MachineEventSink& events_;
  std::atomic<bool> ended_ =
      false;  ///< the event that ends the run is out, or nobody wants it any more

  Cancellation cancellation_;

  std::mutex mutex_;
  // In the order in which they are needed: destroyed from below.
  GuestAddress vm_generation_ = 0;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<PlatformDevices> devices_;
  std::unique_ptr<VcpuGroup> vcpus_;
};

}  // namespace tsvmm
