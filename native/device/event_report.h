#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "hypervisor/vcpu_debug.h"

namespace tsvmm {

/// What a machine tells the layer above; src/boundary/machineEvents.ts documents each.
/// The first three end its run.
struct MachineEvent {
  enum class Type {
    kPowerOff,
    kReset,
    kVcpuError,
    kDeviceActivated,
    kDeviceReset,
    kDeviceFailed,
    kDeviceNote,
    kDeviceWarning,
    kDeviceEjected,
    kVcpuStarted,
    kVcpuEjected,
    kOutputFailed,
    kFirmwareLog,
    kGuestPanic,
    kTerminalEscape,
    kDebugStop,
  };
  Type type;
  std::string id;  ///< the device's
  /// kReset: the cause; kVcpuError, kDeviceFailed: the reason; kDeviceNote, kDeviceWarning: the
  /// text; kFirmwareLog: the line; kGuestPanic: which event; kOutputFailed: the host's error
  std::string reason;
  unsigned vcpu = 0;
  uint64_t code = 0;
  std::string detail;  ///< kOutputFailed: which file, "output" or "log"
  DebugStop stop{};    ///< kDebugStop, of `vcpu`

  /// A guest that makes too many of the others loses some. Of these there is one for each thing
  /// that was done to the machine, and somebody waits for it.
  [[nodiscard]] bool is_droppable() const {
    return !ends_run() && type != Type::kDebugStop && type != Type::kDeviceEjected &&
           type != Type::kVcpuStarted && type != Type::kVcpuEjected;
  }
  [[nodiscard]] bool ends_run() const {
    return type == Type::kPowerOff || type == Type::kReset || type == Type::kVcpuError;
  }
};

/// An event of a device, which most of them are.
[[nodiscard]] inline MachineEvent device_event(MachineEvent::Type type, std::string id,
                                               std::string reason) {
  MachineEvent made{};
  made.type = type;
  made.id = std::move(id);
  made.reason = std::move(reason);
  return made;
}

/// An event of a vCPU.
[[nodiscard]] inline MachineEvent vcpu_event(MachineEvent::Type type, unsigned vcpu) {
  MachineEvent made{};
  made.type = type;
  made.vcpu = vcpu;
  return made;
}

/// Through which parts of a machine tell of events. Any thread, also with locks held: it returns at
/// once and calls nothing back.
using EventReport = std::function<void(MachineEvent event)>;

/// The guest is to be reset.
inline void report_reset(const EventReport& report, const char* cause) {
  report(device_event(MachineEvent::Type::kReset, {}, cause));
}

/// What a reset of the guest's is told by.
[[nodiscard]] inline std::function<void()> reset_by(const EventReport& report, const char* cause) {
  return [report, cause] { report_reset(report, cause); };
}

}  // namespace tsvmm
