#include "machine/x86_64/platform_devices.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "device/acpi_pm_timer.h"
#include "device/acpi_power.h"
#include "device/cmos_rtc.h"
#include "device/debug_console.h"
#include "device/firmware_debug.h"
#include "device/i8042.h"
#include "device/pvpanic.h"
#include "device/serial.h"
#include "machine/virtio_factory.h"
#include "pci/host_bridge.h"
#include "pci/register_function.h"
#include "virtio/balloon.h"
#include "virtio/block.h"
#include "virtio/console.h"
#include "virtio/pci_transport.h"

namespace tsvmm {
namespace {

constexpr uint64_t kEcamSize = 256U << 20;  // 256 buses of 1 MiB each
constexpr uint16_t kPciConfigPorts = 0xcf8;
constexpr uint64_t kPciConfigPortCount = 8;
/// How long the others wait for one device that does not come to its end.
constexpr std::chrono::milliseconds kTurnOfOneAtItsEnd{100};

/// QEMU's "pvpanic" specification: the ids are Red Hat's. The register has a page to itself.
constexpr PciIdentity kPvpanicIdentity{.vendor = 0x1b36,
                                       .device = 0x0011,
                                       .revision = 1,
                                       .class_code = 0x08 /* base system peripheral */,
                                       .subclass = 0x80 /* other */};
constexpr uint64_t kPvpanicBarSize = 4096;

MachineEvent event(MachineEvent::Type type, std::string id, std::string reason) {
  MachineEvent made{};
  made.type = type;
  made.id = std::move(id);
  made.reason = std::move(reason);
  return made;
}

std::function<void()> reset_by(const PlatformDevices::Report& report, const char* cause) {
  return [report, cause] { report(event(MachineEvent::Type::kReset, {}, cause)); };
}

}  // namespace

/// The life of virtio devices, as events of the machine.
class PlatformDevices::Events : public DeviceEvents {
 public:
  explicit Events(Report report) : report_(std::move(report)) {}
  void activated(const std::string& id) noexcept override {
    report_(event(MachineEvent::Type::kDeviceActivated, id, {}));
  }
  void reset(const std::string& id) noexcept override {
    report_(event(MachineEvent::Type::kDeviceReset, id, {}));
  }
  void failed(const std::string& id, std::string_view reason) noexcept override {
    report_(event(MachineEvent::Type::kDeviceFailed, id, std::string(reason)));
  }
  void note(const std::string& id, std::string_view text) noexcept override {
    report_(event(MachineEvent::Type::kDeviceNote, id, std::string(text)));
  }
  void warn(const std::string& id, std::string_view text) noexcept override {
    report_(event(MachineEvent::Type::kDeviceWarning, id, std::string(text)));
  }

 private:
  const Report report_;
};

PlatformDevices::PlatformDevices(BootSpec& boot, GuestMemory& memory, InterruptFabric& fabric,
                                 const Cancellation& cancellation, const Report& report)
    : loop_("serial-manager"),
      events_(std::make_unique<Events>(report)),
      ioapic_(std::make_shared<IoApic>(fabric)) {
  if (!mmio_.map(boot.ioapic, IoApic::kSize, ioapic_)) {
    throw Error("EINVAL", "the I/O APIC's address is taken");
  }
  add_acpi_devices(boot, report);
  add_legacy_devices(boot, report);
  add_pci(boot.pci, memory, fabric, cancellation, report);
}

PlatformDevices::~PlatformDevices() {
  (void)stop(Deadline::never());
  pci_.reset();
}

void PlatformDevices::map_ports(uint16_t base, uint64_t size, std::shared_ptr<BusDevice> device) {
  if (!ports_.map(base, size, std::move(device))) {
    throw Error("EINVAL", "two devices want port " + std::to_string(base));
  }
}

void PlatformDevices::add_legacy_devices(BootSpec& boot, const Report& report) {
  map_ports(I8042::kPort, I8042::kSize, std::make_shared<I8042>(reset_by(report, "i8042")));
  map_ports(boot.cmos_port, CmosRtc::kSize,
            std::make_shared<CmosRtc>(
                CmosRtc::Memory{boot.cmos_memory_below_4g, boot.cmos_memory_above_4g},
                CmosRtc::Wiring{.loop = loop_,
                                .interrupt = ioapic_->pin_line(boot.cmos_gsi),
                                .alarm = [events = acpi_events_] { events->rtc_alarm(); },
                                .reset = reset_by(report, "cmos")}));
  post_code_ = std::make_shared<PostCode>();
  map_ports(PostCode::kPort, PostCode::kSize, post_code_);
  map_ports(FirmwareDebug::kPort, FirmwareDebug::kSize,
            std::make_shared<FirmwareDebug>([report](std::string_view line) {
              report(event(MachineEvent::Type::kFirmwareLog, {}, std::string(line)));
            }));
  if (boot.serial) {
    map_ports(boot.serial->port, Serial::kSize,
              std::make_shared<Serial>(ioapic_->pin_line(boot.serial->gsi),
                                       make_char_backend(boot.serial->backend.spec, loop_,
                                                         reports_of(boot.serial->id, report))));
  }
  if (boot.debug_console) {
    map_ports(
        boot.debug_console->port, DebugConsole::kSize,
        std::make_shared<DebugConsole>(make_char_backend(
            boot.debug_console->backend.spec, loop_, reports_of(boot.debug_console->id, report))));
  }
}

CharBackendReports PlatformDevices::reports_of(const std::string& id, const Report& report) {
  auto errors = std::make_shared<OutputErrors>([id, report](OutputErrors::File file, int error) {
    MachineEvent told = event(MachineEvent::Type::kOutputFailed, id, errno_text(error));
    told.detail = file == OutputErrors::File::kLog ? "log" : "output";
    report(std::move(told));
  });
  outputs_.push_back({id, errors});
  return {.escape = [report] { report(event(MachineEvent::Type::kTerminalEscape, {}, {})); },
          .output_errors = std::move(errors)};
}

void PlatformDevices::add_acpi_devices(const BootSpec& boot, const Report& report) {
  const auto power_off = [report] { report(event(MachineEvent::Type::kPowerOff, {}, {})); };
  map_ports(boot.acpi_power_port, AcpiPower::kSize,
            std::make_shared<AcpiPower>(power_off, reset_by(report, "acpi")));
  map_ports(boot.acpi_pm_timer_port, AcpiPmTimer::kSize, std::make_shared<AcpiPmTimer>());
  ioapic_->pin_line(boot.acpi_sci);
  const auto set_sci = [ioapic = ioapic_.get(), pin = boot.acpi_sci](bool asserted) {
    ioapic->set_level(pin, asserted);
  };
  acpi_events_ = std::make_shared<AcpiEvents>(set_sci, power_off);
  map_ports(boot.acpi_events_port, AcpiEvents::kSize, acpi_events_);
  ged_ = std::make_shared<Ged>(ioapic_->pin_line(boot.ged_gsi));
  if (!mmio_.map(boot.ged, Ged::kSize, ged_)) throw Error("EINVAL", "the GED's address is taken");
}

void PlatformDevices::add_pci(PciSpec& pci, GuestMemory& memory, InterruptFabric& fabric,
                              const Cancellation& cancellation, const Report& report) {
  pci_ = std::make_unique<PciRoot>(mmio_, PciWindow{pci.window32.address, pci.window32.size},
                                   PciWindow{pci.window64.address, pci.window64.size});
  if (!mmio_.map(pci.ecam, kEcamSize, pci_->ecam())) {
    throw Error("EINVAL", "the ECAM's address is taken");
  }
  map_ports(kPciConfigPorts, kPciConfigPortCount, pci_->config_ports());
  pci_->add(0, std::make_shared<HostBridge>());
  const DeviceContext context{
      .memory = memory,
      .loop = loop_,
      .watchdog_expired = reset_by(report, "watchdog"),
      .reports_of = [&](const std::string& id) { return reports_of(id, report); },
      .rate_limiters = rate_limiters_,
      .cancellation = cancellation};
  for (PciFunctionSpec& spec : pci.functions) {
    std::shared_ptr<VirtioDevice> device = make_virtio_device(spec, context);
    virtio_.push_back({spec.id, device});
    VirtioPciFunction::Options options{
        .id = spec.id, .bar0 = spec.bar0, .bar0_is_64bit = spec.bar0_is_64bit, .bar2 = spec.bar2};
    pci_->add(spec.slot, std::make_shared<VirtioPciFunction>(std::move(options), std::move(device),
                                                             memory, fabric, *events_));
  }
  if (pci.pvpanic) add_pvpanic(*pci.pvpanic, report);
}

void PlatformDevices::add_pvpanic(const PvpanicSpec& spec, const Report& report) {
  auto device = std::make_shared<Pvpanic>([report](uint8_t told) {
    const char* name = told == Pvpanic::kPanicked ? "panic" : "crash_loaded";
    report(event(MachineEvent::Type::kGuestPanic, {}, name));
  });
  pci_->add(spec.slot, std::make_shared<RegisterFunction>(kPvpanicIdentity, spec.bar0,
                                                          kPvpanicBarSize, std::move(device)));
}

void PlatformDevices::begin_pause() noexcept {
  for (const Named& named : virtio_) named.device->begin_pause();
}

void PlatformDevices::wait_paused(const Deadline& deadline) {
  for (const Named& named : virtio_) {
    if (named.device->wait_paused(deadline)) continue;
    throw Error("ETIMEDOUT", named.id + ": " + named.device->waits_for());
  }
  // Last, because devices with threads of their own may still have something for it.
  loop_.begin_pause();
  if (!loop_.wait_paused(deadline)) {
    throw Error("ETIMEDOUT", "the host's end of a serial port or console does not answer");
  }
}

void PlatformDevices::resume() noexcept {
  for (const Named& named : virtio_) named.device->resume();
  loop_.resume();
}

bool PlatformDevices::repair_memory() noexcept {
  bool any = false;
  for (const Named& named : virtio_) any |= named.device->repair_window();
  return any;
}

/// A device at its end.
struct PlatformDevices::Ending {
  const Named& named;
  bool still = false;   ///< nothing of its is in flight
  bool closed = false;  ///< and the host's files are closed
};

std::vector<std::string> PlatformDevices::stop(const Deadline& deadline) noexcept {
  // Of a machine that ends while it is paused.
  loop_.resume();
  std::vector<Ending> endings;
  for (const Named& named : virtio_) endings.push_back({named});
  // All begin at once, and then each gets its turn, so that nobody waits for one that hangs.
  for (Ending& ending : endings) ending.still = ending.named.device->try_reset(Deadline::now());
  for (;;) {
    const bool last_look = deadline.passed();
    const Deadline turn = last_look ? Deadline::now() : deadline.at_most(kTurnOfOneAtItsEnd);
    for (Ending& ending : endings) advance(ending, endings, turn);
    if (last_look || std::ranges::all_of(endings, &Ending::closed)) break;
  }
  std::vector<std::string> waiting;
  for (const Ending& ending : endings) {
    // What only others keep from closing is not what is waited for.
    if (ending.closed || (ending.still && !may_close(ending, endings))) continue;
    waiting.push_back(ending.named.id + ": " + ending.named.device->waits_for());
  }
  return waiting;
}

/// Others may still transfer to the memory of a device that has some.
bool PlatformDevices::may_close(const Ending& ending, const std::vector<Ending>& all) noexcept {
  return ending.named.device->window() == nullptr || std::ranges::all_of(all, &Ending::still);
}

void PlatformDevices::advance(Ending& ending, const std::vector<Ending>& all,
                              const Deadline& deadline) noexcept {
  VirtioDevice& device = *ending.named.device;
  if (!ending.still) ending.still = device.try_reset(deadline);
  if (ending.still && !ending.closed && may_close(ending, all)) {
    ending.closed = device.try_close(deadline);
  }
}

/// A guest that knows hardware-reduced ACPI only, or none, does not enable the GPE.
void PlatformDevices::press_power_button() noexcept {
  if (!acpi_events_->raise_gpe(AcpiEvents::kPowerButtonGpe)) ged_->notify(Ged::kPowerButton);
}

void PlatformDevices::resize_disk(const std::string& id, uint64_t bytes, const Deadline& deadline) {
  for (const Named& named : virtio_) {
    auto* disk = dynamic_cast<VirtioBlock*>(named.device.get());
    if (disk != nullptr && named.id == id) return disk->resize(bytes, deadline);
  }
  throw Error("ERR_TSVMM_NO_DEVICE", "there is no disk " + id);
}

void PlatformDevices::resize_console(uint16_t columns, uint16_t rows) noexcept {
  if (auto* console = find<VirtioConsole>()) console->resize(columns, rows);
}

bool PlatformDevices::resize_balloon(uint64_t size) noexcept {
  auto* balloon = find<VirtioBalloon>();
  if (balloon != nullptr) balloon->resize(size);
  return balloon != nullptr;
}

uint64_t PlatformDevices::balloon_size() const noexcept {
  const auto* balloon = find<VirtioBalloon>();
  return balloon != nullptr ? balloon->actual_size() : 0;
}

std::vector<PlatformDevices::DeviceCounters> PlatformDevices::counters() const {
  std::vector<DeviceCounters> all;
  for (const Named& named : virtio_) {
    std::vector<Counter> counters = named.device->counters();
    if (!counters.empty()) all.push_back({named.id, std::move(counters)});
  }
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
