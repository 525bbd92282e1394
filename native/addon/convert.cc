#include "addon/convert.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

namespace tsvmm {
namespace {

[[noreturn]] void wrong(Napi::Env env, const char* name, const char* wanted) {
  throw Napi::TypeError::New(env, std::string(name) + " must be " + wanted);
}

Napi::Object to_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) wrong(value.Env(), name, "an object");
  return value.As<Napi::Object>();
}

Napi::Object object_field(const Napi::Object& object, const char* name) {
  return to_object(object.Get(name), name);
}

bool bool_field(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsBoolean()) wrong(object.Env(), name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

template <typename T>
T narrow_field(const Napi::Object& object, const char* name) {
  return static_cast<T>(uint_field(object, name, std::numeric_limits<T>::max()));
}

std::string string_field(const Napi::Object& object, const char* name) {
  return to_string(object.Get(name), name);
}

UniqueFd fd_field(const Napi::Object& object, const char* name) {
  return UniqueFd::duplicate(fd_argument(object.Get(name), name));
}

template <typename Each>
void for_each(const Napi::Value& value, const char* name, const Each& each) {
  if (!value.IsArray()) wrong(value.Env(), name, "an array");
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    each(array.Get(i));
  }
}

GuestMemory::Range to_range(const Napi::Object& object, const char* start_name) {
  return {uint_field(object, start_name), uint_field(object, "size")};
}

/// How each kind of host end is called, and which of its fields is the descriptor that output goes
/// to.
struct BackendKind {
  std::string_view name;
  CharBackendSpec::Kind kind;
  const char* output;
};
constexpr std::array<BackendKind, 5> kBackendKinds{{
    {"null", CharBackendSpec::Kind::kNull, nullptr},
    {"tty", CharBackendSpec::Kind::kTty, "output"},
    {"file", CharBackendSpec::Kind::kFile, "fd"},
    {"pty", CharBackendSpec::Kind::kPty, "fd"},
    {"socket", CharBackendSpec::Kind::kSocket, "listener"},
}};

CharBackendSource to_backend(const Napi::Object& object) {
  const std::string name = string_field(object, "kind");
  const auto* found = std::ranges::find(kBackendKinds, name, &BackendKind::name);
  if (found == kBackendKinds.end()) wrong(object.Env(), "kind", "null, tty, file, pty or socket");
  CharBackendSource source;
  source.spec.kind = found->kind;
  const auto take = [&](const char* field) {
    source.descriptors.push_back(fd_field(object, field));
    return source.descriptors.back().get();
  };
  if (found->output != nullptr) source.spec.output = take(found->output);
  // -1 means that there is nothing to read from.
  const bool has_input =
      object.Get("input").IsNumber() && object.Get("input").As<Napi::Number>().Int32Value() >= 0;
  if (found->kind == CharBackendSpec::Kind::kTty && has_input) source.spec.input = take("input");
  return source;
}

LoadItem to_load_item(const Napi::Object& object) {
  if (object.Has("bytes")) {
    return LoadBytes{uint_field(object, "address"), to_bytes(object.Get("bytes"), "bytes")};
  }
  return LoadFile{uint_field(object, "address"), fd_field(object, "fd"),
                  uint_field(object, "offset"), uint_field(object, "length")};
}

BlockSpec to_block(const Napi::Object& object) {
  return {.fd = fd_field(object, "fd"),
          .readonly = bool_field(object, "readonly"),
          .direct = bool_field(object, "direct"),
          .num_queues = narrow_field<uint16_t>(object, "numQueues"),
          .queue_size = narrow_field<uint16_t>(object, "queueSize"),
          .serial = string_field(object, "serial"),
          .protect_sector0 = bool_field(object, "protectSector0")};
}

PciFunctionSpec to_pci_function(const Napi::Object& object) {
  PciFunctionSpec spec;
  spec.id = string_field(object, "id");
  spec.slot = narrow_field<unsigned>(object, "slot");
  spec.bar0 = uint_field(object, "bar0");
  spec.bar0_is_64bit = bool_field(object, "bar0Is64Bit");
  const std::string kind = string_field(object, "kind");
  if (kind == "block") {
    spec.device = to_block(object);
  } else if (kind == "rng") {
    spec.device = RngSpec{fd_field(object, "fd")};
  } else if (kind == "console") {
    spec.device = ConsoleSpec{to_backend(object_field(object, "backend")),
                              narrow_field<uint16_t>(object, "columns"),
                              narrow_field<uint16_t>(object, "rows")};
  } else if (kind == "watchdog") {
    spec.device = WatchdogSpec{};
  } else {
    wrong(object.Env(), "kind", "block, rng, console or watchdog");
  }
  return spec;
}

PciSpec to_pci(const Napi::Object& object) {
  PciSpec spec;
  spec.ecam = uint_field(object, "ecam");
  spec.window32 = to_range(object_field(object, "window32"), "start");
  spec.window64 = to_range(object_field(object, "window64"), "start");
  for_each(object.Get("functions"), "functions", [&spec](const Napi::Value& function) {
    spec.functions.push_back(to_pci_function(to_object(function, "functions")));
  });
  return spec;
}

std::vector<VcpuSetup> to_vcpus(const Napi::Object& boot) {
  const std::vector<uint8_t> msrs = to_bytes(boot.Get("msrs"), "msrs");
  std::vector<VcpuSetup> setups;
  for_each(boot.Get("cpuid"), "cpuid", [&](const Napi::Value& cpuid) {
    setups.push_back(
        {.cpuid = to_bytes(cpuid, "cpuid"), .msrs = msrs, .has_entry = false, .entry = {}});
  });
  if (setups.empty()) wrong(boot.Env(), "cpuid", "an array with an entry for each vCPU");
  const Napi::Object entry = object_field(boot, "entry");
  setups[0].has_entry = true;
  setups[0].entry = {.rip = uint_field(entry, "rip"),
                     .rbx = uint_field(entry, "rbx"),
                     .rsi = uint_field(entry, "rsi"),
                     .rsp = uint_field(entry, "rsp"),
                     .gdt_address = uint_field(entry, "gdtAddress"),
                     .gdt_limit = narrow_field<uint16_t>(entry, "gdtLimit")};
  return setups;
}

}  // namespace

uint64_t to_uint(const Napi::Value& value, const char* name, uint64_t max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0) || number != std::floor(number) || number > static_cast<double>(max)) {
    wrong(value.Env(), name, ("a whole number from 0 to " + std::to_string(max)).c_str());
  }
  return static_cast<uint64_t>(number);
}

uint64_t uint_field(const Napi::Object& object, const char* name, uint64_t max) {
  return to_uint(object.Get(name), name, max);
}

int fd_argument(const Napi::Value& value, const char* name) {
  return static_cast<int>(to_uint(value, name, std::numeric_limits<int>::max()));
}

std::string to_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) wrong(value.Env(), name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    wrong(value.Env(), name, "a Uint8Array");
  }
  const auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.Data() + array.ByteLength()};
}

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
    VcpuPlacement placement{.apic_id = narrow_field<uint32_t>(fields, "apicId"), .affinity = {}};
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
  for_each(object.Get("load"), "load", [&spec](const Napi::Value& item) {
    spec.load.push_back(to_load_item(to_object(item, "load")));
  });
  spec.ioapic = uint_field(object_field(object, "ioapic"), "address");
  if (object.Get("serial").IsObject()) {
    const Napi::Object serial = object_field(object, "serial");
    spec.serial = SerialSpec{.port = narrow_field<uint16_t>(serial, "port"),
                             .gsi = narrow_field<unsigned>(serial, "gsi"),
                             .backend = to_backend(object_field(serial, "backend"))};
  }
  if (object.Get("debugConsole").IsObject()) {
    const Napi::Object console = object_field(object, "debugConsole");
    spec.debug_console = DebugConsoleSpec{.port = narrow_field<uint16_t>(console, "port"),
                                          .backend = to_backend(object_field(console, "backend"))};
  }
  const Napi::Object cmos = object_field(object, "cmos");
  spec.cmos_port = narrow_field<uint16_t>(cmos, "port");
  spec.cmos_memory_below_4g = uint_field(cmos, "memoryBelow4G");
  spec.cmos_memory_above_4g = uint_field(cmos, "memoryAbove4G");
  const Napi::Object acpi = object_field(object, "acpi");
  spec.acpi_power_port = narrow_field<uint16_t>(acpi, "sleepResetPort");
  spec.acpi_pm_timer_port = narrow_field<uint16_t>(acpi, "pmTimerPort");
  const Napi::Object ged = object_field(object, "ged");
  spec.ged = uint_field(ged, "address");
  spec.ged_gsi = narrow_field<unsigned>(ged, "gsi");
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
