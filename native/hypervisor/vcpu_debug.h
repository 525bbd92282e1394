#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "memory/guest_memory.h"

namespace tsvmm {

/// An access of the guest that stops its vCPU, found by the processor's debug registers (SDM vol. 3
/// §18.2).
struct HardwareBreakpoint {
  /// The R/W field of DR7.
  enum class Kind : uint8_t { kExecute = 0, kWrite = 1, kAccess = 3 };
  uint64_t address = 0;  ///< linear
  Kind kind = Kind::kExecute;
  uint8_t length = 1;  ///< bytes: 1, 2, 4 or 8; 1 to execute
};

/// What stops the vCPUs of a machine for its debugger.
struct DebugTraps {
  static constexpr size_t kMaxHardware = 4;
  std::vector<HardwareBreakpoint> hardware;
  /// Linear addresses at which the debugger has put a breakpoint instruction; others are the
  /// guest's own.
  std::vector<uint64_t> software;

  [[nodiscard]] bool empty() const noexcept { return hardware.empty() && software.empty(); }
};

/// Why a vCPU stopped for the debugger.
struct DebugStop {
  enum class Cause : uint8_t {
    kStep,                ///< an instruction was carried out, as asked for
    kBreakpoint,          ///< it is at one of DebugTraps::software
    kHardwareBreakpoint,  ///< it is at one of DebugTraps::hardware, of kind kExecute
    kWatchpoint,          ///< it has made an access that is one of the others
  };
  Cause cause = Cause::kStep;
  /// kWatchpoint: the breakpoint's. Else the instruction's. Linear.
  uint64_t address = 0;
  HardwareBreakpoint::Kind access = HardwareBreakpoint::Kind::kExecute;
};

/// Registers that are read and written together, as the hypervisor's structures.
enum class RegisterSet : uint8_t {
  kGeneral,  ///< kvm_regs
  kSpecial,  ///< kvm_sregs: segments, control registers
  kVector,   ///< the XSAVE area up to and with AVX's part (SDM vol. 1 §13.4)
};

/// A vCPU as its debugger sees it, while it is not in run(). From any thread, one at a time.
class VcpuDebug {
 public:
  virtual ~VcpuDebug() = default;
  /// For the runs to come. Throws Error, EINVAL if the processor cannot do that.
  virtual void set_traps(const DebugTraps& traps, bool single_step) = 0;
  /// Throws Error.
  [[nodiscard]] virtual std::vector<uint8_t> registers(RegisterSet set) = 0;
  /// `bytes` has registers()'s size. Throws Error.
  virtual void set_registers(RegisterSet set, std::span<const uint8_t> bytes) = 0;
  /// Where the page tables that are in use have this linear address; nullopt if nowhere.
  [[nodiscard]] virtual std::optional<GuestAddress> translate(uint64_t address) = 0;
};

}  // namespace tsvmm
