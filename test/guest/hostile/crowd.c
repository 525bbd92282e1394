#include "crowd.h"

#define START_US 20000000
#define LONGEST_US 600000000
#define SECTORS 8

static struct block witness;
static u8 *data;
static void (*attack_of_all)(u32 index, u32 *state);
static volatile bool stop;
static volatile u32 finished;

u32 crowd_random(u32 *state) {
  *state = *state * 1664525 + 1013904223;
  return *state >> 8;
}

void witness_open(u32 nth) {
  data = alloc(SECTORS * SECTOR);
  if (block_open(&witness, nth, F_EVENT_IDX, NO_VECTOR)) return;
  not_ok("witness", "no disk %u", nth);
  finish();
}

u32 witness_slot(void) { return witness.device.slot; }

const struct virtio *witness_device(void) { return &witness.device; }

/* Writes and reads back. */
static bool use_witness(u32 round) {
  u64 at = SECTORS + round % 64 * SECTORS;
  block_pattern(data, at, SECTORS, round);
  bool good = block_request(&witness, BLOCK_OUT, at, data, SECTORS * SECTOR) == BLOCK_OK;
  memset(data, 0, SECTORS * SECTOR);
  good = block_request(&witness, BLOCK_IN, at, data, SECTORS * SECTOR) == BLOCK_OK && good;
  return good && block_matches(data, at, SECTORS, round);
}

static void play(u32 index) {
  u32 state = index * 7919 + 1;
  while (!stop) attack_of_all(index, &state);
  __asm__ volatile("lock incl %0" : "+m"(finished));
}

static const char *named(const char *name, const char *what) {
  static char text[64];
  size_t length = MIN(strlen(name), sizeof(text) / 2);
  memcpy(text, name, length);
  memcpy(text + length, what, strlen(what) + 1);
  return text;
}

void crowd(const char *name, void (*assault)(u32 index, u32 *state)) {
  attack_of_all = assault;
  u32 others = smp_start(play, START_US);
  if (!check(named(name, "-others"), others > 0, "one CPU only")) return;
  u32 state = 1, round = 0, failed = 0;
  for (u64 end = now_us() + LONGEST_US; nmi_count == 0 && now_us() < end; round++) {
    if (!use_witness(round)) failed++;
    assault(0, &state);
  }
  stop = true;
  for (u64 end = now_us() + START_US; finished < others && now_us() < end;) pause();
  check(named(name, "-ended"), finished == others, "%u of %u", finished, others);
  check(named(name, "-witness"), failed == 0 && round > 0, "%u of %u rounds failed", failed, round);
}
