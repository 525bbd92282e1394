/*
 * The least that a device's answer can take: a VM with nothing but a doorbell (an ioeventfd) that a
 * thread answers with an MSI (an irqfd). Runs the measuring guest's program `doorbell` and prints
 * what it prints.
 *
 *   doorbell --guest FILE --cmdline TEXT
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm.h"

enum {
  kMemorySize = 64 << 20,
  kStartInfo = 0x1000,
  kMemoryMap = 0x1100,
  kCommandLine = 0x2000,
  kVector = 0x50,
  kSerialPort = 0x3f8,
  kPowerPort = 0x600
};
static const uint64_t kDoorbell = 0xd0000000;

/* The PVH boot protocol's start info (Xen, "x86/HVM direct boot ABI"). */
struct start_info {
  uint32_t magic, version, flags, modules;
  uint64_t module_list, command_line, rsdp, memory_map;
  uint32_t memory_map_entries, reserved;
};
struct memory_entry {
  uint64_t address, size;
  uint32_t type, reserved;
};

/* Copies the image's segments and returns its PVH entry point (the descriptor of its only note). */
static uint32_t load_guest(char* memory, const char* path) {
  const int fd = check(open(path, O_RDONLY | O_CLOEXEC), path);
  struct stat status;
  check(fstat(fd, &status), path);
  const char* file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (file == MAP_FAILED) fail_errno(path);
  const Elf64_Ehdr* elf = (const Elf64_Ehdr*)file;
  const Elf64_Phdr* segments = (const Elf64_Phdr*)(file + elf->e_phoff);
  uint32_t entry = 0;
  for (int i = 0; i < elf->e_phnum; i++) {
    const Elf64_Phdr* s = &segments[i];
    if (s->p_type == PT_NOTE)
      memcpy(&entry, file + s->p_offset + sizeof(Elf64_Nhdr) + sizeof "Xen", sizeof entry);
    if (s->p_type != PT_LOAD) continue;
    if (s->p_paddr + s->p_memsz > kMemorySize) fail("%s does not fit", path);
    memcpy(memory + s->p_paddr, file + s->p_offset, s->p_filesz);
  }
  close(fd);
  return entry;
}

static void describe_machine(char* memory, const char* command_line) {
  const struct memory_entry map[] = {{0, 0xa0000, 1, 0}, {1 << 20, kMemorySize - (1 << 20), 1, 0}};
  const struct start_info info = {.magic = 0x336ec578,
                                  .version = 1,
                                  .command_line = kCommandLine,
                                  .memory_map = kMemoryMap,
                                  .memory_map_entries = 2};
  memcpy(memory + kStartInfo, &info, sizeof info);
  memcpy(memory + kMemoryMap, map, sizeof map);
  snprintf(memory + kCommandLine, 4096, "%s", command_line);
}

static int add_doorbell(int vm) {
  const int fd = check(eventfd(0, EFD_CLOEXEC), "eventfd");
  const struct kvm_ioeventfd doorbell = {.addr = kDoorbell, .len = 2, .fd = fd};
  check(ioctl(vm, KVM_IOEVENTFD, &doorbell), "KVM_IOEVENTFD");
  return fd;
}

static int add_interrupt(int vm) {
  const int fd = check(eventfd(0, EFD_CLOEXEC), "eventfd");
  struct {
    struct kvm_irq_routing head;
    struct kvm_irq_routing_entry entry;
  } routing = {{.nr = 1}, {.gsi = kIoapicPins, .type = KVM_IRQ_ROUTING_MSI}};
  routing.entry.u.msi.address_lo = 0xfee00000;
  routing.entry.u.msi.data = kVector;
  check(ioctl(vm, KVM_SET_GSI_ROUTING, &routing), "KVM_SET_GSI_ROUTING");
  const struct kvm_irqfd interrupt = {.fd = (uint32_t)fd, .gsi = kIoapicPins};
  check(ioctl(vm, KVM_IRQFD, &interrupt), "KVM_IRQFD");
  return fd;
}

struct ends {
  int doorbell, interrupt;
};

static void* answer(void* argument) {
  const struct ends* ends = argument;
  for (uint64_t count; read_exactly(ends->doorbell, &count, sizeof count);) {
    count = 1;
    write_all(ends->interrupt, &count, sizeof count);
  }
  return NULL;
}

/* Runs the guest until it powers off; what it writes to the serial port goes out. */
static void* run_vcpu(void* argument) {
  const struct kvm_cpu* cpu = argument;
  for (;;) {
    if (ioctl(cpu->vcpu, KVM_RUN, 0) != 0 && errno != EINTR) fail_errno("KVM_RUN");
    const struct kvm_run* run = cpu->run;
    if (run->exit_reason != KVM_EXIT_IO || run->io.direction != KVM_EXIT_IO_OUT)
      fail("unexpected exit %u", run->exit_reason);
    if (run->io.port == kPowerPort) return NULL;
    if (run->io.port == kSerialPort) write_all(1, (char*)run + run->io.data_offset, run->io.count);
  }
}

int command_doorbell(char** argv) {
  const struct kvm_machine machine = make_machine(kMemorySize);
  const uint32_t entry = load_guest(machine.memory, option(argv, "--guest", ""));
  describe_machine(machine.memory, option(argv, "--cmdline", ""));
  struct ends ends = {add_doorbell(machine.vm), add_interrupt(machine.vm)};
  /* ebx: the start info. */
  struct kvm_cpu cpu = make_cpu(&machine, (struct kvm_regs){.rip = entry, .rbx = kStartInfo});
  pthread_t threads[2];
  if (pthread_create(&threads[0], NULL, answer, &ends) != 0 ||
      pthread_create(&threads[1], NULL, run_vcpu, &cpu) != 0)
    fail("cannot start threads");
  pthread_setname_np(threads[1], "vcpu0");
  pthread_join(threads[1], NULL);
  return 0;
}
