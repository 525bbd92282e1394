#include "machine/machine.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/error.h"
#include "core/scope_exit.h"
#include "machine/image_loader.h"
#include "machine/zone_files.h"

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

void report_exit(EventGate& events, unsigned index, const VcpuExit& exit) {
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
  events.report(std::move(event));
}

void report_debug_stop(EventGate& events, unsigned index, const DebugStop& stop) {
  MachineEvent event{};
  event.type = MachineEvent::Type::kDebugStop;
  event.vcpu = index;
  event.stop = stop;
  events.report(std::move(event));
}

/// KVM answers EFAULT where the host has nothing behind a page of the guest's.
bool repair_memory(MachineParts& parts) {
  const bool device = parts.devices->repair_memory();
  return repair_zone_files(*parts.memory) || device;
}

/// On the vCPU's thread. Most exits end the run, also where another event was first: that vCPU must
/// not enter the guest again.
void vcpu_exited(MachineParts& parts, unsigned index, const VcpuExit& exit) {
  switch (exit.reason) {
    case VcpuExit::Reason::kStarted:
      return parts.events->report(vcpu_event(MachineEvent::Type::kVcpuStarted, index));
    case VcpuExit::Reason::kDebug:
      parts.vcpus->hold();
      return report_debug_stop(*parts.events, index, exit.stop);
    case VcpuExit::Reason::kRunFailed:
      if (exit.code == EFAULT && repair_memory(parts)) return;
      break;
    default:
      break;
  }
  report_exit(*parts.events, index, exit);
  parts.vcpus->stop();
}

std::string join(const std::vector<std::string>& sentences) {
  std::string joined;
  for (const std::string& sentence : sentences) joined += (joined.empty() ? "" : "; ") + sentence;
  return joined;
}

}  // namespace

using Operation = MachineState::Operation;

Machine::Machine(MachineSpec spec, MachineEventSink& events)
    : spec_(std::move(spec)), parts_(std::make_unique<MachineParts>()) {
  parts_->events = std::make_shared<EventGate>(events);
}

Machine::~Machine() {
  try {
    destroy();
  } catch (const Error&) {
    // What is left of it is kept.
  }
}

void Machine::build(const MakeVm& make_vm) {
  auto building = begin(Operation::kBuild);
  MachineParts& parts = *parts_;
  parts.zone_files = zones_with_files(spec_.memory);
  parts.memory =
      std::make_unique<GuestMemory>(std::move(spec_.memory), cancellation_, spec_.memory_growth);
  parts.vm = make_vm(*parts.memory, spec_.highest_vcpu_id);
  parts.vcpus = std::make_unique<VcpuGroup>(
      *parts.vm,
      [&parts](unsigned index, const VcpuExit& exit) { vcpu_exited(parts, index, exit); });
  parts.events->on_end_of_run([&parts] { parts.vcpus->stop(); });
  parts.vcpus->create(spec_.vcpus);
  cancellation_.check();
  building.commit();
}

void Machine::try_build(const MakeVm& make_vm) noexcept {
  build_failure_ = attempt([&] { build(make_vm); });
}

void Machine::boot(BootSpec boot, std::chrono::milliseconds timeout) {
  // What called the building off says less than that there is no machine any more.
  if (build_failure_ && state_.phase() != MachineState::Phase::kEnded) throw *build_failure_;
  auto booting = begin(boot.paused ? Operation::kBootPaused : Operation::kBoot);
  MachineParts& parts = *parts_;
  if (boot.entry) parts.vcpus->enter(std::move(boot.entry));  // on its thread, meanwhile
  load_images(*parts.memory, boot.load, cancellation_);
  parts.vm_generation = boot.vm_generation;
  const EventReport report = [events = parts.events](MachineEvent event) {
    events->report(std::move(event));
  };
  parts.devices =
      std::make_unique<DeviceSet>(boot.pci, *parts.memory, *parts.vm, cancellation_, report);
  watch_zone_files(*parts.memory, parts.zone_files, parts.devices->loop(), report);
  parts.board =
      make_board(*boot.board, *parts.devices, *parts.vm, report, [&parts, report](unsigned vcpu) {
        parts.vcpus->remove(vcpu);
        report(vcpu_event(MachineEvent::Type::kVcpuEjected, vcpu));
      });
  parts.devices->add_functions(boot.pci);
  if (boot.held) parts.vcpus->hold();
  const auto late = parts.vcpus->start(parts.board->accesses(), deadline(timeout), boot.paused);
  parts.devices->start();
  cancellation_.check();
  if (late) {
    throw Error("ETIMEDOUT", "the host does not set up vCPU " + std::to_string(*late) + " in time");
  }
  if (boot.paused) {
    parts.vm->save_clock();
    parts.devices->begin_pause();
    parts.devices->wait_paused(deadline(kTimeout));
  }
  booting.commit();
}

void Machine::pause(std::chrono::milliseconds timeout) {
  auto pausing = begin(Operation::kPause);
  const Deadline until = deadline(timeout);
  MachineParts& parts = *parts_;
  (void)hold_vcpus(until);
  parts.vm->save_clock();
  parts.devices->begin_pause();
  try {
    parts.devices->wait_paused(until);
  } catch (...) {
    // The guest goes on rather than staying half paused.
    parts.vm->restore_clock();
    parts.devices->resume();
    parts.vcpus->resume();
    cancellation_.check();
    throw;
  }
  pausing.commit();
}

/// Until VcpuGroup::resume(). False if the guest did not run.
bool Machine::hold_vcpus(const Deadline& deadline) {
  VcpuGroup& vcpus = *parts_->vcpus;
  if (!vcpus.begin_pause()) return false;
  if (const auto vcpu = vcpus.wait_paused(deadline)) {
    vcpus.resume();
    cancellation_.check();
    throw Error("ETIMEDOUT", "vCPU " + std::to_string(*vcpu) + " does not leave the guest");
  }
  return true;
}

void Machine::resume() {
  auto resuming = begin(Operation::kResume);
  parts_->vm->restore_clock();
  parts_->devices->resume();
  parts_->vcpus->resume();
  resuming.commit();
}

void Machine::operate(const std::string& id, std::string_view operation, Fields& arguments,
                      CborWriter& answer, std::chrono::milliseconds timeout) {
  // The device stays: it goes at destroy(), which does not come at the same time.
  auto lock = state_.use();
  const DeviceOperation found = parts_->devices->operation(id, operation, arguments);
  arguments.check_used();
  if (!found.exclusive) return found.run(answer, Deadline::now());
  lock.unlock();
  auto changing = begin(Operation::kChange);
  found.run(answer, deadline(timeout));
  changing.commit();
}

void Machine::plug(PciFunctionSpec device) {
  auto changing = begin(Operation::kChange);
  parts_->devices->plug(device);
  changing.commit();
}

void Machine::finish_unplug(const std::string& id, bool force, std::chrono::milliseconds timeout) {
  auto changing = begin(Operation::kChange);
  const Deadline until = deadline(timeout);
  MachineParts& parts = *parts_;
  // Other devices are held then, which drivers must not reset meanwhile.
  const bool held = parts.devices->has_memory(id) && hold_vcpus(until);
  const ScopeExit let_go([&] {
    if (held) parts.vcpus->resume();
  });
  parts.devices->finish_unplug(id, force, until);
  changing.commit();
}

void Machine::add_memory(uint64_t size) {
  auto changing = begin(Operation::kChange);
  if (!parts_->board->takes_memory()) throw Error("ENOTSUP", "the guest has no slots for memory");
  parts_->board->memory_added(parts_->memory->add(size, cancellation_));
  changing.commit();
}

void Machine::plug_vcpus(const std::vector<LateVcpu>& vcpus, std::chrono::milliseconds timeout) {
  auto changing = begin(Operation::kChange);
  CpuHotplug& controller = cpu_hotplug();
  std::vector<unsigned> added;
  added.reserve(vcpus.size());
  for (const LateVcpu& vcpu : vcpus) {
    if (vcpu.index >= controller.most()) throw Error("EINVAL", "the guest knows no such vCPU");
    added.push_back(vcpu.index);
  }
  parts_->vcpus->add(vcpus, deadline(timeout));
  controller.insert(added);
  changing.commit();
}

void Machine::destroy(std::chrono::milliseconds timeout) {
  if (state_.phase() == MachineState::Phase::kEnded) return;
  auto ending = state_.begin(Operation::kEnd);
  const std::shared_ptr<EventGate> events = parts_->events;
  events->end_run();
  const std::vector<std::string> waiting = parts_->stop(Deadline::after(timeout));
  events->close();
  if (!waiting.empty()) {
    MachineParts::leave_behind(std::move(parts_));
    throw Error("ETIMEDOUT", join(waiting) + ". Memory and files are kept until then");
  }
  parts_.reset();
}

MachineState::Transition Machine::begin(Operation operation) {
  // One that has ended is refused for that, not for what called it off.
  if (state_.phase() != MachineState::Phase::kEnded) cancellation_.check();
  return state_.begin(operation);
}

Deadline Machine::deadline(std::chrono::milliseconds timeout) const {
  return Deadline::after(timeout).unless(cancellation_);
}

void Machine::request_unplug(const std::string& id) {
  const auto lock = state_.use();
  parts_->devices->request_unplug(id);
}

void Machine::request_vcpu_unplug(unsigned first) {
  const auto lock = state_.use();
  cpu_hotplug().request_removal(first);
}

CpuHotplug& Machine::cpu_hotplug() const {
  CpuHotplug* const controller = parts_->board->cpu_hotplug();
  if (controller != nullptr) return *controller;
  throw Error("ENOTSUP", "the vCPUs of this machine are there for good");
}

void Machine::press_power_button() {
  const auto lock = state_.use();
  parts_->board->press_power_button();
}

void Machine::inject_nmi() {
  const auto lock = state_.use();
  parts_->vcpus->inject_nmi();
}

void Machine::set_vm_generation(std::span<const uint8_t, kVmGenerationSize> id) {
  const auto lock = state_.use();
  if (!parts_->memory->write(parts_->vm_generation, id)) {
    throw Error("EINVAL", "the VM generation id is outside memory");
  }
  parts_->board->vm_generation_changed();
}

std::vector<DeviceCounters> Machine::counters() {
  const auto lock = state_.use();
  return parts_->devices->counters();
}

std::vector<DeviceCounters> Machine::status() {
  const auto lock = state_.use();
  return parts_->devices->status();
}

PostCodeState Machine::post_code() {
  const auto lock = state_.use();
  return parts_->board->post_code();
}

std::vector<VcpuStatistics> Machine::vcpu_statistics() {
  const auto lock = state_.use();
  return parts_->vcpus->statistics();
}

void Machine::debug_stop(std::chrono::milliseconds timeout) {
  auto stopping = begin(Operation::kChange);
  VcpuGroup& vcpus = *parts_->vcpus;
  vcpus.hold();
  if (const auto vcpu = vcpus.wait_paused(deadline(timeout))) {
    vcpus.unhold();
    cancellation_.check();
    throw Error("ETIMEDOUT", "vCPU " + std::to_string(*vcpu) + " does not leave the guest");
  }
  stopping.commit();
}

void Machine::debug_resume(const std::vector<VcpuGroup::DebugOrder>& orders,
                           const DebugTraps& traps) {
  const auto lock = state_.use();
  parts_->vcpus->release(orders, traps);
}

void Machine::debug_vcpu(unsigned index, const std::function<void(VcpuDebug&)>& use) {
  const auto lock = state_.use();
  parts_->vcpus->with_debug(index, use);
}

bool Machine::debug_read(GuestAddress address, std::span<uint8_t> into) {
  const auto lock = state_.use();
  return is_ram(address, into.size()) && parts_->memory->read(address, into);
}

bool Machine::debug_write(GuestAddress address, std::span<const uint8_t> from) {
  const auto lock = state_.use();
  return is_ram(address, from.size()) && parts_->memory->write(address, from);
}

bool Machine::is_ram(GuestAddress address, uint64_t length) const {
  for (const MemoryRegion& region : parts_->memory->regions()) {
    if (address < region.address || address - region.address >= region.size) continue;
    const uint64_t here = region.size - (address - region.address);
    if (length <= here) return true;
    // The rest may be in the next region.
    address += here;
    length -= here;
  }
  return false;
}

}  // namespace tsvmm
