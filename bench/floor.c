/*
 * The bare KVM calls that any VMM must make: a VM with a split irqchip, one vCPU and lazily
 * allocated guest memory, up to its first exit, a write to the serial port, whose byte goes to
 * standard output. Nothing can start a guest sooner.
 *
 *   floor MEBIBYTES
 *
 * Prints the byte; then, on standard error, the nanoseconds that each part took.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
  kSerialPort = 0x3f8,
  kCodeAddress = 0x1000,
  kIoapicPins = 24,
  kMaxCpuidEntries = 256,
  kMaxSteps = 16
};

static struct {
  const char* name;
  int64_t time;
} steps[kMaxSteps];
static int step_count;

static void mark(const char* name) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  steps[step_count].name = name;
  steps[step_count++].time = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int check(int result, const char* what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
  return result;
}

static void add_memory(int vm, size_t size) {
  /* mov dx, 0x3f8; mov al, 'h'; out dx, al; hlt */
  static const unsigned char code[] = {0xba, kSerialPort & 0xff, kSerialPort >> 8, 0xb0, 'h', 0xee,
                                       0xf4};
  unsigned char* memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) check(-1, "mmap");
  memcpy(memory + kCodeAddress, code, sizeof code);
  mark("map and write memory");
  const struct kvm_userspace_memory_region region = {.memory_size = size,
                                                     .userspace_addr = (uintptr_t)memory};
  check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

static void add_split_irqchip(int vm) {
  struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {kIoapicPins}};
  check(ioctl(vm, KVM_ENABLE_CAP, &cap), "KVM_CAP_SPLIT_IRQCHIP");
}

static void set_registers(int kvm, int vcpu) {
  static struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[kMaxCpuidEntries];
  } cpuid;
  cpuid.head.nent = kMaxCpuidEntries;
  check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
  mark("get supported CPUID");
  check(ioctl(vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
  struct kvm_sregs sregs;
  check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  const struct kvm_regs regs = {.rip = kCodeAddress, .rflags = 2};
  check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

int main(int argc, char** argv) {
  const size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 512) << 20;
  mark("start");
  const int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
  mark("open");
  const int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  mark("create VM");
  add_memory(vm, size);
  mark("register memory");
  add_split_irqchip(vm);
  mark("irqchip");
  const int vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  mark("create vCPU");
  const int run_size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  struct kvm_run* run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (run == MAP_FAILED) check(-1, "mmap of the vCPU");
  set_registers(kvm, vcpu);
  mark("set CPUID and registers");
  check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
  if (run->exit_reason != KVM_EXIT_IO || run->io.port != kSerialPort) {
    fprintf(stderr, "floor: unexpected exit %u\n", run->exit_reason);
    return 1;
  }
  if (write(1, (char*)run + run->io.data_offset, 1) != 1) return 1;
  mark("first exit");
  for (int i = 1; i < step_count; i++)
    fprintf(stderr, "%s %lld\n", steps[i].name, (long long)(steps[i].time - steps[i - 1].time));
  return 0;
}
