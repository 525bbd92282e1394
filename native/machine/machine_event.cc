#include "machine/machine_event.h"

#include "core/cbor_writer.h"

namespace tsvmm {
namespace {

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

/// Begins the map of an event with so many fields besides its type.
CborWriter begin(const char* type, uint64_t fields) {
  CborWriter writer;
  writer.map(fields + 1).field("type", type);
  return writer;
}

CborWriter write(const MachineEvent& event) {
  using Type = MachineEvent::Type;
  switch (event.type) {
    case Type::kPowerOff:
      return begin("power-off", 0);
    case Type::kReset:
      return begin("reset", 1).field("cause", event.reason);
    case Type::kVcpuError:
      return begin("vcpu-error", 4)
          .field("vcpu", event.vcpu)
          .field("reason", event.reason)
          .field("code", event.code)
          .field("detail", event.detail);
    case Type::kDeviceActivated:
      return begin("device-activated", 1).field("id", event.id);
    case Type::kDeviceReset:
      return begin("device-reset", 1).field("id", event.id);
    case Type::kDeviceFailed:
      return begin("device-failed", 2).field("id", event.id).field("reason", event.reason);
    case Type::kDeviceEjected:
      return begin("device-ejected", 1).field("id", event.id);
    case Type::kVcpuStarted:
      return begin("vcpu-started", 1).field("vcpu", event.vcpu);
    case Type::kVcpuEjected:
      return begin("vcpu-ejected", 1).field("vcpu", event.vcpu);
    case Type::kGuestPanic:
      return begin("guest-panic", 1).field("event", event.reason);
    case Type::kTerminalEscape:
      return begin("terminal-escape", 0);
    case Type::kDeviceNote:
      return begin("device-note", 2).field("id", event.id).field("text", event.reason);
    case Type::kDeviceWarning:
      return begin("device-warning", 2).field("id", event.id).field("text", event.reason);
    case Type::kDebugStop:
      return begin("debug-stop", 3)
          .field("vcpu", event.vcpu)
          .field("cause", name_of(event.stop))
          .field("address", event.stop.address);
    case Type::kOutputFailed:
      return begin("output-failed", 3)
          .field("id", event.id)
          .field("file", event.detail)
          .field("reason", event.reason);
    case Type::kFirmwareLog:
      break;
  }
  return begin("firmware-log", 1).field("line", event.reason);
}

}  // namespace

std::vector<uint8_t> encode(const MachineEvent& event) { return write(event).take(); }

}  // namespace tsvmm
