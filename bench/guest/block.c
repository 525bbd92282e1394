/*
 * virtio-blk at full speed: `depth` requests in flight, each reaped one replaced at once. Options:
 *
 *   bs=BYTES (multiple of 4096)  depth=N  queues=N  write=PERCENT  order=random or sequential
 * pause=US between a request's end and the next (depth=1)
 * disk=N verify=some or all: what is read back, and compared, after the timed phase
 * iommu=BYTES behind an IOMMU: memory is mapped in pieces of that size (iommu.c)
 *
 * Every 4 KiB of the image begin and end with a word that tells its number and who wrote it: the
 * host (seed) or this run (seed + 1). Each read is checked at its ends; the rest afterwards.
 */
#include "block.h"

#include "iommu.h"
#include "measure.h"

#define UNIT 4096ul
#define MAX_DEPTH 256
#define MAX_QUEUES 16
#define CHAIN 3
#define SAMPLES 256

struct slot {
  u64 submitted, first_unit;
  struct block_header *header;
  volatile u8 *status;
  u8 *data;
  u32 lane;
  u16 head;
  bool writes;
};

static struct virtio disk;
static struct ring lanes[MAX_QUEUES];
static struct slot slots[MAX_DEPTH];
static u8 slot_of[MAX_QUEUES][1024];
static u32 depth, queues, units_each, write_percent;
static u64 blocks, next_block, seed, random_state, bad, completed, in_flight, pause_us;
static bool sequential, interrupts;
static u64 *written; /* a bit for each block */
static struct histogram latency;

static u64 tag(u64 unit, u64 with) { return (unit + 1) * 0x9e3779b97f4a7c15ul ^ with; }

static bool unit_matches(const u8 *data, u64 unit, u64 with) {
  return ((const volatile u64 *)data)[0] == tag(unit, with) &&
         ((const volatile u64 *)data)[UNIT / 8 - 1] == ~tag(unit, with);
}

static bool open_disk(void) {
  depth = (u32)MIN(option_number("depth", 32), (u64)MAX_DEPTH);
  queues = (u32)MIN(option_number("queues", 1), (u64)MAX_QUEUES);
  units_each = (u32)(option_number("bs", UNIT) / UNIT);
  write_percent = (u32)option_number("write", 0);
  sequential = strcmp(option("order", "random"), "sequential") == 0;
  interrupts = waits_for_interrupts();
  pause_us = option_number("pause", 0);
  seed = option_number("seed", 1);
  random_state = seed * 0x2545f4914f6cdd1dul | 1;
  if (!virtio_find(&disk, VIRTIO_BLOCK, (u32)option_number("disk", 0)) ||
      !virtio_start(&disk, (BLOCK_FEATURES | F_ACCESS_PLATFORM) & ~F_INDIRECT_DESC)) {
    not_ok("blk", "no disk");
    return false;
  }
  if (!translate(&disk)) return false;
  u64 sectors = read32(disk.config) | (u64)read32(disk.config + 4) << 32;
  blocks = sectors * SECTOR / (units_each * UNIT);
  u16 count = read16(disk.common + COMMON_NUM_QUEUES);
  if (queues == 0 || depth == 0 || units_each == 0 || blocks < depth || queues > count) {
    not_ok("blk", "%u queues of %u, depth %u, %lu blocks", queues, count, depth, blocks);
    return false;
  }
  for (u16 i = 0; i < queues; i++)
    ring_init(&lanes[i], &disk, i, 1024, interrupts ? MEASURE_ENTRY : NO_VECTOR);
  virtio_driver_ok(&disk);
  if (interrupts) measure_interrupts(&disk);
  return true;
}

/* The chains never change but for the direction of their data. */
static bool make_slots(void) {
  u32 size = (u32)(units_each * UNIT);
  u8 *data = alloc((u64)depth * size), *headers = alloc(depth * 64ul),
     *statuses = alloc(depth * 64ul);
  written = alloc(blocks / 8 + 8);
  for (u32 i = 0; i < depth; i++) {
    struct slot *s = &slots[i];
    *s = (struct slot){.header = (void *)(headers + i * 64),
                       .status = statuses + i * 64,
                       .data = data + (u64)i * size,
                       .lane = i % queues,
                       .head = (u16)(i / queues * CHAIN)};
    struct virtqueue *q = &lanes[s->lane].q;
    u16 head = s->head;
    if (head + CHAIN > q->size) {
      not_ok("blk", "a queue of %u has no room for depth %u", q->size, depth);
      return false;
    }
    slot_of[s->lane][head] = (u8)i;
    q->desc[head] = (struct vring_desc){(u64)s->header, 16, DESC_NEXT, (u16)(head + 1)};
    q->desc[head + 1] = (struct vring_desc){(u64)s->data, size, DESC_NEXT, (u16)(head + 2)};
    q->desc[head + 2] = (struct vring_desc){(u64)s->status, 1, DESC_WRITE, 0};
  }
  return true;
}

static void stamp(u8 *data, u64 unit) {
  for (u32 i = 0; i < units_each; i++, data += UNIT, unit++) {
    ((volatile u64 *)data)[0] = tag(unit, seed + 1);
    ((volatile u64 *)data)[UNIT / 8 - 1] = ~tag(unit, seed + 1);
  }
}

static void push(u32 index, u64 block, bool writes, u64 now) {
  struct slot *s = &slots[index];
  struct ring *lane = &lanes[s->lane];
  s->first_unit = block * units_each;
  s->writes = writes;
  s->submitted = now;
  s->header->type = writes ? BLOCK_OUT : BLOCK_IN;
  s->header->sector = s->first_unit * (UNIT / SECTOR);
  *s->status = BLOCK_UNTOUCHED;
  if (writes) {
    stamp(s->data, s->first_unit);
    written[block / 64] |= 1ul << (block % 64);
  }
  lane->q.desc[s->head + 1].flags = writes ? DESC_NEXT : DESC_NEXT | DESC_WRITE;
  ring_push(lane, s->head);
  in_flight++;
}

static void push_next(u32 index, u64 now) {
  u64 block;
  if (sequential) {
    block = next_block;
    next_block = next_block + 1 == blocks ? 0 : next_block + 1;
  } else {
    block = random_below(&random_state, blocks);
  }
  bool writes = write_percent >= 100 ||
                (write_percent != 0 && random_below(&random_state, 100) < write_percent);
  push(index, block, writes, now);
}

/* When the next request may be made. */
static u64 after_pause(u64 now) {
  if (pause_us == 0) return now;
  delay_us(pause_us);
  return rdtsc();
}

static void check_slot(const struct slot *s) {
  if (*s->status != BLOCK_OK) bad++;
  if (s->writes) return;
  u64 last = s->first_unit + units_each - 1;
  u64 first_word = *(volatile u64 *)s->data;
  u64 last_word = *(volatile u64 *)(s->data + (units_each - 1) * UNIT + UNIT - 8);
  bool original = first_word == tag(s->first_unit, seed) && last_word == ~tag(last, seed);
  bool ours = first_word == tag(s->first_unit, seed + 1) && last_word == ~tag(last, seed + 1);
  if (!original && !ours) bad++;
}

/* Reaps what a lane has, replaces it if `more`; whether there was anything. */
static bool turn(u32 index, u64 now, bool more) {
  struct ring *lane = &lanes[index];
  u16 used = lane->q.used->index;
  if (used == lane->seen) return false;
  barrier();
  do {
    u32 head = lane->q.used->ring[lane->seen++ & lane->mask].id;
    u8 i = slot_of[index][head & 1023];
    check_slot(&slots[i]);
    histogram_add(&latency, now - slots[i].submitted);
    completed++;
    in_flight--;
    if (more) push_next(i, after_pause(now));
  } while (lane->seen != used);
  if (more) ring_publish(lane);
  return true;
}

static void wait_for_any(void) {
  u32 seen = interrupts_seen();
  bool idle = true;
  for (u32 i = 0; i < queues; i++) idle = ring_arm(&lanes[i]) && idle;
  if (idle) halt_until_interrupt(seen);
}

/* Runs until `end` and on until nothing is in flight. */
static void run_until(u64 end) {
  u64 now = rdtsc();
  for (u32 i = 0; i < depth; i++) push_next(i, now);
  for (u32 i = 0; i < queues; i++) ring_publish(&lanes[i]);
  for (; in_flight != 0; now = rdtsc()) {
    bool busy = false;
    for (u32 i = 0; i < queues; i++) busy = turn(i, now, now < end) || busy;
    if (!busy && interrupts) wait_for_any();
  }
}

/* One read through the first slot; whether each of its units is as `with` has it. */
static bool block_is(u64 block, u64 with) {
  push(0, block, false, rdtsc());
  ring_publish(&lanes[0]);
  while (!ring_has_used(&lanes[0])) pause();
  lanes[0].seen++;
  in_flight--;
  if (*slots[0].status != BLOCK_OK) return false;
  for (u32 i = 0; i < units_each; i++)
    if (!unit_matches(slots[0].data + i * UNIT, block * units_each + i, with)) return false;
  return true;
}

static bool is_written(u64 block) { return (written[block / 64] >> (block % 64) & 1) != 0; }

/* Reads blocks back, whole ones: a sample, or all. */
static u64 verify(u64 *wrong) {
  bool all = strcmp(option("verify", "some"), "all") == 0;
  u64 count = all ? blocks : MIN((u64)SAMPLES, blocks);
  *wrong = 0;
  for (u64 i = 0; i < count; i++) {
    u64 block = all ? i : random_below(&random_state, blocks);
    if (!block_is(block, is_written(block) ? seed + 1 : seed)) (*wrong)++;
  }
  return count;
}

static void measure_block(void) {
  if (!open_disk() || !make_slots()) return;
  measure_ready();
  run_until(phase_end("warm", 50));
  histogram_clear(&latency);
  for (u32 i = 0; i < queues; i++) lanes[i].kicks = 0;
  completed = 0;
  measure_begin();
  u64 begin = rdtsc();
  run_until(phase_end("ms", 300));
  u64 cycles = rdtsc() - begin;
  measure_end();
  u64 wrong, distinct = 0, kicks = 0;
  for (u32 i = 0; i < queues; i++) kicks += lanes[i].kicks;
  u64 verified = verify(&wrong);
  for (u64 i = 0; i <= blocks / 64; i++)
    for (u64 word = written[i]; word != 0; word &= word - 1) distinct++;
  print("result ops=%lu bytes=%lu cycles=%lu kicks=%lu distinct-units=%lu\n", completed,
        completed * units_each * UNIT, cycles, kicks, distinct * units_each);
  histogram_report(&latency);
  check("blk-data", bad == 0, "%lu requests failed or read something else", bad);
  check("blk-verify", wrong == 0, "%lu of %lu blocks differ", wrong, verified);
}
PROGRAM("blk", measure_block);
