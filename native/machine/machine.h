#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/cancellation.h"
#include "core/cbor_writer.h"
#include "core/error.h"
#include "core/message.h"
#include "hypervisor/hypervisor.h"
#include "machine/machine_event.h"
#include "machine/machine_parts.h"
#include "machine/machine_spec.h"
#include "machine/machine_state.h"

namespace tsvmm {

/// One virtual machine: memory, vCPUs and devices, from its making to its end.
///
/// build, boot, pause, resume, operate, plug, finish_unplug, plug_vcpus, add_memory and destroy may
/// take long and come from one thread at a time. The rest may come from any thread at any time and
/// returns at once. All but destroy and cancel throw Error EBUSY while another operation is at
/// work, and ERR_TSVMM_NO_MACHINE before boot or after destroy.
class Machine {
 public:
  using MakeVm = std::function<std::unique_ptr<Vm>(GuestMemory& memory, uint32_t highest_vcpu_id)>;

  /// How long a vCPU or a device may take to come to rest.
  static constexpr std::chrono::seconds kTimeout{10};
  /// How long the host may take to set up all vCPUs of a machine.
  static constexpr std::chrono::seconds kBootTimeout{60};

  /// Bytes of a VM generation id.
  static constexpr size_t kVmGenerationSize = 16;

  /// `events` outlives the machine. At most one event that ends the run is emitted, and none after
  /// destroy().
  Machine(MachineSpec spec, MachineEventSink& events);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Makes what does not depend on the payload. Throws Error.
  void build(const MakeVm& make_vm);
  /// The same, but what it fails with is what boot() then throws.
  void try_build(const MakeVm& make_vm) noexcept;
  /// Loads the payload, makes the devices, lets the guest run, or, if the specification says so,
  /// leaves that to resume(). After build(), once. Throws Error, ETIMEDOUT with the vCPU that is
  /// not set up in time.
  void boot(BootSpec boot, std::chrono::milliseconds timeout = kBootTimeout);
  /// Throws Error, ETIMEDOUT if something does not come to rest: its message says what. The guest
  /// then goes on as before.
  void pause(std::chrono::milliseconds timeout = kTimeout);
  void resume();
  /// Carries out a control operation of a device, which may write one item as its answer. Throws
  /// Error, ERR_TSVMM_NO_DEVICE if there is no such device, ETIMEDOUT if it does not answer.
  void operate(const std::string& id, std::string_view operation, Fields& arguments,
               CborWriter& answer, std::chrono::milliseconds timeout = kTimeout);
  /// Makes a device and tells the guest of it. Throws Error; nothing is added then.
  void plug(PciFunctionSpec device);
  /// Ends and frees a device that the guest has ejected or, with `force`, did not. Throws Error
  /// ERR_TSVMM_NO_DEVICE; EBUSY if it is still the guest's; ETIMEDOUT if it does not come to its
  /// end, and the call may be repeated.
  void finish_unplug(const std::string& id, bool force,
                     std::chrono::milliseconds timeout = kTimeout);
  /// Gives the guest `size` bytes more, and tells it. Throws Error, ENOSPC if there is no place for
  /// them; nothing is added then.
  void add_memory(uint64_t size);
  /// Makes vCPUs, or takes back such that the guest has given up, and tells the guest, of which
  /// kVcpuStarted then tells for each. Throws Error; none is added then.
  void plug_vcpus(const std::vector<LateVcpu>& vcpus, std::chrono::milliseconds timeout = kTimeout);
  /// Stops everything and frees it. Idempotent, also before boot(). Throws Error ETIMEDOUT if
  /// something does not come to its end: the machine is gone for its owner then, but its memory and
  /// files are kept until that has.
  void destroy(std::chrono::milliseconds timeout = kTimeout);
  /// Cancels the machine: operations in progress, or begun later, fail with ECANCELED as soon as
  /// they can. Only destroy() is left. Any thread; returns at once.
  void cancel() noexcept { cancellation_.request(); }

  void press_power_button();
  /// Asks the guest to give up a device, which kDeviceEjected follows. Throws Error
  /// ERR_TSVMM_NO_DEVICE.
  void request_unplug(const std::string& id);
  /// Asks the guest to give up all vCPUs from `first` on, but for vCPU 0; kVcpuEjected follows for
  /// each. Throws Error.
  void request_vcpu_unplug(unsigned first);
  void inject_nmi();
  /// Gives the VM another generation id and tells the guest.
  void set_vm_generation(std::span<const uint8_t, kVmGenerationSize> id);
  /// Of each device that counts.
  [[nodiscard]] std::vector<DeviceCounters> counters();
  /// What is so at this moment, of each device that tells.
  [[nodiscard]] std::vector<DeviceCounters> status();
  [[nodiscard]] PostCodeState post_code();
  /// Of each vCPU, by index.
  [[nodiscard]] std::vector<VcpuStatistics> vcpu_statistics();

  /// For a debugger: no vCPU runs from the return on until debug_resume(), be the machine resumed
  /// meanwhile or not. Devices go on. Slow, as pause() is. Throws Error, ETIMEDOUT if a vCPU does
  /// not leave the guest; it then goes on as before.
  void debug_stop(std::chrono::milliseconds timeout = kTimeout);
  /// Throws Error EBUSY unless debug_stop() was before.
  void debug_resume(const std::vector<VcpuGroup::DebugOrder>& orders, const DebugTraps& traps);
  /// Has `use` look at a vCPU while the machine is stopped. Throws Error, EBUSY if it is not.
  void debug_vcpu(unsigned index, const std::function<void(VcpuDebug&)>& use);
  /// Guest-physical; RAM only, so that no file's end and no hanging store is met. False, with
  /// nothing done, unless all of it is RAM.
  [[nodiscard]] bool debug_read(GuestAddress address, std::span<uint8_t> into);
  [[nodiscard]] bool debug_write(GuestAddress address, std::span<const uint8_t> from);

 private:
  [[nodiscard]] MachineState::Transition begin(MachineState::Operation operation);
  [[nodiscard]] bool hold_vcpus(const Deadline& deadline);
  [[nodiscard]] CpuHotplug& cpu_hotplug() const;
  [[nodiscard]] bool is_ram(GuestAddress address, uint64_t length) const;
  [[nodiscard]] Deadline deadline(std::chrono::milliseconds timeout) const;

  MachineSpec spec_;
  Cancellation cancellation_;
  MachineState state_;
  std::optional<Error> build_failure_;   ///< of try_build()
  std::unique_ptr<MachineParts> parts_;  ///< nullptr after destroy()
};

}  // namespace tsvmm
