#include "machine/device_set.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "core/scope_exit.h"
#include "device/pvpanic.h"
#include "pci/host_bridge.h"
#include "pci/register_function.h"
#include "virtio/device_kind.h"
#include "virtio/pci_transport.h"

namespace tsvmm {
namespace {

/// How long one device that does not stop is waited for before the others are looked at again.
constexpr std::chrono::milliseconds kStopSlice{100};

/// Of the loop that they share.
constexpr const char* kLoopDoesNotAnswer =
    "the host's end of a serial port or console does not answer";

/// QEMU's "pvpanic" specification: the ids are Red Hat's. The register has a page to itself.
constexpr PciIdentity kPvpanicIdentity{.vendor = 0x1b36,
                                       .device = 0x0011,
                                       .revision = 1,
                                       .class_code = 0x08 /* base system peripheral */,
                                       .subclass = 0x80 /* other */};
constexpr uint64_t kPvpanicBarSize = 4096;

/// How an IOMMU's driver calls a function: by segment, bus, device and function, as the VIOT table
/// does.
uint32_t endpoint_id(const PciPlace& place) {
  constexpr unsigned kSegmentShift = 16;
  return place.segment << kSegmentShift | place.slot * PciRoot::kFunctionsPerSlot;
}

}  // namespace

DeviceSet::DeviceSet(const PciSpec& pci, GuestMemory& memory, InterruptFabric& fabric,
                     const Cancellation& cancellation, EventReport report)
    : memory_(memory),
      fabric_(fabric),
      cancellation_(cancellation),
      report_(std::move(report)),
      loop_("serial-manager", EventLoop::Start::kWhenAsked) {
  const auto window = [](const GuestMemory::Range& range) {
    return PciWindow{range.address, range.size};
  };
  if (pci.segments.empty()) throw Error("EINVAL", "there is no PCI segment");
  for (const PciSegmentSpec& spec : pci.segments) {
    const uint64_t ecam = pci.ecam + segments_.size() * PciRoot::kEcamSize;
    segments_.push_back(
        std::make_unique<PciRoot>(mmio_, window(spec.window32), window(spec.window64)));
    if (!mmio_.map(ecam, PciRoot::kEcamSize, segments_.back()->ecam())) {
      throw Error("EINVAL", "the ECAM's address is taken");
    }
  }
  segments_.front()->add(0, std::make_shared<HostBridge>());
}

PciRoot& DeviceSet::segment(unsigned number) {
  if (number < segments_.size()) return *segments_[number];
  throw Error("EINVAL", "there is no PCI segment " + std::to_string(number));
}

void DeviceSet::connect_hotplug(GuestAddress address, std::function<void()> interrupt) {
  auto hotplug = std::make_shared<PciHotplug>(segments_.size(), std::move(interrupt),
                                              [this](PciPlace place) { ejected(place); });
  if (!mmio_.map(address, PciHotplug::kSize, hotplug)) {
    throw Error("EINVAL", "the hot-plug controller's address is taken");
  }
  hotplug_ = std::move(hotplug);
}

DeviceSet::~DeviceSet() {
  (void)stop(Deadline::never());
  segments_.clear();
}

CharBackendReports DeviceSet::reports_of(const std::string& id) {
  auto errors =
      std::make_shared<OutputErrors>([id, report = report_](OutputErrors::File file, int error) {
        MachineEvent told = device_event(MachineEvent::Type::kOutputFailed, id, errno_text(error));
        told.detail = file == OutputErrors::File::kLog ? "log" : "output";
        report(std::move(told));
      });
  outputs_.push_back({id, errors});
  return {
      .escape =
          [report = report_] { report(device_event(MachineEvent::Type::kTerminalEscape, {}, {})); },
      .output_errors = std::move(errors)};
}

void DeviceSet::add_functions(PciSpec& pci) {
  for (PciFunctionSpec& spec : pci.functions) (void)add_function(spec, true);
  if (pci.pvpanic) add_pvpanic(*pci.pvpanic);
}

VirtioDevice& DeviceSet::add_function(PciFunctionSpec& spec, bool decoded) {
  PciRoot& root = segment(spec.place.segment);
  const DeviceContext context{
      .memory = memory_,
      .loop = loop_,
      .reset_machine = [report = report_](const char* cause) { report_reset(report, cause); },
      .reports_of = [this](const std::string& id) { return reports_of(id); },
      .rate_limiters = rate_limiters_,
      .cancellation = cancellation_,
      .iommu = iommu_};
  std::shared_ptr<VirtioDevice> device = spec.device->make(spec.id, context);
  VirtioPciFunction::Options options{
      .id = spec.id,
      .bar0 = spec.bar0,
      .bar0_is_64bit = spec.bar0_is_64bit,
      .bar2 = spec.bar2,
      .decoded = decoded,
      .iommu = spec.iommu ? iommu_->add_endpoint(endpoint_id(spec.place)) : nullptr};
  root.add(spec.place.slot, std::make_shared<VirtioPciFunction>(std::move(options), device, memory_,
                                                                fabric_, report_));
  const std::lock_guard lock(mutex_);
  virtio_.push_back({spec.id, spec.place, device, nullptr});
  return *device;
}

void DeviceSet::add_pvpanic(const PvpanicSpec& spec) {
  auto device = std::make_shared<Pvpanic>([report = report_](uint8_t told) {
    const char* name = told == Pvpanic::kPanicked ? "panic" : "crash_loaded";
    report(device_event(MachineEvent::Type::kGuestPanic, {}, name));
  });
  pci().add(spec.slot, std::make_shared<RegisterFunction>(kPvpanicIdentity, spec.bar0,
                                                          kPvpanicBarSize, std::move(device)));
}

std::vector<DeviceSet::Named> DeviceSet::devices() const {
  const std::lock_guard lock(mutex_);
  return virtio_;
}

DeviceSet::Named DeviceSet::named(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(virtio_, id, &Named::id);
  if (found != virtio_.end()) return *found;
  throw Error("ERR_TSVMM_NO_DEVICE", "there is no device " + id);
}

void DeviceSet::plug(PciFunctionSpec& spec) {
  VirtioDevice& device = add_function(spec, false);
  if (paused_) device.begin_pause();
  hotplug_->insert(spec.place);
}

void DeviceSet::request_unplug(const std::string& id) {
  const Named wanted = named(id);
  if (wanted.ejected == nullptr) hotplug_->request_removal(wanted.place);
}

/// On the vCPU thread of a guest that gives up a slot.
void DeviceSet::ejected(PciPlace place) {
  const std::shared_ptr<PciFunction> function = segments_[place.segment]->remove(place.slot);
  if (function == nullptr) return;
  if (auto id = leave_slot(place, function)) {
    report_(device_event(MachineEvent::Type::kDeviceEjected, *std::move(id), {}));
  }
}

/// Who was there, if it may leave.
std::optional<std::string> DeviceSet::leave_slot(PciPlace place,
                                                 const std::shared_ptr<PciFunction>& function) {
  const std::lock_guard lock(mutex_);
  const auto present = [&place](const Named& named) {
    return named.place == place && named.ejected == nullptr;
  };
  const auto found = std::ranges::find_if(virtio_, present);
  if (found != virtio_.end()) {
    found->ejected = function;
    return found->id;
  }
  const auto empty = std::ranges::find(emptied_, place, &Emptied::place);
  if (empty == emptied_.end()) return std::nullopt;
  std::string id = std::move(empty->id);
  emptied_.erase(empty);
  return id;
}

bool DeviceSet::has_memory(const std::string& id) const {
  return named(id).device->device_memory() != nullptr;
}

void DeviceSet::finish_unplug(const std::string& id, bool force, const Deadline& deadline) {
  Named wanted = named(id);
  if (wanted.ejected == nullptr) {
    if (!force) throw Error("EBUSY", id + ": the guest has not given it up yet");
    segments_[wanted.place.segment]->disconnect(wanted.place.slot);
  }
  close(wanted, deadline);
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(virtio_, id, &Named::id);
  if (found->ejected == nullptr) emptied_.push_back({id, wanted.place});
  wanted = std::move(*found);  // whose end may take its time, without the lock
  virtio_.erase(found);
}

void DeviceSet::close(const Named& ended, const Deadline& deadline) {
  VirtioDevice& device = *ended.device;
  const auto timed_out = [&] { return Error("ETIMEDOUT", ended.id + ": " + device.waits_for()); };
  if (!device.try_reset(deadline)) throw timed_out();
  if (device.device_memory() != nullptr) end_transfers(deadline);
  if (!device.try_close(deadline)) throw timed_out();
}

/// Others may be transferring to memory of a device that goes. The guest has it no more, so that
/// they find none of it from now on, and what they have found is done with once each has been
/// still.
void DeviceSet::end_transfers(const Deadline& deadline) {
  if (paused_) return;
  const ScopeExit go_on([this] { resume(); });
  begin_pause();
  wait_paused(deadline);
}

void DeviceSet::begin_pause() noexcept {
  paused_ = true;
  for (const Named& named : devices()) named.device->begin_pause();
}

void DeviceSet::wait_paused(const Deadline& deadline) {
  for (const Named& named : devices()) {
    if (named.device->wait_paused(deadline)) continue;
    throw Error("ETIMEDOUT", named.id + ": " + named.device->waits_for());
  }
  // Last, because devices with threads of their own may still have something for it.
  loop_.begin_pause();
  if (!loop_.wait_paused(deadline)) {
    throw Error("ETIMEDOUT", kLoopDoesNotAnswer);
  }
}

void DeviceSet::resume() noexcept {
  paused_ = false;
  for (const Named& named : devices()) named.device->resume();
  loop_.resume();
}

bool DeviceSet::repair_memory() noexcept {
  bool any = false;
  for (const Named& named : devices()) any |= named.device->repair_device_memory();
  return any;
}

/// A device at its end.
struct DeviceSet::Ending {
  Named named;
  bool still = false;   ///< nothing of its is in flight
  bool closed = false;  ///< and the host's files are closed
};

std::vector<std::string> DeviceSet::stop(const Deadline& deadline) noexcept {
  // Of a machine that ends while it is paused.
  loop_.resume();
  std::vector<Ending> endings;
  for (const Named& named : devices()) endings.push_back({named});
  // All begin at once, and are then polled in turn, so that none waits for one that hangs.
  for (Ending& ending : endings) ending.still = ending.named.device->try_reset(Deadline::now());
  for (;;) {
    const bool last_look = deadline.passed();
    const Deadline turn = last_look ? Deadline::now() : deadline.at_most(kStopSlice);
    for (Ending& ending : endings) advance(ending, endings, turn);
    if (last_look || std::ranges::all_of(endings, &Ending::closed)) break;
  }
  std::vector<std::string> waiting;
  // Devices leave the loop when they go, and would wait for it then.
  if (!loop_.wait_idle(deadline)) waiting.emplace_back(kLoopDoesNotAnswer);
  for (const Ending& ending : endings) {
    // What only others keep from closing is not what is waited for.
    if (ending.closed || (ending.still && !may_close(ending, endings))) continue;
    waiting.push_back(ending.named.id + ": " + ending.named.device->waits_for());
  }
  return waiting;
}

/// Others may still transfer to the memory of a device that has some.
bool DeviceSet::may_close(const Ending& ending, const std::vector<Ending>& all) noexcept {
  return ending.named.device->device_memory() == nullptr ||
         std::ranges::all_of(all, &Ending::still);
}

void DeviceSet::advance(Ending& ending, const std::vector<Ending>& all,
                        const Deadline& deadline) noexcept {
  VirtioDevice& device = *ending.named.device;
  if (!ending.still) ending.still = device.try_reset(deadline);
  if (ending.still && !ending.closed && may_close(ending, all)) {
    ending.closed = device.try_close(deadline);
  }
}

DeviceOperation DeviceSet::operation(const std::string& id, std::string_view name,
                                     Fields& arguments) {
  auto operation = named(id).device->operation(name, arguments);
  if (operation) return *std::move(operation);
  throw Error("ENOTSUP", "the device " + id + " has no operation " + std::string(name));
}

/// Of each device that has some.
std::vector<DeviceCounters> DeviceSet::collect(std::vector<Counter> (VirtioDevice::*figures)()
                                                   const) const {
  std::vector<DeviceCounters> all;
  for (const Named& named : devices()) {
    std::vector<Counter> some = (*named.device.*figures)();
    if (!some.empty()) all.push_back({named.id, std::move(some)});
  }
  return all;
}

std::vector<DeviceCounters> DeviceSet::status() const { return collect(&VirtioDevice::status); }

std::vector<DeviceCounters> DeviceSet::counters() const {
  std::vector<DeviceCounters> all = collect(&VirtioDevice::counters);
  for (const auto& [id, errors] : outputs_) {
    const Counter counter{"output_errors", errors->count()};
    const auto same = std::ranges::find(all, id, &DeviceCounters::id);
    if (same != all.end()) {
      same->counters.push_back(counter);
    } else {
      all.push_back({id, {counter}});
    }
  }
  return all;
}

}  // namespace tsvmm
