/* A machine that has nothing but memory and CPUs, of bare KVM calls. */
#pragma once
#include <linux/kvm.h>

#include "host.h"

enum { kIoapicPins = 24 };

struct kvm_machine {
  int kvm, vm;
  char* memory;
};

struct kvm_cpu {
  int vcpu;
  struct kvm_run* run;
};

/* With a split irqchip, and memory from address 0 on, lazily allocated. */
struct kvm_machine make_machine(size_t memory_size);
/* Registers memory as `slot`, lazily allocated; its host address. */
char* add_memory(int vm, uint32_t slot, uint64_t address, size_t size);
/* In 32-bit protected mode with flat segments. */
struct kvm_cpu make_cpu(const struct kvm_machine* machine, struct kvm_regs regs);
/* Ends the process if `result` is negative. */
int check(int result, const char* what);
