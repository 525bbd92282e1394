/*
 * The floor under every device: rings a doorbell that somebody on the host answers with an
 * interrupt (bench/host/doorbell.c), over and over. Option: wait=poll (spin until the interrupt
 * came) or irq (halt).
 */
#include "measure.h"

#define DOORBELL ((volatile void *)0xd0000000ul)

static struct histogram latency;

static u64 ring_until(u64 end, bool halts) {
  u64 count = 0, now = rdtsc();
  while (now < end) {
    u64 begin = now;
    u32 seen = irq_counts[MEASURE_VECTOR], total = interrupts_seen();
    write16(DOORBELL, 0);
    while (irq_counts[MEASURE_VECTOR] == seen) {
      if (halts) halt_until_interrupt(total);
      total = interrupts_seen();
    }
    now = rdtsc();
    histogram_add(&latency, now - begin);
    count++;
  }
  return count;
}

static void measure_doorbell(void) {
  bool halts = waits_for_interrupts();
  measure_ready();
  ring_until(phase_end("warm", 50), halts);
  histogram_clear(&latency);
  measure_begin();
  u64 begin = rdtsc();
  u64 count = ring_until(phase_end("ms", 300), halts);
  u64 cycles = rdtsc() - begin;
  measure_end();
  print("result ops=%lu bytes=0 cycles=%lu kicks=%lu\n", count, cycles, count);
  histogram_report(&latency);
  ok("doorbell");
}
PROGRAM("doorbell", measure_doorbell);
