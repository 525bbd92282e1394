/*
 * The payload's small library: what programs see of the machine.
 *
 * Everything here runs in ring 3 unless its name starts with ring0_; see boot/start.S for the way
 * between. Addresses below 4 GiB are physical and virtual alike; see map_physical for the others.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ALIGN_UP(value, to) (((value) + (to)-1) & ~((u64)(to)-1))
#define barrier() __asm__ volatile("" ::: "memory")
#define mb() __asm__ volatile("lock addl $0, (%%rsp)" ::: "memory", "cc")

/* ---- strings and memory (lib/string.c) */
void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t size);
u64 parse_number(const char *s); /* decimal or 0x */

/* ---- serial port and text (lib/print.c); formats: %s %c %d %u %x %lu %lx %% with a width like
 * %04x */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_bytes(const void *bytes, size_t size);

/* ---- results: one line each; `done N` counts them (lib/result.c) */
void ok(const char *name);
void ok_because(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
void not_ok(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* ok or not ok by condition; returns the condition. */
bool check(const char *name, bool condition, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void finish(void) __attribute__((noreturn));

/* ---- programs: chosen by run=NAME[,NAME...] on the command line */
struct program {
  const char *name;
  void (*run)(void);
};
#define PROGRAM(name, function)                                                       \
  static const struct program __attribute__((used, section(".programs"), aligned(8))) \
  function##_program = {name, function}

/* ---- the command line (lib/main.c) */
const char *option(const char *key,
                   const char *otherwise); /* `key=value`; valid until the next call */
u64 option_number(const char *key, u64 otherwise);

/* ---- ring 0 (lib/cpu.c) */
typedef u64 ring0_function(u64 a, u64 b, u64 c);
u64 ring0(ring0_function *function, u64 a, u64 b, u64 c);
u8 in8(u16 port);
u16 in16(u16 port);
u32 in32(u16 port);
void out8(u16 port, u8 value);
void out16(u16 port, u16 value);
void out32(u16 port, u32 value);
void outs(u16 port, const void *bytes, size_t size);
u64 read_msr(u32 msr);
void write_msr(u32 msr, u64 value);
struct cpuid_result {
  u32 eax, ebx, ecx, edx;
};
struct cpuid_result cpuid(u32 leaf, u32 subleaf);
void interrupts_init(void);
void halt_forever(void) __attribute__((noreturn));
extern volatile u32 nmi_count;
extern volatile u32 irq_counts[256]; /* by vector, 32 and up */

/* Runs body; returns 0, or 1 + the vector of the exception that ended it. */
int guarded(void (*body)(void *), void *argument);
struct fault {
  u32 vector;
  u64 error, rip, address;
};
extern struct fault last_fault;

/* ---- time (lib/time.c): microseconds, from the TSC against the ACPI PM timer or CPUID */
void time_init(void);
u64 now_us(void);
void delay_us(u64 us);
/* Waits (halted) until irq_counts[vector] differs from seen or time is over. The APIC timer must be
 * free. */
bool wait_irq(u8 vector, u32 seen, u64 timeout_us);

/* ---- local APIC and other CPUs (lib/apic.c, lib/smp.c) */
#define TIMER_VECTOR 0xe0
void lapic_init(void);
u32 lapic_read(u32 reg);
void lapic_write(u32 reg, u32 value);
u32 lapic_id(void);
void lapic_send(u32 apic_id, u32 command);
void ioapic_route(u32 pin, u8 vector, u32 apic_id);
/* Starts every enabled CPU of the MADT, one after another; returns how many came up in time
 * (without this one). */
u32 smp_start(void (*main)(u32 index), u64 timeout_us);
/* Starts one, again if need be, that runs `main` as CPU `index` (from 1); whether it came up in
 * time. */
bool smp_start_one(u32 index, u32 apic_id, void (*main)(u32 index), u64 timeout_us);

/* ---- memory (lib/memory.c) */
struct memory_region {
  u64 address, size;
  u32 type; /* 1: RAM */
};
extern struct memory_region memory_map[32];
extern u32 memory_map_count;
void memory_init(void);
/* Zeroed, aligned to a page; never freed, but see alloc_mark. Ends the run when memory is out. */
void *alloc(size_t size);
void *alloc_aligned(size_t size, size_t alignment);
size_t alloc_mark(void);
void alloc_release(size_t mark);
/* End of RAM below 4 GiB. */
u64 low_memory_end(void);
/* A virtual address for `size` bytes of physical memory or device at `address`, of any width. */
void *map_physical(u64 address, u64 size);

/* ---- ACPI (lib/acpi.c) */
struct acpi_header {
  char signature[4];
  u32 length;
  u8 revision, checksum;
  char oem_id[6], oem_table_id[8];
  u32 oem_revision, creator_id, creator_revision;
} __attribute__((packed));
u64 rsdp_address(void);
/* NULL if there is no such table (nth counts from 0). */
const struct acpi_header *acpi_table(const char *signature, u32 nth);
/* Address of the SystemMemory operation region named `name` in the DSDT or an SSDT; 0 if none. */
u64 acpi_region(const char *name);

/* ---- power (lib/power.c) */
void power_off(void) __attribute__((noreturn));
/* cause: acpi, i8042, cmos, triple-fault. Returns if the machine goes on regardless. */
void reset(const char *cause);

/* ---- memory mapped I/O: one access of exactly this width */
static inline u8 read8(const volatile void *a) {
  u8 v;
  __asm__ volatile("movb (%1), %0" : "=q"(v) : "r"(a) : "memory");
  return v;
}
static inline u16 read16(const volatile void *a) {
  u16 v;
  __asm__ volatile("movw (%1), %0" : "=r"(v) : "r"(a) : "memory");
  return v;
}
static inline u32 read32(const volatile void *a) {
  u32 v;
  __asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(a) : "memory");
  return v;
}
static inline u64 read64(const volatile void *a) {
  u64 v;
  __asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(a) : "memory");
  return v;
}
static inline void write8(volatile void *a, u8 v) {
  __asm__ volatile("movb %0, (%1)" ::"q"(v), "r"(a) : "memory");
}
static inline void write16(volatile void *a, u16 v) {
  __asm__ volatile("movw %0, (%1)" ::"r"(v), "r"(a) : "memory");
}
static inline void write32(volatile void *a, u32 v) {
  __asm__ volatile("movl %0, (%1)" ::"r"(v), "r"(a) : "memory");
}
static inline void write64(volatile void *a, u64 v) {
  __asm__ volatile("movq %0, (%1)" ::"r"(v), "r"(a) : "memory");
}
static inline u64 rdtsc(void) {
  u32 low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (u64)high << 32 | low;
}
static inline void pause(void) { __asm__ volatile("pause"); }
