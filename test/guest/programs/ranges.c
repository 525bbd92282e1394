/* Ranges of a disk that are discarded or zeroed (virtio 1.2 §5.2.6). Options: seed=N (content). */
#include "block.h"

#define FIRST 64
#define COUNT 1024
#define UNMAP 1

struct segment {
  u64 sector;
  u32 sectors, flags;
};

static struct segment *segments;

static u8 request(struct block *b, u32 type, u32 count) {
  return block_request(b, type, 0, segments, count * sizeof(struct segment));
}

static u8 range(struct block *b, u32 type, u64 sector, u32 sectors, u32 flags) {
  segments[0] = (struct segment){sector, sectors, flags};
  return request(b, type, 1);
}

static bool all_zero(const u8 *bytes, u32 size) {
  for (u32 i = 0; i < size; i++)
    if (bytes[i] != 0) return false;
  return true;
}

/* Writes the pattern, zeroes parts of it in one request, and looks at every sector. */
static void zeroes(struct block *b, u8 *data, u64 seed) {
  block_pattern(data, FIRST, COUNT, seed);
  u8 write = block_request(b, BLOCK_OUT, FIRST, data, COUNT * SECTOR);
  segments[0] = (struct segment){FIRST + 3, 5, 0};
  segments[1] = (struct segment){FIRST + 100, 300, UNMAP};
  segments[2] = (struct segment){FIRST, 0, 0};
  u8 status = request(b, BLOCK_WRITE_ZEROES, 3);
  check("ranges-zeroes", write == BLOCK_OK && status == BLOCK_OK, "%u, %u", write, status);
  memset(data, 0x55, COUNT * SECTOR);
  u8 read = block_request(b, BLOCK_IN, FIRST, data, COUNT * SECTOR);
  u32 bad = 0;
  for (u32 i = 0; i < COUNT; i++) {
    bool zero = (i >= 3 && i < 8) || (i >= 100 && i < 400);
    u8 *sector = data + i * SECTOR;
    if (zero ? !all_zero(sector, SECTOR) : !block_matches(sector, FIRST + i, 1, seed)) bad++;
  }
  check("ranges-read", read == BLOCK_OK && bad == 0, "status %u, %u sectors differ", read, bad);
}

static void refused(struct block *b) {
  struct {
    u32 type;
    u64 sector;
    u32 sectors, flags;
    u8 status;
  } cases[] = {
      {BLOCK_DISCARD, 8, 8, UNMAP, BLOCK_UNSUPP},
      {BLOCK_WRITE_ZEROES, 8, 8, 2, BLOCK_UNSUPP},
      {BLOCK_DISCARD, b->sectors, 1, 0, BLOCK_IOERR},
      {BLOCK_WRITE_ZEROES, b->sectors - 1, 2, 0, BLOCK_IOERR},
      {BLOCK_WRITE_ZEROES, ~0ul, 2, 0, BLOCK_IOERR},
      {BLOCK_DISCARD, 0, ~0u, 0, BLOCK_IOERR},
  };
  for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
    u8 status = range(b, cases[i].type, cases[i].sector, cases[i].sectors, cases[i].flags);
    check("ranges-refused", status == cases[i].status, "case %u: %u", i, status);
  }
  u8 status = block_request(b, BLOCK_DISCARD, 0, segments, 17);
  check("ranges-refused", status == BLOCK_IOERR, "17 bytes: %u", status);
}

static void ranges(void) {
  struct block b;
  if (!block_open(&b, 0, BLOCK_FEATURES, NO_VECTOR)) return not_ok("ranges", "no disk");
  segments = alloc(64 * sizeof(struct segment));
  u8 *data = alloc(COUNT * SECTOR);
  u64 both = BLOCK_F_DISCARD | BLOCK_F_WRITE_ZEROES;
  print("offered 0x%lx discard %u sectors %u segments, aligned to %u, zeroes %u sectors\n",
        b.device.features & both, read32(b.device.config + 36), read32(b.device.config + 40),
        read32(b.device.config + 44), read32(b.device.config + 48));
  if (!check("ranges-offered", (b.device.features & both) == both, "0x%lx", b.device.features))
    return;
  zeroes(&b, data, option_number("seed", 1));
  refused(&b);
  /* The host looks at the file: 1 MiB from 1 MiB on is a hole, what surrounds it is not. */
  memset(data, 0x77, COUNT * SECTOR);
  for (u64 at = 0; at < 8192; at += COUNT) block_request(&b, BLOCK_OUT, at, data, COUNT * SECTOR);
  u8 discard = range(&b, BLOCK_DISCARD, 2048, 2048, 0);
  u8 flush = block_request(&b, BLOCK_FLUSH, 0, NULL, 0);
  check("ranges-discard", discard == BLOCK_OK && flush == BLOCK_OK, "%u, %u", discard, flush);
}
PROGRAM("blk-ranges", ranges);

/* A disk that does not offer them does not do them. */
static void no_ranges(void) {
  struct block b;
  if (!block_open(&b, 0, BLOCK_FEATURES, NO_VECTOR)) return not_ok("no-ranges", "no disk");
  segments = alloc(sizeof(struct segment));
  u64 both = BLOCK_F_DISCARD | BLOCK_F_WRITE_ZEROES;
  check("no-ranges-offered", (b.device.features & both) == 0, "0x%lx", b.device.features);
  u8 status = range(&b, BLOCK_DISCARD, 8, 8, 0);
  check("no-ranges-status", status == BLOCK_UNSUPP, "status %u", status);
}
PROGRAM("blk-no-ranges", no_ranges);
