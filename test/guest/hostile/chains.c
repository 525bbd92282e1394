/* Descriptors and chains that no driver would make. */
#include "hostile.h"
#include "pci.h"

static void ranges(void) {
  struct block b;
  victim_open(&b, 0);
  u64 end = low_memory_end();
  const struct {
    const char *name;
    u64 address;
    u32 length;
  } cases[] = {
      {"desc-past-end", end - SECTOR, 2 * SECTOR},
      {"desc-wraps", -256ul, 2 * SECTOR},
      {"desc-last-byte", -1ul, SECTOR},
      {"desc-hole", hole_address(), SECTOR},
      {"desc-high-hole", 1ul << 45, SECTOR},
      {"desc-beyond-52-bits", 1ul << 60, SECTOR},
      {"desc-bar", pci_bar(b.device.slot, 0), SECTOR},
      {"desc-ecam", pci_ecam(), SECTOR},
      {"desc-lapic", 0xfee00000, SECTOR},
      {"desc-huge", 0x1000000, 0xfffffe00},
      {"desc-end-to-hole", end, SECTOR},
  };
  for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
    struct request *r = good_chain(&b, 0);
    set_desc(&b, 1, cases[i].address, cases[i].length, DESC_NEXT | DESC_WRITE, 2);
    attack(cases[i].name, &b, r, OUT_REFUSED);
    /* The same for what the device reads. */
    r = good_chain(&b, 0);
    r->header.type = BLOCK_OUT;
    set_desc(&b, 1, cases[i].address, cases[i].length, DESC_NEXT, 2);
    attack(cases[i].name, &b, r, OUT_REFUSED);
  }
  struct request *r = good_chain(&b, 0);
  set_desc(&b, 0, hole_address(), 16, DESC_NEXT, 1);
  attack("desc-header-hole", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 2, hole_address(), 1, DESC_WRITE, 0);
  attack("desc-status-hole", &b, r, OUT_REFUSED);
}
PROGRAM("hostile-ranges", ranges);

static void cycles(void) {
  struct block b;
  victim_open(&b, 0);
  u16 size = b.queue.size;
  struct request *r = good_chain(&b, 0);
  set_desc(&b, 0, (u64)&r->header, 16, DESC_NEXT, 0);
  attack("chain-self", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)r->data, SECTOR, DESC_NEXT | DESC_WRITE, 1);
  attack("chain-self-writable", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 2, (u64)&r->status, 1, DESC_NEXT | DESC_WRITE, 1);
  attack("chain-two", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  for (u16 i = 1; i < size; i++)
    set_desc(&b, i, (u64)r->data, 8, DESC_NEXT | DESC_WRITE, (u16)((i + 1) % size));
  attack("chain-whole-table", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)r->data, SECTOR, DESC_NEXT | DESC_WRITE, size);
  attack("chain-next-out", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)r->data, SECTOR, DESC_NEXT | DESC_WRITE, 0xffff);
  attack("chain-next-far", &b, r, OUT_REFUSED);
  /* Readable after writable (2.7.4.2). */
  r = good_chain(&b, 0);
  set_desc(&b, 0, (u64)&r->header, 16, DESC_NEXT | DESC_WRITE, 1);
  set_desc(&b, 1, (u64)r->data, SECTOR, DESC_NEXT, 2);
  attack("chain-order", &b, r, OUT_REFUSED);
  /* A ring entry that is no descriptor. */
  r = good_chain(&b, 0);
  virtqueue_push(&b.queue, size);
  judge("chain-head-out", &b, outcome_of(&b, r), OUT_REFUSED);
  r = good_chain(&b, 0);
  virtqueue_push(&b.queue, 0xffff);
  judge("chain-head-far", &b, outcome_of(&b, r), OUT_REFUSED);
  /* Unknown flags. */
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)r->data, SECTOR, 0xfff8 | DESC_NEXT | DESC_WRITE, 2);
  attack("chain-flags", &b, r, OUT_ANY);
  /* The same chain twice at once. */
  r = good_chain(&b, 0);
  virtqueue_push(&b.queue, 0);
  attack("chain-twice", &b, r, OUT_ANY);
}
PROGRAM("hostile-cycles", cycles);

static struct vring_desc *table_of(struct request *r) {
  struct vring_desc *t = alloc_aligned(65536 * sizeof(*t), 16);
  t[0] = (struct vring_desc){(u64)&r->header, 16, DESC_NEXT, 1};
  t[1] = (struct vring_desc){(u64)r->data, SECTOR, DESC_NEXT | DESC_WRITE, 2};
  t[2] = (struct vring_desc){(u64)&r->status, 1, DESC_WRITE, 0};
  return t;
}

static void indirect(void) {
  struct block b;
  victim_open(&b, F_INDIRECT_DESC);
  struct request *r = request_new(BLOCK_IN, 1);
  struct vring_desc *t = table_of(r);
  set_desc(&b, 0, (u64)t, 48, DESC_INDIRECT, 0);
  attack("indirect-good", &b, r, OUT_OK);
  static const struct {
    const char *name;
    u32 length;
  } lengths[] = {{"indirect-empty", 0},
                 {"indirect-short", 8},
                 {"indirect-odd", 49},
                 {"indirect-one", 16},
                 {"indirect-cut", 32},
                 {"indirect-huge", 0xfffffff0},
                 {"indirect-longest", 0xffffffff}};
  for (u32 i = 0; i < ARRAY_SIZE(lengths); i++) {
    r->status = BLOCK_UNTOUCHED;
    set_desc(&b, 0, (u64)t, lengths[i].length, DESC_INDIRECT, 0);
    /* Lengths that hold the chain may be taken. */
    attack(lengths[i].name, &b, r, lengths[i].length < 48 ? OUT_REFUSED : OUT_ANY);
  }
  const struct {
    const char *name;
    u64 address;
  } places[] = {{"indirect-hole", hole_address()},
                {"indirect-past-end", low_memory_end() - 16},
                {"indirect-wraps", -16ul},
                {"indirect-bar", pci_bar(b.device.slot, 0)}};
  for (u32 i = 0; i < ARRAY_SIZE(places); i++) {
    r->status = BLOCK_UNTOUCHED;
    set_desc(&b, 0, places[i].address, 48, DESC_INDIRECT, 0);
    attack(places[i].name, &b, r, OUT_REFUSED);
  }
  /* §2.7.5.3.1: no INDIRECT within a table, no NEXT beside INDIRECT. */
  r->status = BLOCK_UNTOUCHED;
  struct vring_desc *outer = alloc(4096);
  outer[0] = (struct vring_desc){(u64)t, 48, DESC_INDIRECT, 0};
  set_desc(&b, 0, (u64)outer, 16, DESC_INDIRECT, 0);
  attack("indirect-nested", &b, r, OUT_REFUSED);
  outer[0] = (struct vring_desc){(u64)outer, 16, DESC_INDIRECT, 0};
  set_desc(&b, 0, (u64)outer, 16, DESC_INDIRECT, 0);
  attack("indirect-itself", &b, r, OUT_REFUSED);
  r->status = BLOCK_UNTOUCHED;
  set_desc(&b, 0, (u64)t, 48, DESC_INDIRECT | DESC_NEXT, 1);
  set_desc(&b, 1, (u64)r->data, SECTOR, DESC_WRITE, 0);
  attack("indirect-and-next", &b, r, OUT_ANY);
  r->status = BLOCK_UNTOUCHED;
  t[2] = (struct vring_desc){(u64)r->data, 8, DESC_NEXT | DESC_WRITE, 1};
  set_desc(&b, 0, (u64)t, 48, DESC_INDIRECT, 0);
  attack("indirect-cycle", &b, r, OUT_REFUSED);
  t[1] = (struct vring_desc){(u64)r->data, SECTOR, DESC_NEXT | DESC_WRITE, 3};
  attack("indirect-next-out", &b, r, OUT_REFUSED);
  /* A chain of 65,535 descriptors, longer than any queue. */
  for (u32 i = 1; i < 65535; i++)
    t[i] = (struct vring_desc){(u64)r->data, 8, DESC_NEXT | DESC_WRITE, (u16)(i + 1)};
  t[65535] = (struct vring_desc){(u64)&r->status, 1, DESC_WRITE, 0};
  set_desc(&b, 0, (u64)t, 65536 * 16, DESC_INDIRECT, 0);
  attack("indirect-long", &b, r, OUT_ANY);
  /* Without the feature the flag means nothing good. */
  virtio_reset(&b.device);
  b.device.features &= ~F_INDIRECT_DESC;
  block_reopen(&b);
  t = table_of(r);
  r->status = BLOCK_UNTOUCHED;
  set_desc(&b, 0, (u64)t, 48, DESC_INDIRECT, 0);
  attack("indirect-not-negotiated", &b, r, OUT_ANY);
}
PROGRAM("hostile-indirect", indirect);

static void lengths(void) {
  struct block b;
  victim_open(&b, 0);
  struct request *r = good_chain(&b, 0);
  set_desc(&b, 0, (u64)&r->header, 0, DESC_NEXT, 1);
  attack("zero-header", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 0, (u64)&r->header, 15, DESC_NEXT, 1);
  attack("short-header", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)r->data, 0, DESC_NEXT | DESC_WRITE, 2);
  attack("zero-data", &b, r, OUT_ANY);
  r = good_chain(&b, 0);
  set_desc(&b, 2, (u64)&r->status, 0, DESC_WRITE, 0);
  attack("zero-status", &b, r, OUT_ANY);
  r = good_chain(&b, 0);
  set_desc(&b, 0, (u64)&r->header, 16, 0, 0);
  attack("only-header", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 0, (u64)&r->status, 1, DESC_WRITE, 0);
  attack("only-status", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 0, 0, 0, 0, 0);
  attack("nothing", &b, r, OUT_REFUSED);
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)r->data, SECTOR, DESC_NEXT, 2);
  attack("read-into-readable", &b, r, OUT_ANY);
  r = good_chain(&b, 0);
  r->header.type = BLOCK_OUT;
  attack("write-from-writable", &b, r, OUT_ANY);
  /* Legal: a header in 16 pieces (§2.7.4.2 leaves framing to the driver). */
  r = good_chain(&b, 0);
  for (u16 i = 0; i < 16; i++)
    set_desc(&b, (u16)(i == 0 ? 0 : 2 + i), (u64)&r->header + i, 1, DESC_NEXT,
             (u16)(i == 15 ? 20 : 3 + i));
  set_desc(&b, 20, (u64)r->data, SECTOR, DESC_NEXT | DESC_WRITE, 21);
  set_desc(&b, 21, (u64)&r->status, 1, DESC_WRITE, 0);
  attack("split-header", &b, r, OUT_OK);
  /* Legal: data and status in one descriptor. */
  r = good_chain(&b, 0);
  volatile u8 *last = &r->data[SECTOR];
  *last = BLOCK_UNTOUCHED;
  set_desc(&b, 1, (u64)r->data, SECTOR + 1, DESC_WRITE, 0);
  virtqueue_push(&b.queue, 0);
  u32 outcome = outcome_of(&b, r);
  if (*last == BLOCK_OK) outcome = OUT_OK;
  judge("joined-status", &b, outcome, OUT_OK);
}
PROGRAM("hostile-lengths", lengths);

static void overlaps(void) {
  struct block b;
  victim_open(&b, 0);
  struct request *r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)&r->header, SECTOR, DESC_NEXT | DESC_WRITE, 2);
  attack("overlap-header-data", &b, r, OUT_ANY);
  r = good_chain(&b, 0);
  set_desc(&b, 2, (u64)r->data + 100, 1, DESC_WRITE, 0);
  attack("overlap-data-status", &b, r, OUT_ANY);
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)b.queue.desc, SECTOR, DESC_NEXT | DESC_WRITE, 2);
  attack("overlap-descriptors", &b, r, OUT_ANY);
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)b.queue.avail, SECTOR, DESC_NEXT | DESC_WRITE, 2);
  attack("overlap-avail", &b, r, OUT_ANY);
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)b.queue.used, SECTOR, DESC_NEXT | DESC_WRITE, 2);
  attack("overlap-used", &b, r, OUT_ANY);
  /* Three times the same buffer in one chain. */
  r = good_chain(&b, 0);
  set_desc(&b, 1, (u64)r->data, SECTOR, DESC_NEXT | DESC_WRITE, 3);
  set_desc(&b, 3, (u64)r->data, SECTOR, DESC_NEXT | DESC_WRITE, 4);
  set_desc(&b, 4, (u64)r->data + 1, SECTOR, DESC_NEXT | DESC_WRITE, 2);
  attack("overlap-data", &b, r, OUT_OK);
}
PROGRAM("hostile-overlaps", overlaps);

/* Breaks the disk again and again: what the VMM says of it must not be without end. */
static void break_loop(void) {
  struct block b;
  victim_open(&b, 0);
  u32 broken = 0, loops = (u32)option_number("loops", 3000);
  for (u32 i = 0; i < loops; i++) {
    size_t mark = alloc_mark();
    block_reopen(&b);
    virtqueue_push(&b.queue, b.queue.size);
    virtqueue_notify(&b.queue);
    for (u64 end = now_us() + 10000000; now_us() < end;) {
      if ((virtio_status(&b.device) & NEEDS_RESET) == 0) continue;
      broken++;
      break;
    }
    alloc_release(mark);
  }
  check("break-loop", broken == loops, "%u of %u", broken, loops);
  judge("break-loop-after", &b, OUT_BROKEN, OUT_ANY);
}
PROGRAM("hostile-break-loop", break_loop);
