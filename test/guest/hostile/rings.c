/* Rings that move, lie where no memory is, or claim more than they hold. */
#include "hostile.h"
#include "pci.h"

static void write_address(struct block *b, u32 field, u64 address) {
  write32(b->device.common + field, (u32)address);
  write32(b->device.common + field + 4, (u32)(address >> 32));
}

/* After DRIVER_OK the device works on with what it has, or breaks; it never follows into nowhere.
 */
static void rewrite(void) {
  struct block b;
  u8 *data = alloc(4096);
  static const struct {
    const char *name;
    u32 field;
    u64 value;
  } cases[] = {
      {"rewrite-desc-zero", COMMON_QUEUE_DESC, 0},
      {"rewrite-desc-hole", COMMON_QUEUE_DESC, 1ul << 45},
      {"rewrite-desc-top", COMMON_QUEUE_DESC, -16ul},
      {"rewrite-driver-hole", COMMON_QUEUE_DRIVER, 0xd0000000},
      {"rewrite-driver-odd", COMMON_QUEUE_DRIVER, 0x1000001},
      {"rewrite-device-hole", COMMON_QUEUE_DEVICE, 0xd0000000},
      {"rewrite-device-top", COMMON_QUEUE_DEVICE, -4ul},
  };
  for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
    victim_open(&b, F_EVENT_IDX);
    write16(b.device.common + COMMON_QUEUE_SELECT, 0);
    write_address(&b, cases[i].field, cases[i].value);
    u8 status = block_request(&b, BLOCK_IN, 1, data, SECTOR);
    u32 outcome = status == BLOCK_OK ? OUT_OK : status == BLOCK_BROKEN ? OUT_BROKEN : OUT_IGNORED;
    judge(cases[i].name, &b, outcome, OUT_OK | OUT_BROKEN);
  }
  static const u16 sizes[] = {0, 1, 2, 3, 0x7fff, 0x8000, 0xffff};
  for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
    victim_open(&b, F_EVENT_IDX);
    write16(b.device.common + COMMON_QUEUE_SELECT, 0);
    write16(b.device.common + COMMON_QUEUE_SIZE, sizes[i]);
    u32 good = 0;
    for (u32 n = 0; n < 300; n++) {
      u8 status = block_request(&b, BLOCK_IN, 1, data, SECTOR);
      if (status != BLOCK_OK) break;
      good++;
    }
    bool broken = (virtio_status(&b.device) & NEEDS_RESET) != 0;
    judge("rewrite-size", &b,
          good == 300 ? OUT_OK
          : broken    ? OUT_BROKEN
                      : OUT_IGNORED,
          OUT_OK | OUT_BROKEN);
  }
  /* While requests are in flight. */
  victim_open(&b, 0);
  u8 *bulk = alloc(0x100000);
  for (u32 i = 0; i < 16; i++) block_submit(&b, BLOCK_IN, 8, bulk + i * 65536, 65536);
  virtqueue_notify(&b.queue);
  for (u32 i = 0; i < 200; i++) {
    write_address(&b, COMMON_QUEUE_DESC, random_next());
    write_address(&b, COMMON_QUEUE_DEVICE, random_next());
    write16(b.device.common + COMMON_QUEUE_SIZE, (u16)random_next());
    write16(b.device.common + COMMON_QUEUE_ENABLE, (u16)(i & 1));
  }
  judge("rewrite-in-flight", &b, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-rewrite", rewrite);

/* A queue set up wrong from the start. Each part of the ring in turn at each place. */
static void places(void) {
  struct block b;
  u64 end = low_memory_end();
  const struct {
    const char *name;
    u64 address;
  } where[] = {
      {"ring-hole", hole_address()}, {"ring-across-end", end - 32}, {"ring-high", 1ul << 45},
      {"ring-top", -64ul},           {"ring-ecam", pci_ecam()},     {"ring-misaligned", 0x1000001},
      {"ring-lapic", 0xfee00000},    {"ring-52-bits", 1ul << 52},
  };
  static const u32 fields[] = {COMMON_QUEUE_DESC, COMMON_QUEUE_DRIVER, COMMON_QUEUE_DEVICE};
  victim_open(&b, 0);
  for (u32 i = 0; i < ARRAY_SIZE(where); i++) {
    for (u32 f = 0; f < ARRAY_SIZE(fields); f++) {
      virtio_start(&b.device, b.device.features);
      virtqueue_init(&b.queue, &b.device, 0, 0, NO_VECTOR);
      write16(b.device.common + COMMON_QUEUE_ENABLE, 0);
      write_address(&b, fields[f], where[i].address);
      write16(b.device.common + COMMON_QUEUE_ENABLE, 1);
      virtio_driver_ok(&b.device);
      struct request *r = good_chain(&b, 0);
      virtqueue_push(&b.queue, 0);
      judge(where[i].name, &b, outcome_of(&b, r), OUT_ANY);
    }
  }
  /* All three at one place. */
  virtio_start(&b.device, b.device.features);
  virtqueue_init(&b.queue, &b.device, 0, 0, NO_VECTOR);
  for (u32 f = 0; f < ARRAY_SIZE(fields); f++) write_address(&b, fields[f], (u64)b.queue.desc);
  virtio_driver_ok(&b.device);
  struct request *r = good_chain(&b, 0);
  judge("ring-all-one", &b, outcome_of(&b, r), OUT_ANY);
}
PROGRAM("hostile-places", places);

static void avail(void) {
  struct block b;
  static const u16 jumps[] = {0x7fff, 0x8000, 0xffff, 0x101, 0x4000};
  victim_open(&b, 0);
  for (u32 i = 0; i < ARRAY_SIZE(jumps); i++) {
    struct request *r = good_chain(&b, 0);
    b.queue.avail->index = (u16)(b.queue.avail->index + jumps[i]);
    mb();
    /* More entries than the ring has (§2.7.13.3: at most the queue size are outstanding). */
    judge("avail-ahead", &b, outcome_of(&b, r), OUT_BROKEN | OUT_IGNORED);
  }
  u16 size = b.queue.size;
  struct request *r = good_chain(&b, 0);
  b.queue.avail->index = (u16)(b.queue.avail->index + size + 1);
  mb();
  judge("avail-one-ahead", &b, outcome_of(&b, r), OUT_BROKEN | OUT_IGNORED);
  /* Exactly full, all the same chain: legal in number. */
  r = good_chain(&b, 0);
  b.queue.avail->index = (u16)(b.queue.avail->index + size);
  mb();
  judge("avail-full", &b, outcome_of(&b, r), OUT_ANY);
  /* The index moves all the time while the device looks. */
  good_chain(&b, 0);
  for (u32 i = 0; i < 20000; i++) {
    b.queue.avail->index = (u16)random_next();
    b.queue.avail->ring[random_next() % size] = (u16)random_next();
    if (i % 64 == 0) virtqueue_notify(&b.queue);
  }
  judge("avail-racing", &b, OUT_IGNORED, OUT_ANY);
  /* Descriptors change under the device's eyes. */
  r = good_chain(&b, 0);
  for (u32 i = 0; i < 50; i++) {
    virtqueue_push(&b.queue, 0);
    virtqueue_notify(&b.queue);
    for (u32 n = 0; n < 400; n++) {
      set_desc(&b, (u16)(n % 4), random_next() & 0x1ffffff, (u32)random_next() & 0xffff,
               (u16)(random_next() & 7), (u16)(random_next() % size));
    }
    if ((virtio_status(&b.device) & NEEDS_RESET) != 0) block_reopen(&b);
    r = good_chain(&b, 0);
  }
  judge("desc-racing", &b, OUT_IGNORED, OUT_ANY);
  /* Doorbells without work. */
  for (u32 i = 0; i < 20000; i++) virtqueue_notify(&b.queue);
  u8 *data = alloc(SECTOR);
  check("doorbell-flood", block_request(&b, BLOCK_IN, 1, data, SECTOR) == BLOCK_OK, "dead");
}
PROGRAM("hostile-avail", avail);
