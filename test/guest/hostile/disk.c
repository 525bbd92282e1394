/* Requests that a disk must refuse, and resets while it works. */
#include "hostile.h"

static void expect(const char *name, struct block *b, u8 status, u8 wanted) {
  /* The device lives on without a reset: an error belongs to its request alone. */
  u8 *data = alloc(SECTOR);
  u8 next = status == BLOCK_BROKEN ? status : block_request(b, BLOCK_IN, 1, data, SECTOR);
  check(name, status == wanted && next == BLOCK_OK, "status 0x%x, next 0x%x", status, next);
  if (next != BLOCK_OK) block_reopen(b);
}

static void sectors(void) {
  struct block b;
  victim_open(&b, BLOCK_F_FLUSH);
  u8 *data = alloc(0x100000);
  const struct {
    const char *name;
    u64 sector;
    u32 length;
  } cases[] = {
      {"sector-end", b.sectors, SECTOR},
      {"sector-across-end", b.sectors - 1, 2 * SECTOR},
      {"sector-far", b.sectors + 1000000, SECTOR},
      {"sector-shift-overflow", 1ul << 55, SECTOR},
      {"sector-shift-wraps", (1ul << 55) + 1, SECTOR},
      {"sector-last", -1ul, SECTOR},
      {"sector-last-two", -2ul, 4 * SECTOR},
      {"sector-negative", 1ul << 63, SECTOR},
  };
  for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
    expect(cases[i].name, &b, block_request(&b, BLOCK_IN, cases[i].sector, data, cases[i].length),
           BLOCK_IOERR);
    expect(cases[i].name, &b, block_request(&b, BLOCK_OUT, cases[i].sector, data, cases[i].length),
           BLOCK_IOERR);
  }
  static const u32 odd[] = {1, 511, 513, 1000};
  for (u32 i = 0; i < ARRAY_SIZE(odd); i++) {
    expect("sector-odd-length", &b, block_request(&b, BLOCK_IN, 1, data, odd[i]), BLOCK_IOERR);
    expect("sector-odd-length", &b, block_request(&b, BLOCK_OUT, 1, data, odd[i]), BLOCK_IOERR);
  }
  expect("sector-exact-end", &b, block_request(&b, BLOCK_IN, b.sectors - 1, data, SECTOR),
         BLOCK_OK);
  static const u32 types[] = {2, 3, 5, 7, 9, 12, 14, 0x7fffffff, 0x80000000, 0xffffffff};
  for (u32 i = 0; i < ARRAY_SIZE(types); i++)
    expect("type-unknown", &b, block_request(&b, types[i], 0, data, SECTOR), BLOCK_UNSUPP);
  expect("id-long", &b, block_request(&b, BLOCK_GET_ID, 0, data, 4096), BLOCK_OK);
  /* Shorter than an id: an error or the part that fits. */
  u8 status = block_request(&b, BLOCK_GET_ID, 0, data, 3);
  expect("id-short", &b, status == BLOCK_OK ? BLOCK_IOERR : status, BLOCK_IOERR);
  expect("flush-with-data", &b, block_request(&b, BLOCK_FLUSH, 7, data, SECTOR), BLOCK_OK);
}
PROGRAM("hostile-sectors", sectors);

/* DISCARD and WRITE_ZEROES carry segments of 16 bytes (§5.2.6.1): garbage in them. */
static void segments(void) {
  struct block b;
  victim_open(&b, BLOCK_F_DISCARD | BLOCK_F_WRITE_ZEROES);
  struct segment {
    u64 sector;
    u32 count, flags;
  } *s = alloc(4096);
  const struct segment cases[] = {{b.sectors, 1, 0},
                                  {b.sectors - 1, 2, 0},
                                  {-1ul, 1, 0},
                                  {1ul << 55, 8, 0},
                                  {8, 0xffffffff, 0},
                                  {8, 1, 0xfffffffe},
                                  {-1ul, 0xffffffff, ~0u},
                                  {8, 0, 0}};
  static const u32 types[] = {BLOCK_DISCARD, BLOCK_WRITE_ZEROES};
  u64 wanted[] = {BLOCK_F_DISCARD, BLOCK_F_WRITE_ZEROES};
  for (u32 t = 0; t < ARRAY_SIZE(types); t++) {
    bool offered = (b.device.features & wanted[t]) != 0;
    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
      *s = cases[i];
      u8 status = block_request(&b, types[t], 0, s, sizeof(*s));
      bool harmless = cases[i].count == 0 && status == BLOCK_OK;
      bool refused = status == BLOCK_IOERR || status == BLOCK_UNSUPP || harmless;
      expect("segment", &b, refused ? BLOCK_IOERR : status, BLOCK_IOERR);
    }
    static const u32 odd[] = {1, 8, 15, 17, 4096};
    for (u32 i = 0; i < ARRAY_SIZE(odd); i++) {
      *s = (struct segment){-1ul, 1, 0};
      u8 status = block_request(&b, types[t], 0, s, odd[i]);
      expect("segment-length", &b, status == BLOCK_UNSUPP ? BLOCK_IOERR : status, BLOCK_IOERR);
    }
    print("segments of type %u: offered %u\n", types[t], offered);
  }
}
PROGRAM("hostile-segments", segments);

/* On a disk that is read-only (disk=N). The host checks that its file did not change. */
static void read_only(void) {
  struct block b;
  if (!block_open(&b, (u32)option_number("disk", 0), BLOCK_FEATURES & ~BLOCK_F_RO, NO_VECTOR)) {
    not_ok("read-only", "no disk");
    return;
  }
  check("read-only-offered", (virtio_offered(&b.device) & BLOCK_F_RO) != 0, "RO not offered");
  u8 *data = alloc(65536);
  block_pattern(data, 0, 8, 99);
  /* Whether or not the driver accepted the feature. */
  for (u32 round = 0; round < 2; round++) {
    expect("read-only-write", &b, block_request(&b, BLOCK_OUT, 1, data, SECTOR), BLOCK_IOERR);
    expect("read-only-write-long", &b, block_request(&b, BLOCK_OUT, 8, data, 4096), BLOCK_IOERR);
    memset(data, 0, 16);
    data[0] = 8;
    data[8] = 8;
    u8 zeroes = block_request(&b, BLOCK_WRITE_ZEROES, 0, data, 16);
    check("read-only-zeroes", zeroes == BLOCK_IOERR || zeroes == BLOCK_UNSUPP, "status %u", zeroes);
    u8 discard = block_request(&b, BLOCK_DISCARD, 0, data, 16);
    check("read-only-discard", discard == BLOCK_IOERR || discard == BLOCK_UNSUPP, "status %u",
          discard);
    b.device.features |= BLOCK_F_RO;
    block_reopen(&b);
  }
}
PROGRAM("hostile-read-only", read_only);

static u64 sum(const volatile u64 *words, u32 count) {
  u64 total = 0;
  for (u32 i = 0; i < count; i++) total = total * 31 + words[i];
  return total;
}

/* Once the status reads 0 the device touches memory no more (§2.4.1), whatever was in flight. */
static void resets(void) {
  struct block b;
  victim_open(&b, 0);
  u8 *bulk = alloc(32 * 65536);
  u32 touched = 0, dead = 0, rounds = (u32)option_number("rounds", 100);
  u64 base = MIN(b.sectors - 128, 64ul);
  for (u32 round = 0; round < rounds; round++) {
    size_t mark = alloc_mark();
    block_reopen(&b);
    for (u32 i = 0; i < 32; i++)
      block_submit(&b, (round & 1) != 0 ? BLOCK_IN : BLOCK_OUT, base, bulk + i * 65536, 65536);
    virtqueue_notify(&b.queue);
    delay_us(random_next() % 300);
    virtio_reset(&b.device);
    memset(bulk, 0xa5, 32 * 65536);
    u64 used = sum((const u64 *)b.queue.used, 64), data = sum((u64 *)bulk, 32 * 8192);
    delay_us(500);
    if (sum((const u64 *)b.queue.used, 64) != used || sum((u64 *)bulk, 32 * 8192) != data)
      touched++;
    if (round % 10 == 0 && !recovers(&b)) dead++;
    alloc_release(mark);
  }
  check("reset-in-flight", touched == 0 && dead == 0,
        "of %u rounds: memory touched after the reset in %u, dead in %u", rounds, touched, dead);
  judge("reset-in-flight-after", &b, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-resets", resets);

/* A megabyte-sized appetite: one request of 32 MiB, and a queue full of 1 MiB requests for the same
 * memory. */
static void appetite(void) {
  struct block b;
  victim_open(&b, 0);
  u32 large = (u32)MIN(b.sectors * SECTOR, 0x2000000ul), id, length;
  u8 *bulk = alloc(large);
  u8 status = block_request(&b, BLOCK_IN, 0, bulk, large);
  check("appetite-large", status == BLOCK_OK || status == BLOCK_IOERR, "status 0x%x", status);
  u32 submitted = 0, completed = 0, piece = MIN(large, 0x100000u);
  while (block_submit(&b, BLOCK_IN, 0, bulk, piece) >= 0) submitted++;
  virtqueue_notify(&b.queue);
  while (completed < submitted && virtqueue_wait(&b.queue, &id, &length, 3000000)) completed++;
  check("appetite-many", completed == submitted, "%u of %u", completed, submitted);
}
PROGRAM("hostile-appetite", appetite);
