/* Time by the TSC, whose rate comes from CPUID or from KVM's APIC timer (1 GHz bus). */
#include "guest.h"

#define LAPIC_TIMER_LVT 0x320
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_CURRENT 0x390
#define LAPIC_TIMER_DIVIDE 0x3e0
#define DIVIDE_BY_16 3
#define TIMER_TICKS_PER_US (1000 / 16)

extern volatile u32 irq_total;
extern u64 ring0_wait(u64, u64, u64);

static u64 ticks_per_us;
static u64 start;

static u64 calibrate(void) {
  struct cpuid_result max = cpuid(0x40000000, 0);
  if (max.eax >= 0x40000010) {
    u32 khz = cpuid(0x40000010, 0).eax;
    if (khz != 0) return khz / 1000;
  }
  lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
  lapic_write(LAPIC_TIMER_LVT, 0x10000);
  lapic_write(LAPIC_TIMER_INITIAL, ~0u);
  u32 first = lapic_read(LAPIC_TIMER_CURRENT);
  u64 begin = rdtsc();
  while (rdtsc() - begin < 2000000) pause();
  u32 ticks = first - lapic_read(LAPIC_TIMER_CURRENT);
  u64 cycles = rdtsc() - begin;
  lapic_write(LAPIC_TIMER_INITIAL, 0);
  return ticks == 0 ? 2500 : MAX(cycles * TIMER_TICKS_PER_US / ticks, 1);
}

void time_init(void) {
  ticks_per_us = calibrate();
  start = rdtsc();
}

u64 now_us(void) { return (rdtsc() - start) / ticks_per_us; }

void delay_us(u64 us) {
  for (u64 end = now_us() + us; now_us() < end;) pause();
}

bool wait_irq(u8 vector, u32 seen, u64 timeout_us) {
  u64 end = now_us() + timeout_us;
  lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
  lapic_write(LAPIC_TIMER_LVT, TIMER_VECTOR);
  for (;;) {
    u32 total = irq_total;
    if (irq_counts[vector] != seen) break;
    u64 now = now_us();
    if (now >= end) break;
    u64 ticks = MIN((end - now) * TIMER_TICKS_PER_US + 100, 0xfffffffful);
    lapic_write(LAPIC_TIMER_INITIAL, (u32)ticks);
    ring0(ring0_wait, (u64)&irq_total, total, 0);
  }
  lapic_write(LAPIC_TIMER_INITIAL, 0);
  return irq_counts[vector] != seen;
}
