/* Ring-0 services through the ud2 gate, exceptions, and the IDT. */
#include "guest.h"

struct idt_gate {
  u16 offset_low, selector;
  u8 ist, type;
  u16 offset_middle;
  u32 offset_high, reserved;
} __attribute__((packed));

extern struct idt_gate idt[256];
extern u8 irq_stubs[], exception_stubs[];
extern void gate_ud(void), gate_nmi(void);
extern u64 ring0_interrupts_on(u64, u64, u64), ring0_halt(u64, u64, u64), ring0_outs(u64, u64, u64);
extern u32 fault_vector;
extern u64 fault_error, fault_rip, fault_cr2;
extern u8 tss[];

struct fault last_fault;
static void *fault_jump[5];
static volatile bool fault_armed;

u64 ring0(ring0_function *function, u64 a, u64 b, u64 c) {
  u64 result = (u64)function;
  __asm__ volatile("ud2"
                   : "+a"(result), "+D"(a), "+S"(b), "+d"(c)
                   :
                   : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
  return result;
}

static u64 ring0_in8(u64 port, u64 b, u64 c) {
  (void)b, (void)c;
  u8 value;
  __asm__ volatile("inb %w1, %0" : "=a"(value) : "d"(port));
  return value;
}
static u64 ring0_in16(u64 port, u64 b, u64 c) {
  (void)b, (void)c;
  u16 value;
  __asm__ volatile("inw %w1, %0" : "=a"(value) : "d"(port));
  return value;
}
static u64 ring0_in32(u64 port, u64 b, u64 c) {
  (void)b, (void)c;
  u32 value;
  __asm__ volatile("inl %w1, %0" : "=a"(value) : "d"(port));
  return value;
}
static u64 ring0_out8(u64 port, u64 value, u64 c) {
  (void)c;
  __asm__ volatile("outb %b0, %w1" ::"a"(value), "d"(port));
  return 0;
}
static u64 ring0_out16(u64 port, u64 value, u64 c) {
  (void)c;
  __asm__ volatile("outw %w0, %w1" ::"a"(value), "d"(port));
  return 0;
}
static u64 ring0_out32(u64 port, u64 value, u64 c) {
  (void)c;
  __asm__ volatile("outl %k0, %w1" ::"a"(value), "d"(port));
  return 0;
}
static u64 ring0_rdmsr(u64 msr, u64 b, u64 c) {
  (void)b, (void)c;
  u32 low, high;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return (u64)high << 32 | low;
}
static u64 ring0_wrmsr(u64 msr, u64 value, u64 c) {
  (void)c;
  __asm__ volatile("wrmsr" ::"c"(msr), "a"((u32)value), "d"(value >> 32));
  return 0;
}
static u64 ring0_cpuid(u64 leaf, u64 subleaf, u64 result) {
  struct cpuid_result *r = (struct cpuid_result *)result;
  __asm__ volatile("cpuid"
                   : "=a"(r->eax), "=b"(r->ebx), "=c"(r->ecx), "=d"(r->edx)
                   : "a"(leaf), "c"(subleaf));
  return 0;
}

u8 in8(u16 port) { return (u8)ring0(ring0_in8, port, 0, 0); }
u16 in16(u16 port) { return (u16)ring0(ring0_in16, port, 0, 0); }
u32 in32(u16 port) { return (u32)ring0(ring0_in32, port, 0, 0); }
void out8(u16 port, u8 value) { ring0(ring0_out8, port, value, 0); }
void out16(u16 port, u16 value) { ring0(ring0_out16, port, value, 0); }
void out32(u16 port, u32 value) { ring0(ring0_out32, port, value, 0); }
void outs(u16 port, const void *bytes, size_t size) { ring0(ring0_outs, port, (u64)bytes, size); }
u64 read_msr(u32 msr) { return ring0(ring0_rdmsr, msr, 0, 0); }
void write_msr(u32 msr, u64 value) { ring0(ring0_wrmsr, msr, value, 0); }

struct cpuid_result cpuid(u32 leaf, u32 subleaf) {
  struct cpuid_result result;
  ring0(ring0_cpuid, leaf, subleaf, (u64)&result);
  return result;
}

void halt_forever(void) {
  for (;;) ring0(ring0_halt, 0, 0, 0);
}

static void set_gate(u32 vector, u64 handler) {
  idt[vector] = (struct idt_gate){(u16)handler,         KERNEL_CS, 0, 0x8e, (u16)(handler >> 16),
                                  (u32)(handler >> 32), 0};
}

void interrupts_init(void) {
  for (u32 vector = 0; vector < 32; vector++) set_gate(vector, (u64)exception_stubs + 32 * vector);
  for (u32 vector = 32; vector < 256; vector++)
    set_gate(vector, (u64)irq_stubs + 16 * (vector - 32));
  set_gate(2, (u64)gate_nmi);
  set_gate(6, (u64)gate_ud);
  *(u16 *)(tss + 102) = TSS_SIZE; /* no I/O permission bitmap */
  /* A legacy interrupt controller, where there is one, stays silent. */
  out8(0x21, 0xff);
  out8(0xa1, 0xff);
  lapic_init();
  ring0(ring0_interrupts_on, 0, 0, 0);
}

/* The exception stubs continue here, in ring 3 on a stack of its own, with interrupts off. */
void __attribute__((noreturn, used)) user_fault(void) {
  last_fault = (struct fault){fault_vector, fault_error, fault_rip, fault_cr2};
  if (fault_armed) {
    ring0(ring0_interrupts_on, 0, 0, 0);
    __builtin_longjmp(fault_jump, 1);
  }
  not_ok("exception", "vector %u error 0x%lx rip 0x%lx address 0x%lx", last_fault.vector,
         last_fault.error, last_fault.rip, last_fault.address);
  finish();
}

int __attribute__((noinline)) guarded(void (*body)(void *), void *argument) {
  if (__builtin_setjmp(fault_jump) != 0) {
    fault_armed = false;
    return 1 + (int)last_fault.vector;
  }
  fault_armed = true;
  body(argument);
  fault_armed = false;
  return 0;
}
