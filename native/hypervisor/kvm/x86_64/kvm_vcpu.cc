#include "hypervisor/kvm/x86_64/kvm_vcpu.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "core/error.h"
#include "hypervisor/kvm/x86_64/kvm_vcpu_reset.h"
#include "hypervisor/kvm/x86_64/kvm_x86_abi.h"
#include "hypervisor/x86_64/apic.h"

namespace tsvmm {
namespace {

// The kernel's sigset, which is what KVM_SET_SIGNAL_MASK takes, has 64 bits; the C library's is
// larger.
constexpr size_t kKernelSigsetSize = 8;

constexpr uint64_t kCr0ProtectionEnable = 1;
constexpr uint64_t kRflagsReserved = 2;
constexpr uint64_t kApicBaseX2apic = 1U << 10;

// Local APIC register offsets and delivery modes (SDM vol. 3 §11.5.1).
constexpr size_t kLvtLint0 = 0x350;
constexpr size_t kLvtLint1 = 0x360;
constexpr uint32_t kDeliveryModeMask = 7U << 8;
constexpr uint32_t kDeliverNmi = 4U << 8;
constexpr uint32_t kDeliverExtInt = 7U << 8;

// How vCPU 0 starts: what the descriptors of the board's GDT say. Linux's 32-bit boot protocol
// wants
// __BOOT_CS 0x10 and __BOOT_DS 0x18; PVH leaves the selectors open. Types are those of SDM vol. 3
// §3.4.5.1 and §3.5.
constexpr uint16_t kCodeSelector = 0x10;
constexpr uint16_t kDataSelector = 0x18;
constexpr uint16_t kTaskSelector = 0x20;
constexpr uint8_t kCodeExecuteRead = 0xb;
constexpr uint8_t kDataReadWrite = 0x3;
constexpr uint8_t kBusyTask = 0xb;
constexpr uint32_t kTaskLimit = 0x67;

kvm_segment flat_segment(uint16_t selector, uint8_t type) {
  kvm_segment segment{};
  segment.selector = selector;
  segment.limit = 0xffffffff;
  segment.type = type;
  segment.present = 1;
  segment.db = 1;
  segment.s = 1;
  segment.g = 1;
  return segment;
}

kvm_segment task_segment() {
  kvm_segment segment{};
  segment.selector = kTaskSelector;
  segment.limit = kTaskLimit;
  segment.type = kBusyTask;
  segment.present = 1;
  return segment;
}

}  // namespace

KvmVcpu::KvmVcpu(const KvmDevice& kvm, int fd, uint32_t apic_id)
    : fd_(fd), apic_id_(apic_id), thread_(pthread_self()), thread_id_(::gettid()) {
  run_size_ = static_cast<size_t>(
      check_errno(::ioctl(kvm.fd(), KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"));
  void* shared = ::mmap(nullptr, run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (shared == MAP_FAILED) throw Error::from_errno("mapping the vCPU's run area", errno);
  run_ = static_cast<kvm_run*>(shared);
  debug_.emplace(kvm.fd(), fd_, *run_);
  statistics_.emplace(fd_);
  let_kick_through();
}

KvmVcpu::~KvmVcpu() {
  if (run_ != nullptr) ::munmap(run_, run_size_);
}

void KvmVcpu::let_kick_through() {
  sigset_t mask;
  sigfillset(&mask);
  sigdelset(&mask, SIGRTMIN);
  struct {
    uint32_t length = kKernelSigsetSize;
    uint8_t mask[kKernelSigsetSize];
  } request;
  std::memcpy(request.mask, &mask, kKernelSigsetSize);
  check_errno(::ioctl(fd_, kKvmSetSignalMask, &request), "KVM_SET_SIGNAL_MASK");
}

void KvmVcpu::set_up(const VcpuSetup& setup) {
  set_cpuid(setup.cpuid);
  set_msrs(setup.msrs);
  set_local_apic();
}

void KvmVcpu::reset(const VcpuSetup& setup) {
  nmi_wanted_.store(false);
  reset_kvm_vcpu(fd_, apic_id_);
  set_msrs(setup.msrs);
  set_local_apic();
}

bool KvmVcpu::waits_for_init() const {
  kvm_mp_state state{};
  return ::ioctl(fd_, KVM_GET_MP_STATE, &state) == 0 &&
         state.mp_state == KVM_MP_STATE_UNINITIALIZED;
}

void KvmVcpu::set_cpuid(const std::vector<uint8_t>& entries) {
  KvmEntryList<kvm_cpuid_entry2> list(entries);
  check_errno(::ioctl(fd_, kKvmSetCpuid2, list.request()), "KVM_SET_CPUID2");
}

void KvmVcpu::set_msrs(const std::vector<uint8_t>& entries) {
  KvmEntryList<kvm_msr_entry> list(entries);
  const int done = check_errno(::ioctl(fd_, kKvmSetMsrs, list.request()), "KVM_SET_MSRS");
  if (static_cast<uint32_t>(done) == list.header().count) return;
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "KVM refuses MSR 0x%x", list.entries()[done].index);
  throw Error("ERR_TSVMM_MSR", text.data());
}

void KvmVcpu::set_local_apic() {
  if (apic_id_ > kHighestXapicId) {
    kvm_sregs sregs{};
    check_errno(::ioctl(fd_, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.apic_base |= kApicBaseX2apic;
    check_errno(::ioctl(fd_, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  }
  kvm_lapic_state lapic{};
  check_errno(::ioctl(fd_, KVM_GET_LAPIC, &lapic), "KVM_GET_LAPIC");
  const auto set_delivery_mode = [&lapic](size_t offset, uint32_t mode) {
    uint32_t entry = 0;
    std::memcpy(&entry, lapic.regs + offset, sizeof entry);
    entry = (entry & ~kDeliveryModeMask) | mode;
    std::memcpy(lapic.regs + offset, &entry, sizeof entry);
  };
  set_delivery_mode(kLvtLint0, kDeliverExtInt);
  set_delivery_mode(kLvtLint1, kDeliverNmi);
  check_errno(::ioctl(fd_, KVM_SET_LAPIC, &lapic), "KVM_SET_LAPIC");
}

void KvmVcpu::set_entry(const VcpuEntry& entry) {
  kvm_sregs sregs{};
  check_errno(::ioctl(fd_, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs = flat_segment(kCodeSelector, kCodeExecuteRead);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss =
      flat_segment(kDataSelector, kDataReadWrite);
  sregs.tr = task_segment();
  sregs.gdt.base = entry.gdt_address;
  sregs.gdt.limit = entry.gdt_limit;
  sregs.cr0 |= kCr0ProtectionEnable;
  check_errno(::ioctl(fd_, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  kvm_regs regs{};
  regs.rip = entry.rip;
  regs.rbx = entry.rbx;
  regs.rsi = entry.rsi;
  regs.rsp = entry.rsp;
  regs.rflags = kRflagsReserved;
  check_errno(::ioctl(fd_, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

VcpuExit KvmVcpu::run(AccessHandler& handler) {
  using Kind = ExitCounters::Kind;
  for (;;) {
    const int result = ::ioctl(fd_, KVM_RUN, 0);
    if (result < 0) {
      if (errno == EINTR) {
        exits_.add(Kind::kKick);
        take_kick();
        return {.reason = VcpuExit::Reason::kKicked, .code = 0, .detail = {}};
      }
      if (errno == EAGAIN) {  // an application processor that was woken before its SIPI
        if (waits_for_init()) continue;
        return {.reason = VcpuExit::Reason::kStarted, .code = 0, .detail = {}};
      }
      return failure(VcpuExit::Reason::kRunFailed, static_cast<uint64_t>(errno));
    }
    switch (run_->exit_reason) {
      case KVM_EXIT_IO:
        exits_.add(Kind::kPort);
        serve_port(handler);
        break;
      case KVM_EXIT_MMIO:
        exits_.add(Kind::kMmio);
        serve_mmio(handler);
        break;
      case KVM_EXIT_IOAPIC_EOI:
        exits_.add(Kind::kInterruptEnd);
        handler.end_of_interrupt(run_->eoi.vector);
        break;
      case KVM_EXIT_DEBUG:
        exits_.add(Kind::kDebug);
        if (const auto stop = debug_->own_stop()) {
          return {.reason = VcpuExit::Reason::kDebug, .code = 0, .detail = {}, .stop = *stop};
        }
        if (const int error = debug_->give_to_guest()) {
          return failure(VcpuExit::Reason::kRunFailed, static_cast<uint64_t>(error));
        }
        break;
      case KVM_EXIT_INTR:
      case KVM_EXIT_HLT:
      case KVM_EXIT_IRQ_WINDOW_OPEN:
        exits_.add(Kind::kOther);
        break;
      case KVM_EXIT_SHUTDOWN:
        return failure(VcpuExit::Reason::kTripleFault, 0);
      case KVM_EXIT_INTERNAL_ERROR:
        return failure(VcpuExit::Reason::kInternalError, run_->internal.suberror);
      case KVM_EXIT_FAIL_ENTRY:
        return failure(VcpuExit::Reason::kFailEntry,
                       run_->fail_entry.hardware_entry_failure_reason);
      default:
        return failure(VcpuExit::Reason::kUnexpected, run_->exit_reason);
    }
  }
}

void KvmVcpu::serve_port(AccessHandler& handler) {
  const auto& io = run_->io;
  auto* data = reinterpret_cast<uint8_t*>(run_) + io.data_offset;
  // A string instruction brings several accesses of the same port at once.
  for (uint32_t i = 0; i < io.count; ++i, data += io.size) {
    if (io.direction == KVM_EXIT_IO_IN) {
      handler.port_read(io.port, {data, io.size});
    } else {
      handler.port_write(io.port, {data, io.size});
    }
  }
}

void KvmVcpu::serve_mmio(AccessHandler& handler) {
  auto& mmio = run_->mmio;
  const size_t length = mmio.len < sizeof mmio.data ? mmio.len : sizeof mmio.data;
  if (mmio.is_write != 0) {
    handler.mmio_write(mmio.phys_addr, {mmio.data, length});
  } else {
    handler.mmio_read(mmio.phys_addr, {mmio.data, length});
  }
}

void KvmVcpu::kick() noexcept {
  // The flag catches a vCPU that is about to enter KVM_RUN, the signal one that is in it.
  std::atomic_ref(run_->immediate_exit).store(1);
  pthread_kill(thread_, SIGRTMIN);
}

void KvmVcpu::take_kick() noexcept {
  std::atomic_ref(run_->immediate_exit).store(0);
  sigset_t kicks;
  sigemptyset(&kicks);
  sigaddset(&kicks, SIGRTMIN);
  const timespec no_wait{};
  while (sigtimedwait(&kicks, nullptr, &no_wait) > 0) {
  }
  if (nmi_wanted_.exchange(false)) ::ioctl(fd_, KVM_NMI, 0);
}

void KvmVcpu::inject_nmi() noexcept {
  // A vCPU's ioctls wait for the end of KVM_RUN, so it is the vCPU's own thread that makes the
  // call.
  nmi_wanted_.store(true);
  kick();
}

VcpuStatistics KvmVcpu::statistics() const {
  return {
      .index = 0, .thread = thread_id_, .exits = exits_.read(), .hypervisor = statistics_->read()};
}

void KvmVcpu::mark_paused() noexcept { ::ioctl(fd_, KVM_KVMCLOCK_CTRL, 0); }

VcpuExit KvmVcpu::failure(VcpuExit::Reason reason, uint64_t code) const {
  return {.reason = reason, .code = code, .detail = describe_registers()};
}

std::string KvmVcpu::describe_registers() const {
  kvm_regs regs{};
  kvm_sregs sregs{};
  std::string text;
  if (::ioctl(fd_, KVM_GET_REGS, &regs) == 0 && ::ioctl(fd_, KVM_GET_SREGS, &sregs) == 0) {
    std::array<char, 256> line{};
    std::snprintf(line.data(), line.size(),
                  "rip=0x%llx rsp=0x%llx rflags=0x%llx cr0=0x%llx cr2=0x%llx cr3=0x%llx cr4=0x%llx "
                  "efer=0x%llx cpl=%u",
                  regs.rip, regs.rsp, regs.rflags, sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4,
                  sregs.efer, sregs.cs.dpl);
    text = line.data();
  }
  if (run_->exit_reason != KVM_EXIT_INTERNAL_ERROR) return text;
  const auto& failure = run_->emulation_failure;
  constexpr uint64_t kFlagInstructionBytes = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
  if (failure.suberror == KVM_INTERNAL_ERROR_EMULATION && failure.ndata > 0 &&
      (failure.flags & kFlagInstructionBytes) != 0) {
    text += " instruction=";
    for (size_t i = 0; i < failure.insn_size && i < sizeof failure.insn_bytes; ++i) {
      std::array<char, 4> byte{};
      std::snprintf(byte.data(), byte.size(), "%02x", failure.insn_bytes[i]);
      text += byte.data();
    }
  }
  return text;
}

}  // namespace tsvmm
