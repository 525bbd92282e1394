/*
 * What a piece of memory costs that is registered late: KVM waits until no vCPU uses the table of
 * slots before it any more.
 *
 *   slots [--count N]   prints `slot WHEN NANOSECONDS` for N pieces before there is a vCPU
 *                       (`early`), while it halts (`halted`) and while it runs (`running`)
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm.h"

enum {
  kMemorySize = 512 << 20,
  kPieceSize = 128 << 20,
  kCode = 0x1000,
  kGapUs = 20000,
  kStartUs = 50000
};
static const uint64_t kFirstPiece = 4ul << 30;

static uint32_t slot = 1;

static void add_pieces(int vm, const char* when, unsigned count) {
  for (unsigned i = 0; i < count; i++, slot++) {
    const uint64_t begin = now_ns();
    add_memory(vm, slot, kFirstPiece + (uint64_t)slot * kPieceSize, kPieceSize);
    printf("slot %s %lu\n", when, now_ns() - begin);
    usleep(kGapUs);
  }
}

static void* run_vcpu(void* argument) {
  const struct kvm_cpu* cpu = argument;
  for (;;) {
    if (ioctl(cpu->vcpu, KVM_RUN, 0) != 0 && errno != EINTR) fail_errno("KVM_RUN");
    if (cpu->run->exit_reason == KVM_EXIT_HLT) pause();
  }
}

/* In a machine of its own. */
static void measure(const char* when, const char* code, unsigned count) {
  const struct kvm_machine machine = make_machine(kMemorySize);
  strcpy(machine.memory + kCode, code);
  add_pieces(machine.vm, "early", count);
  struct kvm_cpu cpu = make_cpu(&machine, (struct kvm_regs){.rip = kCode});
  pthread_t thread;
  if (pthread_create(&thread, NULL, run_vcpu, &cpu) != 0) fail("cannot start a thread");
  usleep(kStartUs);
  add_pieces(machine.vm, when, count);
}

int command_slots(char** argv) {
  const unsigned count = (unsigned)option_number(argv, "--count", 5);
  measure("halted", "\xf4\xeb\xfd" /* hlt; jmp $-1 */, count);
  measure("running", "\xeb\xfe" /* jmp $ */, count);
  return 0;
}
