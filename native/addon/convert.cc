#include "addon/convert.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "addon/convert_devices.h"
#include "addon/convert_fields.h"
#include "hypervisor/x86_64/vcpu_setup.h"
#include "machine/x86_64/board_spec.h"

namespace tsvmm {
namespace {

GuestMemory::Range to_range(const Napi::Object& object, const char* start_name) {
  return {uint_field(object, start_name), uint_field(object, "size")};
}

LoadItem to_load_item(const Napi::Object& object) {
  if (object.Has("bytes")) {
    return LoadBytes{uint_field(object, "address"), to_bytes(object.Get("bytes"), "bytes")};
  }
  return LoadFile{uint_field(object, "address"), fd_field(object, "fd"),
                  uint_field(object, "offset"), uint_field(object, "length")};
}

PciSpec to_pci(const Napi::Object& object) {
  PciSpec spec;
  spec.ecam = uint_field(object, "ecam");
  spec.window32 = to_range(object_field(object, "window32"), "start");
  spec.window64 = to_range(object_field(object, "window64"), "start");
  for_each(object.Get("functions"), "functions", [&spec](const Napi::Value& function) {
    spec.functions.push_back(to_pci_function(to_object(function, "functions")));
  });
  if (object.Get("pvpanic").IsObject()) {
    const Napi::Object pvpanic = object_field(object, "pvpanic");
    spec.pvpanic = PvpanicSpec{.slot = narrow_field<unsigned>(pvpanic, "slot"),
                               .bar0 = uint_field(pvpanic, "bar0")};
  }
  return spec;
}

ProtectedModeEntry to_entry(const Napi::Object& entry) {
  return {.rip = uint_field(entry, "rip"),
          .rbx = uint_field(entry, "rbx"),
          .rsi = uint_field(entry, "rsi"),
          .rsp = uint_field(entry, "rsp"),
          .gdt_address = uint_field(entry, "gdtAddress"),
          .gdt_limit = narrow_field<uint16_t>(entry, "gdtLimit")};
}

std::vector<std::shared_ptr<const VcpuSetup>> to_vcpus(const Napi::Object& boot) {
  const std::vector<uint8_t> msrs = to_bytes(boot.Get("msrs"), "msrs");
  std::vector<std::shared_ptr<const VcpuSetup>> setups;
  for_each(boot.Get("cpuid"), "cpuid", [&](const Napi::Value& cpuid) {
    VcpuSetup setup{.cpuid = to_bytes(cpuid, "cpuid"), .msrs = msrs, .entry = {}};
    if (setups.empty()) {
      setup.has_entry = true;
      setup.entry = to_entry(object_field(boot, "entry"));
    }
    setups.push_back(std::make_shared<const VcpuSetup>(std::move(setup)));
  });
  if (setups.empty()) wrong(boot.Env(), "cpuid", "an array with an entry for each vCPU");
  return setups;
}

BoardSpec to_board(const Napi::Object& object) {
  BoardSpec spec;
  spec.ioapic = uint_field(object_field(object, "ioapic"), "address");
  if (object.Get("serial").IsObject()) {
    const Napi::Object serial = object_field(object, "serial");
    spec.serial = SerialSpec{.id = string_field(serial, "id"),
                             .port = narrow_field<uint16_t>(serial, "port"),
                             .gsi = narrow_field<unsigned>(serial, "gsi"),
                             .backend = to_backend(object_field(serial, "backend"))};
  }
  if (object.Get("debugConsole").IsObject()) {
    const Napi::Object console = object_field(object, "debugConsole");
    spec.debug_console = DebugConsoleSpec{.id = string_field(console, "id"),
                                          .port = narrow_field<uint16_t>(console, "port"),
                                          .backend = to_backend(object_field(console, "backend"))};
  }
  const Napi::Object cmos = object_field(object, "cmos");
  spec.cmos_port = narrow_field<uint16_t>(cmos, "port");
  spec.cmos_gsi = narrow_field<unsigned>(cmos, "gsi");
  spec.cmos_memory_below_4g = uint_field(cmos, "memoryBelow4G");
  spec.cmos_memory_above_4g = uint_field(cmos, "memoryAbove4G");
  const Napi::Object acpi = object_field(object, "acpi");
  spec.acpi_power_port = narrow_field<uint16_t>(acpi, "sleepResetPort");
  spec.acpi_pm_timer_port = narrow_field<uint16_t>(acpi, "pmTimerPort");
  spec.acpi_events_port = narrow_field<uint16_t>(acpi, "eventsPort");
  spec.acpi_sci = narrow_field<unsigned>(acpi, "sciGsi");
  const Napi::Object ged = object_field(object, "ged");
  spec.ged = uint_field(ged, "address");
  spec.ged_gsi = narrow_field<unsigned>(ged, "gsi");
  return spec;
}

/// src/native.ts: DebugStopCause.
const char* name_of(const DebugStop& stop) {
  switch (stop.cause) {
    case DebugStop::Cause::kStep:
      return "step";
    case DebugStop::Cause::kBreakpoint:
      return "breakpoint";
    case DebugStop::Cause::kHardwareBreakpoint:
      return "hardware-breakpoint";
    case DebugStop::Cause::kWatchpoint:
      break;
  }
  return stop.access == HardwareBreakpoint::Kind::kWrite ? "write-watchpoint" : "access-watchpoint";
}

}  // namespace

MachineSpec to_machine_spec(const Napi::Value& value) {
  const Napi::Object object = to_object(value, "machine");
  const Napi::Object memory = object_field(object, "memory");
  MachineSpec spec;
  for_each(memory.Get("regions"), "regions", [&spec](const Napi::Value& region) {
    spec.memory.push_back(to_range(to_object(region, "regions"), "address"));
  });
  spec.memory_options = {.shared = bool_field(memory, "shared"),
                         .hugepage_size = uint_field(memory, "hugepageSize"),
                         .prefault = bool_field(memory, "prefault"),
                         .mergeable = bool_field(memory, "mergeable"),
                         .thp = bool_field(memory, "thp"),
                         .reserve = bool_field(memory, "reserve")};
  for_each(object.Get("vcpus"), "vcpus", [&spec](const Napi::Value& vcpu) {
    const Napi::Object fields = to_object(vcpu, "vcpus");
    VcpuPlacement placement{.id = narrow_field<uint32_t>(fields, "apicId"), .affinity = {}};
    for_each(fields.Get("affinity"), "affinity", [&placement](const Napi::Value& cpu) {
      placement.affinity.push_back(fd_argument(cpu, "affinity"));
    });
    spec.vcpus.push_back(std::move(placement));
  });
  return spec;
}

BootSpec to_boot_spec(const Napi::Value& value) {
  const Napi::Object object = to_object(value, "boot");
  BootSpec spec;
  spec.vcpus = to_vcpus(object);
  spec.held = object.Get("held").ToBoolean();
  for_each(object.Get("load"), "load", [&spec](const Napi::Value& item) {
    spec.load.push_back(to_load_item(to_object(item, "load")));
  });
  spec.board = std::make_shared<BoardSpec>(to_board(object));
  spec.vm_generation = uint_field(object_field(object, "vmGeneration"), "address");
  spec.pci = to_pci(object_field(object, "pci"));
  return spec;
}

Napi::Object from_event(Napi::Env env, const MachineEvent& event) {
  using Type = MachineEvent::Type;
  Napi::Object object = Napi::Object::New(env);
  const auto set = [&](const char* name, const std::string& text) { object.Set(name, text); };
  switch (event.type) {
    case Type::kPowerOff:
      set("type", "power-off");
      break;
    case Type::kReset:
      set("type", "reset");
      set("cause", event.reason);
      break;
    case Type::kVcpuError:
      set("type", "vcpu-error");
      object.Set("vcpu", Napi::Number::New(env, event.vcpu));
      set("reason", event.reason);
      object.Set("code", Napi::Number::New(env, static_cast<double>(event.code)));
      set("detail", event.detail);
      break;
    case Type::kDeviceActivated:
      set("type", "device-activated");
      set("id", event.id);
      break;
    case Type::kDeviceReset:
      set("type", "device-reset");
      set("id", event.id);
      break;
    case Type::kDeviceFailed:
      set("type", "device-failed");
      set("id", event.id);
      set("reason", event.reason);
      break;
    case Type::kGuestPanic:
      set("type", "guest-panic");
      set("event", event.reason);
      break;
    case Type::kTerminalEscape:
      set("type", "terminal-escape");
      break;
    case Type::kDeviceNote:
      set("type", "device-note");
      set("id", event.id);
      set("text", event.reason);
      break;
    case Type::kDeviceWarning:
      set("type", "device-warning");
      set("id", event.id);
      set("text", event.reason);
      break;
    case Type::kDebugStop:
      set("type", "debug-stop");
      object.Set("vcpu", Napi::Number::New(env, event.vcpu));
      set("cause", name_of(event.stop));
      object.Set("address", Napi::BigInt::New(env, event.stop.address));
      break;
    case Type::kOutputFailed:
      set("type", "output-failed");
      set("id", event.id);
      set("file", event.detail);
      set("reason", event.reason);
      break;
    case Type::kFirmwareLog:
      set("type", "firmware-log");
      set("line", event.reason);
      break;
  }
  return object;
}

Napi::Error from_error(Napi::Env env, const Error& error) {
  Napi::Error made = Napi::Error::New(env, error.what());
  made.Set("code", Napi::String::New(env, error.code()));
  return made;
}

Napi::Value from_bytes(Napi::Env env, const std::vector<uint8_t>& bytes) {
  auto array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

}  // namespace tsvmm
