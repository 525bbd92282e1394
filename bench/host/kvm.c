#include "kvm.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { kMaxCpuidEntries = 256 };

int check(int result, const char* what) {
  if (result < 0) fail_errno(what);
  return result;
}

char* add_memory(int vm, uint32_t slot, uint64_t address, size_t size) {
  char* memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail_errno("guest memory");
  const struct kvm_userspace_memory_region region = {.slot = slot,
                                                     .guest_phys_addr = address,
                                                     .memory_size = size,
                                                     .userspace_addr = (uintptr_t)memory};
  check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  return memory;
}

struct kvm_machine make_machine(size_t memory_size) {
  const int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
  const int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {kIoapicPins}};
  check(ioctl(vm, KVM_ENABLE_CAP, &split), "KVM_CAP_SPLIT_IRQCHIP");
  return (struct kvm_machine){kvm, vm, add_memory(vm, 0, 0, memory_size)};
}

static void set_registers(int kvm, int vcpu, struct kvm_regs regs) {
  static struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[kMaxCpuidEntries];
  } cpuid;
  cpuid.head.nent = kMaxCpuidEntries;
  check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
  check(ioctl(vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
  struct kvm_sregs sregs;
  check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  const struct kvm_segment flat = {
      .limit = ~0u, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1, .selector = 0x10};
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
  sregs.cs = flat;
  sregs.cs.type = 11;
  sregs.cs.selector = 8;
  sregs.cr0 |= 1;
  check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  regs.rflags = 2; /* always set (SDM vol. 1, 3.4.3) */
  check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

struct kvm_cpu make_cpu(const struct kvm_machine* machine, struct kvm_regs regs) {
  const int vcpu = check(ioctl(machine->vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  const int size = check(ioctl(machine->kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  void* run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (run == MAP_FAILED) fail_errno("mmap of the vCPU");
  set_registers(machine->kvm, vcpu, regs);
  return (struct kvm_cpu){vcpu, run};
}
