// Whether the host's KVM tells whoever debugs a guest of the guest's breakpoints: a guest of a few
// bytes in real mode runs with KVM_SET_GUEST_DEBUG. Prints the names of the kinds that are told.
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, CODE = 0x100, HANDLER = 0x200, DATA = 0x300, STACK = 0x800 };

/** What stops a guest that runs `code` with that guest debugging. */
static int first_exit(const char *code, size_t size, const struct kvm_guest_debug *debug) {
  int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) err(1, "/dev/kvm");
  int vm = ioctl(kvm, KVM_CREATE_VM, 0);
  char *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  struct kvm_userspace_memory_region region = {.memory_size = PAGE,
                                               .userspace_addr = (unsigned long)memory};
  if (vm < 0 || memory == MAP_FAILED || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) != 0)
    err(1, "a guest");
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  int length = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  struct kvm_run *run = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (vcpu < 0 || run == MAP_FAILED) err(1, "a vCPU");

  // Every exception leads to a `hlt`.
  for (int vector = 0; vector < 32; vector++) *(unsigned short *)(memory + vector * 4) = HANDLER;
  memory[HANDLER] = (char)0xf4;
  memcpy(memory + CODE, code, size);
  struct kvm_sregs special;
  if (ioctl(vcpu, KVM_GET_SREGS, &special) != 0) err(1, "KVM_GET_SREGS");
  special.cs.base = special.cs.selector = 0;
  struct kvm_regs general = {.rip = CODE, .rsp = STACK, .rflags = 2};
  if (ioctl(vcpu, KVM_SET_SREGS, &special) != 0 || ioctl(vcpu, KVM_SET_REGS, &general) != 0)
    err(1, "registers");
  if (ioctl(vcpu, KVM_SET_GUEST_DEBUG, debug) != 0) return -1;
  if (ioctl(vcpu, KVM_RUN, 0) != 0) return -1;
  int reason = (int)run->exit_reason;
  munmap(run, (size_t)length);
  close(vcpu);
  close(vm);
  close(kvm);
  munmap(memory, PAGE);
  return reason;
}

static void say(const char *name) {
  if (write(STDOUT_FILENO, name, strlen(name)) < 0) err(1, "stdout");
}

int main(void) {
  alarm(10);
  static const char breakpoint[] = {(char)0xcc, (char)0xf4};           // int3; hlt
  static const char nothing[] = {(char)0x90, (char)0x90, (char)0xf4};  // nop; nop; hlt
  static const char store[] = {(char)0xa2, DATA & 0xff, DATA >> 8,
                               (char)0xf4};  // mov [DATA], al; hlt
  const struct kvm_guest_debug software = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP};
  struct kvm_guest_debug hardware = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP};
  if (first_exit(breakpoint, sizeof(breakpoint), &software) == KVM_EXIT_DEBUG) say("break\n");
  hardware.arch.debugreg[0] = CODE + 1;
  hardware.arch.debugreg[7] = 0x402;
  if (first_exit(nothing, sizeof(nothing), &hardware) == KVM_EXIT_DEBUG) say("hbreak\n");
  hardware.arch.debugreg[0] = DATA;
  hardware.arch.debugreg[7] = 0x10402;
  if (first_exit(store, sizeof(store), &hardware) == KVM_EXIT_DEBUG) say("watch\n");
  return 0;
}
