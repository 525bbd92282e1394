#include "crowd.h"

#define START_US 20000000
#define RUN_US 1500000
#define LONGEST_US 600000000
#define SECTORS 8

static void (*attack_of_all)(u32 index, u32 *state);
static volatile bool stop;
static volatile u32 finished;
static u64 end_of_time;

static struct block witness;
static u8 *data;
static u32 rounds, failed;

u32 crowd_random(u32 *state) {
  *state = *state * 1664525 + 1013904223;
  return *state >> 8;
}

bool crowd_has_time(void) {
  if (end_of_time == 0) end_of_time = now_us() + option_number("time", RUN_US);
  return now_us() < end_of_time;
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

u32 crowd(const char *name, void (*assault)(u32 index, u32 *state), bool (*goes_on)(void)) {
  attack_of_all = assault;
  u32 others = smp_start(play, START_US);
  if (!check(named(name, "-others"), others > 0, "one CPU only")) return 0;
  u32 state = 1;
  while (goes_on()) assault(0, &state);
  stop = true;
  for (u64 end = now_us() + START_US; finished < others && now_us() < end;) pause();
  check(named(name, "-ended"), finished == others, "%u of %u", finished, others);
  return others;
}

void witness_open(u32 nth) {
  data = alloc(SECTORS * SECTOR);
  end_of_time = now_us() + LONGEST_US;
  if (block_open(&witness, nth, F_EVENT_IDX, NO_VECTOR)) return;
  not_ok("witness", "no disk %u", nth);
  finish();
}

const struct virtio *witness_device(void) { return &witness.device; }

bool witness_goes_on(void) {
  u64 at = SECTORS + rounds % 64 * SECTORS;
  block_pattern(data, at, SECTORS, rounds);
  bool good = block_request(&witness, BLOCK_OUT, at, data, SECTORS * SECTOR) == BLOCK_OK;
  memset(data, 0, SECTORS * SECTOR);
  good = block_request(&witness, BLOCK_IN, at, data, SECTORS * SECTOR) == BLOCK_OK && good;
  if (!good || !block_matches(data, at, SECTORS, rounds)) failed++;
  rounds++;
  return nmi_count == 0 && crowd_has_time();
}

void witness_report(const char *name) {
  check(name, failed == 0 && rounds > 0, "%u of %u rounds failed", failed, rounds);
}
