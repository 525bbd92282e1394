#include "measure.h"

#define LAPIC_TIMER_LVT 0x320
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_DIVIDE 0x3e0
#define PERIODIC 0x20000
#define DIVIDE_BY_16 3
/* An interrupt that is lost costs this long and no more; at KVM's 1 GHz. */
#define RESCUE_TICKS (5000000 / 16)

/* The helper wakes up and reads some files of /proc. */
#define HELPER_US 3000
/* How long the device is left alone after the timed phase, so that it shows whether somebody still
 * looks at it. */
#define REST_US 30000

extern volatile u32 irq_total;
extern u64 ring0_wait(u64, u64, u64);

static bool by_interrupt;

void measure_ready(void) {
  print("ready\n");
  delay_us(HELPER_US);
}

void measure_begin(void) {
  print("begin\n");
  delay_us(HELPER_US);
}

void measure_end(void) {
  print("end\n");
  delay_us(HELPER_US);
  print("rest\n");
  delay_us(REST_US);
  print("rested\n");
  delay_us(HELPER_US);
}

u64 phase_end(const char *option_name, u64 default_ms) {
  u64 ms = option_number(option_name, default_ms);
  u64 begin_us = now_us(), begin = rdtsc();
  /* now_us counts whole cycles for a microsecond: measure them once more, over long enough. */
  static u64 cycles_per_ms;
  if (cycles_per_ms == 0) {
    delay_us(1000);
    cycles_per_ms = (rdtsc() - begin) * 1000 / MAX(now_us() - begin_us, 1ul);
    begin = rdtsc();
  }
  return begin + ms * cycles_per_ms;
}

bool waits_for_interrupts(void) { return strcmp(option("wait", "poll"), "irq") == 0; }

void measure_interrupts(struct virtio *device) {
  msix_route(device, MEASURE_ENTRY, MEASURE_VECTOR);
  if (by_interrupt) return;
  by_interrupt = true;
  lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
  lapic_write(LAPIC_TIMER_LVT, PERIODIC | TIMER_VECTOR);
  lapic_write(LAPIC_TIMER_INITIAL, RESCUE_TICKS);
}

u32 interrupts_seen(void) { return irq_total; }

void halt_until_interrupt(u32 seen) { ring0(ring0_wait, (u64)&irq_total, seen, 0); }

void histogram_clear(struct histogram *h) { memset(h, 0, sizeof(*h)); }

/* The middle of a bucket. */
static u64 bucket_cycles(u32 index) {
  if (index < 64) return index;
  u32 shift = index / 32 - 1;
  return ((u64)(index - shift * 32) << shift) + (1ul << shift) / 2;
}

void histogram_report(const struct histogram *h) {
  static const u32 ppm[] = {0,      10000,  50000,  100000, 250000, 500000, 750000,
                            900000, 950000, 990000, 995000, 999000, 999900, 1000000};
  if (h->count == 0) return;
  print("quantiles");
  u64 below = 0;
  u32 index = 0;
  for (u32 i = 0; i < ARRAY_SIZE(ppm); i++) {
    u64 rank = MIN(h->count * ppm[i] / 1000000, h->count - 1);
    while (below + h->buckets[index] <= rank) below += h->buckets[index++];
    print(" %u:%lu", ppm[i], bucket_cycles(index));
  }
  print("\n");
}

void ring_init(struct ring *r, struct virtio *device, u16 index, u16 max_size, u16 vector) {
  memset(r, 0, sizeof(*r));
  u16 size = virtio_queue_size(device, index);
  virtqueue_init(&r->q, device, index, MIN(size, max_size), vector);
  r->mask = (u16)(r->q.size - 1);
  r->event = (volatile u16 *)((volatile u8 *)r->q.used + 4 + 8ul * r->q.size);
  r->event_index = (device->features & F_EVENT_IDX) != 0;
  /* Polling: no interrupt is wanted (§2.7.7, §2.7.8); with the event index, it is far away. */
  if (vector == NO_VECTOR) {
    r->q.avail->flags = r->event_index ? 0 : 1;
    if (r->event_index) r->q.avail->ring[r->q.size] = 0xffff;
  }
}
