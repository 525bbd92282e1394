#include "hypervisor/kvm/x86_64/kvm_vcpu_debug.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "hypervisor/kvm/x86_64/kvm_x86_abi.h"

namespace tsvmm {
namespace {

constexpr uint32_t kDebugException = 1;
constexpr uint32_t kBreakpointException = 3;

// SDM vol. 3 §18.2.3 and §18.2.4.
constexpr uint64_t kDr6Breakpoints = 0xf;
constexpr uint64_t kDr6SingleStep = 1U << 14;
constexpr uint64_t kDr7Reserved = 1U << 10;
constexpr size_t kDr7 = 7;

uint64_t dr7_length(uint8_t bytes) {
  switch (bytes) {
    case 1:
      return 0;
    case 2:
      return 1;
    case 4:
      return 3;
    case 8:
      return 2;
    default:
      throw Error("EINVAL", "a hardware breakpoint has 1, 2, 4 or 8 bytes");
  }
}

/// The bits of DR7 that switch breakpoint `index` on.
uint64_t dr7_bits(size_t index, const HardwareBreakpoint& breakpoint) {
  const uint64_t length = dr7_length(breakpoint.length);
  const bool executes = breakpoint.kind == HardwareBreakpoint::Kind::kExecute;
  if (executes && length != 0) throw Error("EINVAL", "a breakpoint of an instruction has 1 byte");
  const uint64_t condition = static_cast<uint64_t>(breakpoint.kind) | length << 2;
  return (uint64_t{2} << (2 * index)) | (condition << (16 + 4 * index));
}

// The XSAVE area in its standard format (SDM vol. 1 §13.4): the legacy region, the header, which
// begins with XSTATE_BV, and the upper halves of YMM0 to YMM15.
constexpr size_t kXstateBv = 512;
constexpr size_t kAvxOffset = 576;
constexpr size_t kVectorSize = kAvxOffset + size_t{16} * 16;
constexpr uint64_t kXstateX87AndSse = 0b011;
constexpr uint64_t kXstateAvx = 0b100;

struct Ioctls {
  unsigned long get;
  unsigned long set;
  size_t size;
};

Ioctls ioctls_of(RegisterSet set) {
  return set == RegisterSet::kGeneral ? Ioctls{KVM_GET_REGS, KVM_SET_REGS, sizeof(kvm_regs)}
                                      : Ioctls{KVM_GET_SREGS, KVM_SET_SREGS, sizeof(kvm_sregs)};
}

}  // namespace

void KvmVcpuDebug::set_traps(const DebugTraps& traps, bool single_step) {
  if (traps.hardware.size() > DebugTraps::kMaxHardware) {
    throw Error("EINVAL", "there are 4 hardware breakpoints");
  }
  kvm_guest_debug control{};
  for (size_t i = 0; i < traps.hardware.size(); ++i) {
    control.arch.debugreg[i] = traps.hardware[i].address;
    control.arch.debugreg[kDr7] |= kDr7Reserved | dr7_bits(i, traps.hardware[i]);
  }
  if (!traps.hardware.empty()) control.control |= KVM_GUESTDBG_USE_HW_BP;
  if (!traps.software.empty()) control.control |= KVM_GUESTDBG_USE_SW_BP;
  if (single_step) control.control |= KVM_GUESTDBG_SINGLESTEP | block_interrupts();
  if (control.control != 0) control.control |= KVM_GUESTDBG_ENABLE;
  check_errno(::ioctl(vcpu_fd_, KVM_SET_GUEST_DEBUG, &control), "KVM_SET_GUEST_DEBUG");
  traps_ = traps;
  control_ = control;
}

/// Who steps wants the next instruction, and not a timer's handler that has become due meanwhile.
uint32_t KvmVcpuDebug::block_interrupts() const noexcept {
  const int known = ::ioctl(kvm_fd_, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);
  return known > 0 ? static_cast<uint32_t>(known) & KVM_GUESTDBG_BLOCKIRQ : 0;
}

std::vector<uint8_t> KvmVcpuDebug::registers(RegisterSet set) {
  if (set == RegisterSet::kVector) {
    std::vector<uint8_t> area = xsave_area();
    area.resize(kVectorSize);
    return area;
  }
  const Ioctls ioctls = ioctls_of(set);
  std::vector<uint8_t> bytes(ioctls.size);
  check_errno(::ioctl(vcpu_fd_, ioctls.get, bytes.data()), "reading registers");
  return bytes;
}

void KvmVcpuDebug::set_registers(RegisterSet set, std::span<const uint8_t> bytes) {
  if (set == RegisterSet::kVector) return set_vector_registers(bytes);
  const Ioctls ioctls = ioctls_of(set);
  if (bytes.size() != ioctls.size) throw Error("EINVAL", "registers of another size");
  std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  check_errno(::ioctl(vcpu_fd_, ioctls.set, copy.data()), "writing registers");
}

std::vector<uint8_t> KvmVcpuDebug::xsave_area() const {
  const int size = ::ioctl(kvm_fd_, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
  const bool larger = size > static_cast<int>(sizeof(KvmXsave));
  std::vector<uint8_t> area(larger ? static_cast<size_t>(size) : sizeof(KvmXsave));
  check_errno(::ioctl(vcpu_fd_, larger ? kKvmGetXsave2 : kKvmGetXsave, area.data()),
              "reading vector registers");
  return area;
}

/// A part that is not in use according to XSTATE_BV would be set to its initial state instead.
void KvmVcpuDebug::set_vector_registers(std::span<const uint8_t> bytes) const {
  if (bytes.size() != kVectorSize) throw Error("EINVAL", "registers of another size");
  std::vector<uint8_t> area = xsave_area();
  uint64_t in_use = 0;
  std::memcpy(&in_use, area.data() + kXstateBv, sizeof(in_use));
  in_use |= kXstateX87AndSse;
  const std::span avx = bytes.subspan(kAvxOffset);
  if (std::ranges::any_of(avx, [](uint8_t byte) { return byte != 0; })) in_use |= kXstateAvx;
  std::ranges::copy(bytes.first(kXstateBv), area.begin());
  std::ranges::copy(avx, area.begin() + kAvxOffset);
  std::memcpy(area.data() + kXstateBv, &in_use, sizeof(in_use));
  check_errno(::ioctl(vcpu_fd_, kKvmSetXsave, area.data()), "writing vector registers");
}

std::optional<GuestAddress> KvmVcpuDebug::translate(uint64_t address) {
  kvm_translation translation{};
  translation.linear_address = address;
  if (::ioctl(vcpu_fd_, KVM_TRANSLATE, &translation) != 0 || translation.valid == 0) {
    return std::nullopt;
  }
  return translation.physical_address;
}

int KvmVcpuDebug::give_to_guest() noexcept {
  const bool breakpoint = run_.debug.arch.exception == kBreakpointException;
  if (!breakpoint && !tell_cause()) return errno;
  kvm_guest_debug control = control_;
  control.control |= breakpoint ? KVM_GUESTDBG_INJECT_BP : KVM_GUESTDBG_INJECT_DB;
  return ::ioctl(vcpu_fd_, KVM_SET_GUEST_DEBUG, &control) == 0 ? 0 : errno;
}

/// KVM_GUESTDBG_INJECT_DB leaves DR6 as it is. As the processor does it (SDM vol. 3 §18.2.3), the
/// bits of breakpoints are those of this exception, and all others stay set once they are.
bool KvmVcpuDebug::tell_cause() const noexcept {
  kvm_debugregs registers{};
  if (::ioctl(vcpu_fd_, KVM_GET_DEBUGREGS, &registers) != 0) return false;
  registers.dr6 = (registers.dr6 & ~kDr6Breakpoints) | run_.debug.arch.dr6;
  return ::ioctl(vcpu_fd_, KVM_SET_DEBUGREGS, &registers) == 0;
}

std::optional<DebugStop> KvmVcpuDebug::own_stop() const noexcept {
  const kvm_debug_exit_arch& exit = run_.debug.arch;
  if (exit.exception == kBreakpointException) {
    if (std::ranges::find(traps_.software, exit.pc) == traps_.software.end()) return std::nullopt;
    return DebugStop{.cause = DebugStop::Cause::kBreakpoint, .address = exit.pc};
  }
  if (exit.exception != kDebugException) return std::nullopt;
  for (size_t i = 0; i < traps_.hardware.size(); ++i) {
    if ((exit.dr6 & (uint64_t{1} << i)) == 0) continue;
    const HardwareBreakpoint& breakpoint = traps_.hardware[i];
    const bool executes = breakpoint.kind == HardwareBreakpoint::Kind::kExecute;
    return DebugStop{
        .cause = executes ? DebugStop::Cause::kHardwareBreakpoint : DebugStop::Cause::kWatchpoint,
        .address = breakpoint.address,
        .access = breakpoint.kind};
  }
  const bool steps = (control_.control & KVM_GUESTDBG_SINGLESTEP) != 0;
  if (!steps || (exit.dr6 & kDr6SingleStep) == 0) return std::nullopt;
  return DebugStop{.cause = DebugStop::Cause::kStep, .address = exit.pc};
}

}  // namespace tsvmm
