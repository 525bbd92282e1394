/*
 * What all measuring programs share: the talk with the host's helper, the clock, latencies, and a
 * virtqueue's hot path. Options that all understand:
 *
 *   ms=N      length of the timed phase, milliseconds        warm=N  of the phase before it
 *   wait=poll or irq: how the CPU learns of used buffers     seed=N  content
 *
 * The helper hears `ready` (set up: threads may be pinned now), `begin` and `end` (counters are to
 * be read), then lines `result KEY=VALUE...` and `quantiles PPM:CYCLES...`. Times are TSC cycles.
 */
#pragma once
#include "guest.h"
#include "virtio.h"

#define MEASURE_VECTOR 0x50
#define MEASURE_ENTRY 1 /* of the MSI-X table */

/* ---- phases (measure.c) */
/* Says `ready` and lets the helper act upon it. */
void measure_ready(void);
/* Says `begin`, and returns when the helper has had the time to look. */
void measure_begin(void);
/* Says `end`, and then leaves the device alone for a while. */
void measure_end(void);
/* TSC when the phase of this option's milliseconds that starts now is to end. */
u64 phase_end(const char *option_name, u64 default_ms);

/* ---- waiting */
/* Prepares waiting as wait= has it; the device's MSI-X entry MEASURE_ENTRY is routed. */
bool waits_for_interrupts(void);
void measure_interrupts(struct virtio *device);
/* Halts until an interrupt that came after `seen` was read from interrupts_seen(). */
u32 interrupts_seen(void);
void halt_until_interrupt(u32 seen);

/* ---- latencies: a histogram of 32 steps to each power of two */
#define HISTOGRAM_BUCKETS 1280
struct histogram {
  u64 count;
  u32 buckets[HISTOGRAM_BUCKETS];
};
static inline void histogram_add(struct histogram *h, u64 cycles) {
  u32 index = (u32)cycles;
  if (cycles >= 64) {
    u32 shift = 58u - (u32)__builtin_clzl(cycles);
    index = shift * 32 + (u32)(cycles >> shift);
    if (index >= HISTOGRAM_BUCKETS) index = HISTOGRAM_BUCKETS - 1;
  }
  h->buckets[index]++;
  h->count++;
}
void histogram_clear(struct histogram *h);
void histogram_report(const struct histogram *h);

/* ---- random numbers: xorshift64 (Marsaglia 2003) */
static inline u64 random_next(u64 *state) {
  u64 x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}
/* 0..limit-1, limit below 2^32 */
static inline u64 random_below(u64 *state, u64 limit) {
  return ((random_next(state) >> 32) * limit) >> 32;
}

/* ---- rings, for drivers that keep their descriptors as they are and only pass heads on */
struct ring {
  struct virtqueue q;
  volatile u16 *event; /* avail_event */
  u16 mask, available, seen, kicked;
  u32 kicks;
  bool event_index;
};
void ring_init(struct ring *r, struct virtio *device, u16 index, u16 max_size, u16 vector);
static inline void ring_push(struct ring *r, u16 head) {
  r->q.avail->ring[r->available++ & r->mask] = head;
}
/* Shows the device what was pushed and rings the doorbell if the device asks for it (virtio 1.2
 * §2.7.10). x86 keeps stores in order, so only the look at avail_event needs a fence. */
static inline void ring_publish(struct ring *r) {
  barrier();
  r->q.avail->index = r->available;
  mb();
  bool wanted;
  if (r->event_index) {
    wanted = (u16)(r->available - *r->event - 1) < (u16)(r->available - r->kicked);
  } else {
    wanted = (r->q.used->flags & 1) == 0;
  }
  r->kicked = r->available;
  if (!wanted) return;
  r->kicks++;
  write16(r->q.doorbell, r->q.index);
}
static inline bool ring_has_used(const struct ring *r) { return r->q.used->index != r->seen; }
/* Asks for an interrupt at the next used buffer; true if there is none yet, so that waiting is
 * right. */
static inline bool ring_arm(struct ring *r) {
  if (r->event_index) r->q.avail->ring[r->q.size] = r->seen;
  mb();
  return !ring_has_used(r);
}
