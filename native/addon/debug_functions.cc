#include <napi.h>

#include <array>
#include <string>

#include "addon/convert_fields.h"
#include "addon/exports.h"
#include "addon/machine_handle.h"

// The functions of src/native.ts (DebugAddon), in its order.

namespace tsvmm {
namespace {

/// Of guest memory, at once.
constexpr uint64_t kMaxDebugRead = 4096;

Machine& machine_argument(Arguments info) { return unwrap(info[0]).machine(); }

unsigned vcpu_argument(Arguments info) {
  return static_cast<unsigned>(to_uint(info[1], "vcpu", UINT16_MAX));
}

/// The index of a word among those that it can be.
template <size_t count>
size_t to_choice(const Napi::Value& value, const char* name,
                 const std::array<const char*, count>& choices) {
  const std::string word = to_string(value, name);
  for (size_t i = 0; i < count; ++i) {
    if (word == choices[i]) return i;
  }
  wrong(value.Env(), name, "one of the words that it can be");
}

RegisterSet to_register_set(const Napi::Value& value) {
  constexpr std::array<const char*, 3> kNames{"general", "special", "vector"};
  return static_cast<RegisterSet>(to_choice(value, "set", kNames));
}

VcpuGroup::DebugOrder to_order(const Napi::Value& value) {
  constexpr std::array<const char*, 3> kNames{"hold", "run", "step"};
  return static_cast<VcpuGroup::DebugOrder>(to_choice(value, "orders", kNames));
}

HardwareBreakpoint to_hardware_breakpoint(const Napi::Value& value) {
  const Napi::Object object = to_object(value, "hardware");
  constexpr std::array<const char*, 3> kNames{"execute", "write", "access"};
  constexpr std::array kKinds{HardwareBreakpoint::Kind::kExecute, HardwareBreakpoint::Kind::kWrite,
                              HardwareBreakpoint::Kind::kAccess};
  return {.address = to_address(object.Get("address"), "address"),
          .kind = kKinds.at(to_choice(object.Get("kind"), "kind", kNames)),
          .length = narrow_field<uint8_t>(object, "length")};
}

Napi::Value machine_debug_stop(Arguments info) { return unwrap(info[0]).debug_stop(info.Env()); }

Napi::Value machine_debug_resume(Arguments info) {
  std::vector<VcpuGroup::DebugOrder> orders;
  for_each(info[1], "orders", [&](const Napi::Value& order) { orders.push_back(to_order(order)); });
  const Napi::Object object = to_object(info[2], "traps");
  DebugTraps traps;
  for_each(object.Get("hardware"), "hardware", [&](const Napi::Value& breakpoint) {
    traps.hardware.push_back(to_hardware_breakpoint(breakpoint));
  });
  for_each(object.Get("software"), "software", [&](const Napi::Value& address) {
    traps.software.push_back(to_address(address, "software"));
  });
  machine_argument(info).debug_resume(orders, traps);
  return info.Env().Undefined();
}

Napi::Value machine_debug_registers(Arguments info) {
  const RegisterSet set = to_register_set(info[2]);
  std::vector<uint8_t> bytes;
  machine_argument(info).debug_vcpu(vcpu_argument(info),
                                    [&](VcpuDebug& vcpu) { bytes = vcpu.registers(set); });
  return from_bytes(info.Env(), bytes);
}

Napi::Value machine_debug_set_registers(Arguments info) {
  const RegisterSet set = to_register_set(info[2]);
  const std::vector<uint8_t> bytes = to_bytes(info[3], "bytes");
  machine_argument(info).debug_vcpu(vcpu_argument(info),
                                    [&](VcpuDebug& vcpu) { vcpu.set_registers(set, bytes); });
  return info.Env().Undefined();
}

Napi::Value machine_debug_translate(Arguments info) {
  const uint64_t address = to_address(info[2], "address");
  std::optional<GuestAddress> physical;
  machine_argument(info).debug_vcpu(vcpu_argument(info),
                                    [&](VcpuDebug& vcpu) { physical = vcpu.translate(address); });
  if (!physical) return info.Env().Null();
  return Napi::BigInt::New(info.Env(), *physical);
}

Napi::Value machine_debug_read(Arguments info) {
  const uint64_t address = to_address(info[1], "address");
  std::vector<uint8_t> bytes(to_uint(info[2], "length", kMaxDebugRead));
  if (!machine_argument(info).debug_read(address, bytes)) return info.Env().Null();
  return from_bytes(info.Env(), bytes);
}

Napi::Value machine_debug_write(Arguments info) {
  const bool done = machine_argument(info).debug_write(to_address(info[1], "address"),
                                                       to_bytes(info[2], "bytes"));
  return Napi::Boolean::New(info.Env(), done);
}

}  // namespace

void add_debug_functions(Napi::Object& exports) {
  add<machine_debug_stop>(exports, "machineDebugStop");
  add<machine_debug_resume>(exports, "machineDebugResume");
  add<machine_debug_registers>(exports, "machineDebugRegisters");
  add<machine_debug_set_registers>(exports, "machineDebugSetRegisters");
  add<machine_debug_translate>(exports, "machineDebugTranslate");
  add<machine_debug_read>(exports, "machineDebugRead");
  add<machine_debug_write>(exports, "machineDebugWrite");
}

}  // namespace tsvmm
