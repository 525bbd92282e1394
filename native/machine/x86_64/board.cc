#include "machine/board.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "core/error.h"
#include "device/acpi_events.h"
#include "device/acpi_pm_timer.h"
#include "device/acpi_power.h"
#include "device/cpu_hotplug.h"
#include "device/debug_console.h"
#include "device/firmware_debug.h"
#include "device/ged.h"
#include "device/memory_hotplug.h"
#include "device/serial.h"
#include "device/x86_64/cmos_rtc.h"
#include "device/x86_64/i8042.h"
#include "device/x86_64/ioapic.h"
#include "hypervisor/x86_64/access_handler.h"
#include "machine/x86_64/board_spec.h"
#include "pci/x86_64/pci_config_ports.h"

namespace tsvmm {
namespace {

constexpr uint16_t kPostCodePort = 0x80;
/// Of SeaBIOS and EDK II.
constexpr uint16_t kFirmwareDebugPort = 0x402;

/// A PC as far as guests still look for one: ports, I/O APIC, CMOS clock, ACPI.
class X86Board final : public Board, public AccessHandler {
 public:
  X86Board(BoardSpec& spec, DeviceSet& devices, InterruptFabric& fabric, const EventReport& report,
           std::function<void(unsigned)> vcpu_ejected);

  AccessHandler& accesses() noexcept override { return *this; }
  void press_power_button() noexcept override;
  void vm_generation_changed() noexcept override { ged_->notify(Ged::kVmGeneration); }
  bool takes_memory() const noexcept override { return memory_hotplug_ != nullptr; }
  void memory_added(const MemoryRegion& region) override {
    memory_hotplug_->insert(region.address, region.size, hotplug_proximity_);
  }
  CpuHotplug* cpu_hotplug() noexcept override { return cpu_hotplug_.get(); }
  PostCodeState post_code() const override { return post_code_->state(); }

  void port_read(uint16_t port, std::span<uint8_t> data) override { ports_.read(port, data); }
  void port_write(uint16_t port, std::span<const uint8_t> data) override {
    ports_.write(port, data);
  }
  void mmio_read(GuestAddress address, std::span<uint8_t> data) override {
    devices_.mmio().read(address, data);
  }
  void mmio_write(GuestAddress address, std::span<const uint8_t> data) override {
    devices_.mmio().write(address, data);
  }
  void end_of_interrupt(uint8_t vector) override { ioapic_->eoi(vector); }

 private:
  void add_memory_hotplug(const MemoryHotplugSpec& spec);
  void add_acpi_devices(const BoardSpec& spec, const EventReport& report);
  void add_cpu_hotplug(const CpuHotplugSpec& spec, std::function<void(unsigned)> ejected);
  void add_legacy_devices(BoardSpec& spec, const EventReport& report);
  void map_ports(uint16_t base, uint64_t size, std::shared_ptr<BusDevice> device);

  DeviceSet& devices_;
  // A device goes before the interrupt line that it uses; the ports own devices, and input from the
  // host may reach those until they are gone.
  std::shared_ptr<IoApic> ioapic_;
  AddressSpace ports_;
  std::shared_ptr<AcpiEvents> acpi_events_;
  std::shared_ptr<Ged> ged_;
  std::shared_ptr<MemoryHotplug> memory_hotplug_;
  uint32_t hotplug_proximity_ = 0;
  std::shared_ptr<CpuHotplug> cpu_hotplug_;
  std::shared_ptr<PostCode> post_code_;
};

X86Board::X86Board(BoardSpec& spec, DeviceSet& devices, InterruptFabric& fabric,
                   const EventReport& report, std::function<void(unsigned)> vcpu_ejected)
    : devices_(devices), ioapic_(std::make_shared<IoApic>(fabric)) {
  if (!devices_.mmio().map(spec.ioapic, IoApic::kSize, ioapic_)) {
    throw Error("EINVAL", "the I/O APIC's address is taken");
  }
  add_acpi_devices(spec, report);
  if (spec.cpu_hotplug) add_cpu_hotplug(*spec.cpu_hotplug, std::move(vcpu_ejected));
  add_legacy_devices(spec, report);
  map_ports(PciConfigPorts::kPort, PciConfigPorts::kSize,
            std::make_shared<PciConfigPorts>(devices_.pci()));
}

void X86Board::add_acpi_devices(const BoardSpec& spec, const EventReport& report) {
  const auto power_off = [report] { report(device_event(MachineEvent::Type::kPowerOff, {}, {})); };
  map_ports(spec.acpi_power_port, AcpiPower::kSize,
            std::make_shared<AcpiPower>(power_off, reset_by(report, "acpi")));
  map_ports(spec.acpi_pm_timer_port, AcpiPmTimer::kSize, std::make_shared<AcpiPmTimer>());
  ioapic_->pin_line(spec.acpi_sci);
  const auto set_sci = [ioapic = ioapic_.get(), pin = spec.acpi_sci](bool asserted) {
    ioapic->set_level(pin, asserted);
  };
  acpi_events_ = std::make_shared<AcpiEvents>(set_sci, power_off);
  map_ports(spec.acpi_events_port, AcpiEvents::kSize, acpi_events_);
  ged_ = std::make_shared<Ged>(ioapic_->pin_line(spec.ged_gsi));
  if (!devices_.mmio().map(spec.ged, Ged::kSize, ged_))
    throw Error("EINVAL", "the GED's address is taken");
  devices_.connect_hotplug(spec.pci_hotplug, [ged = ged_] { ged->notify(Ged::kPci); });
  if (spec.memory_hotplug) add_memory_hotplug(*spec.memory_hotplug);
}

void X86Board::add_memory_hotplug(const MemoryHotplugSpec& spec) {
  static_assert(MemoryHotplugState::kSlots == GuestMemory::kMaxAdditions);
  memory_hotplug_ = std::make_shared<MemoryHotplug>([ged = ged_] { ged->notify(Ged::kMemory); });
  hotplug_proximity_ = spec.proximity;
  if (!devices_.mmio().map(spec.address, MemoryHotplug::kSize, memory_hotplug_)) {
    throw Error("EINVAL", "the address of the controller of memory is taken");
  }
}

void X86Board::add_cpu_hotplug(const CpuHotplugSpec& spec, std::function<void(unsigned)> ejected) {
  cpu_hotplug_ = std::make_shared<CpuHotplug>(
      CpuHotplugState::starting(spec.present, spec.most), [ged = ged_] { ged->notify(Ged::kCpu); },
      std::move(ejected));
  if (!devices_.mmio().map(spec.address, CpuHotplug::kSize, cpu_hotplug_)) {
    throw Error("EINVAL", "the CPU hot-plug controller's address is taken");
  }
}

void X86Board::add_legacy_devices(BoardSpec& spec, const EventReport& report) {
  map_ports(I8042::kPort, I8042::kSize, std::make_shared<I8042>(reset_by(report, "i8042")));
  map_ports(spec.cmos_port, CmosRtc::kSize,
            std::make_shared<CmosRtc>(
                CmosRtc::Memory{spec.cmos_memory_below_4g, spec.cmos_memory_above_4g},
                CmosRtc::Wiring{.loop = devices_.loop(),
                                .interrupt = ioapic_->pin_line(spec.cmos_gsi),
                                .alarm = [events = acpi_events_] { events->rtc_alarm(); },
                                .reset = reset_by(report, "cmos")}));
  post_code_ = std::make_shared<PostCode>();
  map_ports(kPostCodePort, PostCode::kSize, post_code_);
  // A debug console may be what a firmware's log is for.
  if (!spec.debug_console || spec.debug_console->port != kFirmwareDebugPort) {
    map_ports(kFirmwareDebugPort, FirmwareDebug::kSize,
              std::make_shared<FirmwareDebug>([report](std::string_view line) {
                report(device_event(MachineEvent::Type::kFirmwareLog, {}, std::string(line)));
              }));
  }
  if (spec.serial) {
    map_ports(spec.serial->port, Serial::kSize,
              std::make_shared<Serial>(ioapic_->pin_line(spec.serial->gsi),
                                       make_char_backend(spec.serial->backend.spec, devices_.loop(),
                                                         devices_.reports_of(spec.serial->id))));
  }
  if (spec.debug_console) {
    map_ports(spec.debug_console->port, DebugConsole::kSize,
              std::make_shared<DebugConsole>(
                  make_char_backend(spec.debug_console->backend.spec, devices_.loop(),
                                    devices_.reports_of(spec.debug_console->id))));
  }
}

void X86Board::map_ports(uint16_t base, uint64_t size, std::shared_ptr<BusDevice> device) {
  if (!ports_.map(base, size, std::move(device))) {
    throw Error("EINVAL", "two devices want port " + std::to_string(base));
  }
}

/// A guest that knows hardware-reduced ACPI only, or none, does not enable the GPE.
void X86Board::press_power_button() noexcept {
  if (!acpi_events_->raise_gpe(AcpiEvents::kPowerButtonGpe)) ged_->notify(Ged::kPowerButton);
}

}  // namespace

std::unique_ptr<Board> make_board(BoardSpec& spec, DeviceSet& devices, InterruptFabric& fabric,
                                  const EventReport& report,
                                  std::function<void(unsigned)> vcpu_ejected) {
  return std::make_unique<X86Board>(spec, devices, fabric, report, std::move(vcpu_ejected));
}

}  // namespace tsvmm
