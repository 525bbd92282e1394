#include "machine/x86_64/board_spec.h"

#include <utility>
#include <vector>

#include "core/error.h"
#include "hypervisor/x86_64/vcpu_setup.h"
#include "machine/machine_spec.h"

namespace tsvmm {
namespace {

VcpuEntry read_entry(Fields& fields) {
  return {.rip = fields["rip"].number(),
          .rbx = fields["rbx"].number(),
          .rsi = fields["rsi"].number(),
          .rsp = fields["rsp"].number(),
          .gdt_address = fields["gdtAddress"].number(),
          .gdt_limit = fields["gdtLimit"].narrow<uint16_t>()};
}

SerialSpec read_serial(Fields& fields) {
  return {.id = fields["id"].text(),
          .port = fields["port"].narrow<uint16_t>(),
          .gsi = fields["gsi"].narrow<unsigned>(),
          .backend = read_char_backend(fields["backend"])};
}

DebugConsoleSpec read_debug_console(Fields& fields) {
  return {.id = fields["id"].text(),
          .port = fields["port"].narrow<uint16_t>(),
          .backend = read_char_backend(fields["backend"])};
}

void read_cmos(BoardSpec& spec, Fields& fields) {
  spec.cmos_port = fields["port"].narrow<uint16_t>();
  spec.cmos_gsi = fields["gsi"].narrow<unsigned>();
  spec.cmos_memory_below_4g = fields["memoryBelow4G"].number();
  spec.cmos_memory_above_4g = fields["memoryAbove4G"].number();
}

void read_acpi(BoardSpec& spec, Fields& fields) {
  spec.acpi_power_port = fields["sleepResetPort"].narrow<uint16_t>();
  spec.acpi_pm_timer_port = fields["pmTimerPort"].narrow<uint16_t>();
  spec.acpi_events_port = fields["eventsPort"].narrow<uint16_t>();
  spec.acpi_sci = fields["sciGsi"].narrow<unsigned>();
}

void read_ged(BoardSpec& spec, Fields& fields) {
  spec.ged = fields["address"].number();
  spec.ged_gsi = fields["gsi"].narrow<unsigned>();
}

MemoryHotplugSpec read_memory_hotplug(Fields& fields) {
  return {.address = fields["address"].number(),
          .proximity = fields["proximity"].narrow<uint32_t>()};
}

CpuHotplugSpec read_cpu_hotplug(Fields& fields) {
  return {.address = fields["address"].number(),
          .present = fields["present"].narrow<uint16_t>(),
          .most = fields["most"].narrow<uint16_t>()};
}

}  // namespace

std::shared_ptr<const VcpuSetup> read_vcpu_setup(Fields& vcpu) {
  return std::make_shared<const VcpuSetup>(
      VcpuSetup{.cpuid = vcpu["cpuid"].bytes(), .msrs = vcpu["msrs"].bytes()});
}

std::shared_ptr<const VcpuEntry> read_vcpu_entry(Fields& boot) {
  return std::make_shared<const VcpuEntry>(boot["entry"].map(read_entry));
}

std::shared_ptr<BoardSpec> read_board_spec(Fields& boot) {
  auto spec = std::make_shared<BoardSpec>();
  spec->ioapic = boot["ioapic"].map([](Fields& ioapic) { return ioapic["address"].number(); });
  if (boot.has("serial")) spec->serial = boot["serial"].map(read_serial);
  if (boot.has("debugConsole")) spec->debug_console = boot["debugConsole"].map(read_debug_console);
  boot["cmos"].map([&](Fields& cmos) { read_cmos(*spec, cmos); });
  boot["acpi"].map([&](Fields& acpi) { read_acpi(*spec, acpi); });
  boot["ged"].map([&](Fields& ged) { read_ged(*spec, ged); });
  spec->pci_hotplug =
      boot["pciHotplug"].map([](Fields& hotplug) { return hotplug["address"].number(); });
  if (boot.has("memoryHotplug")) {
    spec->memory_hotplug = boot["memoryHotplug"].map(read_memory_hotplug);
  }
  if (boot.has("cpuHotplug")) spec->cpu_hotplug = boot["cpuHotplug"].map(read_cpu_hotplug);
  return spec;
}

}  // namespace tsvmm
