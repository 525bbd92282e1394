#include "hypervisor/kvm/x86_64/kvm_vcpu_reset.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <array>
#include <cstring>

#include "core/error.h"
#include "hypervisor/kvm/x86_64/kvm_x86_abi.h"
#include "hypervisor/x86_64/apic.h"

namespace tsvmm {
namespace {

constexpr uint64_t kEferSvme = 1U << 12;
constexpr uint64_t kApicBaseEnable = 1U << 11;
constexpr uint32_t kMxcsrDefault = 0x1f80;
constexpr uint16_t kFpuControlDefault = 0x37f;
constexpr uint32_t kMsrTscAdjust = 0x3b;

// Local APIC registers and what they are after power-on (SDM vol. 3 §11.4.7.1).
constexpr size_t kApicId = 0x20;
constexpr size_t kApicDestinationFormat = 0xe0;
constexpr size_t kApicSpurious = 0xf0;
constexpr std::array<size_t, 7> kApicVectorTable{0x2f0, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370};
constexpr uint32_t kVectorMasked = 1U << 16;
constexpr unsigned kApicIdShift = 24;

/// struct kvm_nested_state of a vCPU that has no nested guest.
struct NestedState {
  static constexpr uint64_t kNone = ~uint64_t{0};
  uint16_t flags = 0;
  uint16_t format = KVM_STATE_NESTED_FORMAT_VMX;
  uint32_t size = sizeof(NestedState);
  uint64_t vmxon = kNone;
  uint64_t vmcs = kNone;
  std::array<uint8_t, 104> padding{};
};
static_assert(sizeof(NestedState) == 128);
constexpr unsigned long kSetNestedState = _IOW(KVMIO, 0xbf, NestedState);

/// In VMX operation a processor does not take an INIT. Refused where there is no VMX: SVM goes with
/// its bit in EFER.
void leave_vmx(int fd) noexcept {
  NestedState none;
  ::ioctl(fd, kSetNestedState, &none);
}

/// Also leaves system management mode, in which an INIT has to wait.
void forget_events(int fd) {
  kvm_vcpu_events events{};
  check_errno(::ioctl(fd, KVM_GET_VCPU_EVENTS, &events), "KVM_GET_VCPU_EVENTS");
  kvm_vcpu_events none{};
  none.flags = events.flags;
  check_errno(::ioctl(fd, KVM_SET_VCPU_EVENTS, &none), "KVM_SET_VCPU_EVENTS");
}

void reset_modes(int fd) {
  kvm_sregs sregs{};
  check_errno(::ioctl(fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.apic_base = kLocalApicAddress | kApicBaseEnable;
  sregs.efer &= ~kEferSvme;
  std::memset(sregs.interrupt_bitmap, 0, sizeof sregs.interrupt_bitmap);
  check_errno(::ioctl(fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
}

void reset_local_apic(int fd, uint32_t apic_id) {
  kvm_lapic_state lapic{};
  const auto set = [&lapic](size_t offset, uint32_t value) {
    std::memcpy(lapic.regs + offset, &value, sizeof value);
  };
  set(kApicId, apic_id << kApicIdShift);
  set(kApicDestinationFormat, ~0U);
  set(kApicSpurious, 0xff);
  for (const size_t entry : kApicVectorTable) set(entry, kVectorMasked);
  check_errno(::ioctl(fd, KVM_SET_LAPIC, &lapic), "KVM_SET_LAPIC");
}

void reset_vector_state(int fd) {
  kvm_fpu fpu{};
  fpu.fcw = kFpuControlDefault;
  fpu.mxcsr = kMxcsrDefault;
  check_errno(::ioctl(fd, KVM_SET_FPU, &fpu), "KVM_SET_FPU");
}

/// A guest that wrote the counter has moved this vCPU's away from the others' by what is in
/// IA32_TSC_ADJUST. Kernels that do not let it be moved back (before 5.16) leave that to the guest.
void reset_tsc(int fd) {
  KvmEntryList<kvm_msr_entry> list(1);
  list.header().count = 1;
  list.entries()[0].index = kMsrTscAdjust;
  if (::ioctl(fd, kKvmGetMsrs, list.request()) != 1) return;
  const uint64_t adjusted = list.entries()[0].data;
  uint64_t offset = 0;
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<uint64_t>(&offset);
  if (adjusted == 0 || ::ioctl(fd, KVM_GET_DEVICE_ATTR, &attribute) != 0) return;
  offset -= adjusted;
  if (::ioctl(fd, KVM_SET_DEVICE_ATTR, &attribute) != 0) return;
  list.entries()[0].data = 0;
  ::ioctl(fd, kKvmSetMsrs, list.request());
}

void wait_for_init(int fd) {
  kvm_mp_state state{};
  // Takes an INIT and a SIPI that have been sent to it meanwhile.
  check_errno(::ioctl(fd, KVM_GET_MP_STATE, &state), "KVM_GET_MP_STATE");
  state.mp_state = KVM_MP_STATE_UNINITIALIZED;
  check_errno(::ioctl(fd, KVM_SET_MP_STATE, &state), "KVM_SET_MP_STATE");
}

}  // namespace

void reset_kvm_vcpu(int vcpu_fd, uint32_t apic_id) {
  leave_vmx(vcpu_fd);
  forget_events(vcpu_fd);
  reset_modes(vcpu_fd);
  reset_local_apic(vcpu_fd, apic_id);
  reset_vector_state(vcpu_fd);
  reset_tsc(vcpu_fd);
  wait_for_init(vcpu_fd);
}

}  // namespace tsvmm
