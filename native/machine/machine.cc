#include "machine/machine.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/error.h"
#include "hypervisor/kvm/kvm_vm.h"
#include "machine/image_loader.h"

namespace tsvmm {
namespace {

const char* name_of(VcpuExit::Reason reason) {
  switch (reason) {
    case VcpuExit::Reason::kInternalError:
      return "internal-error";
    case VcpuExit::Reason::kFailEntry:
      return "fail-entry";
    case VcpuExit::Reason::kRunFailed:
      return "run-failed";
    default:
      return "unexpected-exit";
  }
}

}  // namespace

Machine::Machine(MachineSpec spec, MachineEventSink& events)
    : spec_(std::move(spec)), events_(events) {}

Machine::~Machine() { destroy(); }

void Machine::build(SpareVm* spare) {
  const std::lock_guard lock(mutex_);
  uint32_t highest_apic_id = 0;
  for (const VcpuPlacement& vcpu : spec_.vcpus) {
    highest_apic_id = std::max(highest_apic_id, vcpu.apic_id);
  }
  memory_ = std::make_unique<GuestMemory>(spec_.memory, spec_.memory_options);
  vm_ = std::make_unique<KvmVm>(spare != nullptr ? spare->take() : EmptyVm{}, *memory_,
                                highest_apic_id);
  vcpus_ = std::make_unique<VcpuGroup>(
      *vm_, [this](unsigned index, const VcpuExit& exit) { on_vcpu_exit(index, exit); });
  vcpus_->create(spec_.vcpus);
}

void Machine::boot(BootSpec boot) {
  const std::lock_guard lock(mutex_);
  if (!vcpus_ || devices_) throw Error("ERR_TSVMM_NO_MACHINE", "this machine cannot be booted");
  vcpus_->set_up(std::move(boot.vcpus));  // on their threads, meanwhile
  load_images(*memory_, boot.load, cancellation_);
  vm_generation_ = boot.vm_generation;
  devices_ =
      std::make_unique<PlatformDevices>(boot, *memory_, *vm_, cancellation_,
                                        [this](MachineEvent event) { report(std::move(event)); });
  vcpus_->start(*devices_);
}

void Machine::pause() {
  const std::lock_guard lock(mutex_);
  if (!devices_) throw Error("ERR_TSVMM_NO_MACHINE", "this machine does not run");
  vcpus_->pause();
  vm_->save_clock();
  try {
    devices_->pause();
  } catch (...) {
    // The guest goes on rather than staying half paused.
    vm_->restore_clock();
    devices_->resume();
    vcpus_->resume();
    throw;
  }
}

void Machine::resume() {
  const std::lock_guard lock(mutex_);
  if (!devices_) throw Error("ERR_TSVMM_NO_MACHINE", "this machine does not run");
  vm_->restore_clock();
  devices_->resume();
  vcpus_->resume();
}

void Machine::resize_disk(const std::string& id, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!devices_) throw Error("ERR_TSVMM_NO_MACHINE", "this machine does not run");
  devices_->resize_disk(id, bytes);
}

void Machine::destroy() {
  ended_.store(true);
  const std::lock_guard lock(mutex_);
  // vCPUs use the devices until they are joined; a device's thread may report to the vCPUs until
  // the devices are gone.
  if (vcpus_) vcpus_->join();
  if (vm_) vm_->prepare_to_go();
  devices_.reset();
  vcpus_.reset();
  vm_.reset();
  memory_.reset();
}

void Machine::press_power_button() {
  const auto lock = lock_running();
  devices_->press_power_button();
}

void Machine::inject_nmi() {
  const auto lock = lock_running();
  vcpus_->inject_nmi();
}

void Machine::resize_console(uint16_t columns, uint16_t rows) {
  const auto lock = lock_running();
  devices_->resize_console(columns, rows);
}

void Machine::set_vm_generation(std::span<const uint8_t, 16> id) {
  const auto lock = lock_running();
  if (!memory_->write(vm_generation_, id)) {
    throw Error("EINVAL", "the VM generation id is outside memory");
  }
  devices_->vm_generation_changed();
}

void Machine::resize_balloon(uint64_t size) {
  const auto lock = lock_running();
  if (!devices_->resize_balloon(size)) throw Error("ENODEV", "the machine has no balloon");
}

uint64_t Machine::balloon_size() {
  const auto lock = lock_running();
  return devices_->balloon_size();
}

std::vector<PlatformDevices::DeviceCounters> Machine::counters() {
  const auto lock = lock_running();
  return devices_->counters();
}

PostCodeState Machine::post_code() {
  const auto lock = lock_running();
  return devices_->post_code();
}

std::unique_lock<std::mutex> Machine::lock_running() {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) throw Error("EBUSY", "the machine is being changed");
  if (!devices_) throw Error("ERR_TSVMM_NO_MACHINE", "this machine does not run");
  return lock;
}

void Machine::report(MachineEvent event) noexcept {
  if (event.ends_run()) {
    if (ended_.exchange(true)) return;
    vcpus_->stop();
  }
  events_.emit(std::move(event));
}

void Machine::on_vcpu_exit(unsigned index, const VcpuExit& exit) {
  // KVM answers so where the host has nothing behind a page of the guest's.
  if (exit.reason == VcpuExit::Reason::kRunFailed && exit.code == EFAULT &&
      devices_->repair_memory()) {
    return;
  }
  MachineEvent event{};
  event.vcpu = index;
  if (exit.reason == VcpuExit::Reason::kTripleFault) {
    event.type = MachineEvent::Type::kReset;
    event.reason = "triple-fault";
  } else {
    event.type = MachineEvent::Type::kVcpuError;
    event.reason = name_of(exit.reason);
    event.code = exit.code;
    event.detail = exit.detail;
  }
  report(std::move(event));
  // Also if somebody else's event came first: this vCPU must not enter the guest again.
  vcpus_->stop();
}

}  // namespace tsvmm
