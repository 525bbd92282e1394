/* The device's registers in wrong order, with wrong values, at wrong places, in wrong widths. */
#include "hostile.h"
#include "pci.h"

#define BAR_SIZE 0x80000
#define VECTOR 0x60

static void status_order(void) {
  struct block b;
  victim_open(&b, 0);
  struct virtio *d = &b.device;
  struct request *r;
  /* DRIVER_OK with nothing before it: the queue may not run. */
  virtio_reset(d);
  virtqueue_init(&b.queue, d, 0, 0, NO_VECTOR);
  virtio_set_status(d, DRIVER_OK);
  r = good_chain(&b, 0);
  virtqueue_push(&b.queue, 0);
  judge("status-only-driver-ok", &b, outcome_of(&b, r), OUT_ANY);
  /* Doorbell before DRIVER_OK (§3.1.1: the device does not process before). */
  virtio_start(d, d->features);
  virtqueue_init(&b.queue, d, 0, 0, NO_VECTOR);
  r = good_chain(&b, 0);
  virtqueue_push(&b.queue, 0);
  judge("status-early-doorbell", &b, outcome_of(&b, r), OUT_REFUSED);
  /* DRIVER_OK with no queue enabled. */
  virtio_start(d, d->features);
  virtio_driver_ok(d);
  for (u32 i = 0; i < 10; i++) virtqueue_notify(&b.queue);
  judge("status-no-queue", &b, OUT_IGNORED, OUT_ANY);
  /* Features that were not offered: FEATURES_OK does not stick (§2.2.2). */
  virtio_reset(d);
  virtio_set_status(d, ACKNOWLEDGE | DRIVER);
  virtio_accept(d, ~0ul);
  virtio_set_status(d, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  check("status-bad-features", (virtio_status(d) & FEATURES_OK) == 0, "accepted");
  virtio_driver_ok(d);
  d->features = 0;
  judge("status-after-bad-features", &b, OUT_IGNORED, OUT_ANY);
  /* Without VERSION_1 a modern-only device refuses (§6.1). */
  virtio_reset(d);
  virtio_set_status(d, ACKNOWLEDGE | DRIVER);
  virtio_accept(d, 0);
  virtio_set_status(d, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  check("status-no-version-1", (virtio_status(d) & FEATURES_OK) == 0, "accepted");
  d->features = F_VERSION_1;
  /* Every status value in any order. */
  block_reopen(&b);
  for (u32 i = 0; i < 2000; i++) virtio_set_status(d, (u8)random_next());
  judge("status-random", &b, OUT_IGNORED, OUT_ANY);
  /* Features change after FEATURES_OK and after DRIVER_OK. */
  virtio_accept(d, ~0ul);
  d->features = F_VERSION_1;
  r = good_chain(&b, 0);
  virtqueue_push(&b.queue, 0);
  judge("status-late-features", &b, outcome_of(&b, r), OUT_ANY);
  /* DRIVER_OK again, FAILED, and bits taken back. */
  block_reopen(&b);
  static const u8 values[] = {0x0f, 0x8f, 0x4f, 0x0b, 0x0f, 0x01, 0x0f};
  for (u32 i = 0; i < ARRAY_SIZE(values); i++) virtio_set_status(d, values[i]);
  judge("status-back-and-forth", &b, OUT_IGNORED, OUT_ANY);
  /* Thousands of restarts leave nothing behind. */
  u32 bad = 0;
  u8 *data = alloc(SECTOR);
  for (u32 i = 0; i < option_number("restarts", 300); i++) {
    size_t mark = alloc_mark();
    block_reopen(&b);
    if (block_request(&b, BLOCK_IN, 1, data, SECTOR) != BLOCK_OK) bad++;
    alloc_release(mark);
  }
  check("status-restarts", bad == 0, "%u failed", bad);
}
PROGRAM("hostile-status", status_order);

static void selectors(void) {
  struct block b;
  victim_open(&b, 0);
  volatile u8 *c = b.device.common;
  static const u16 queues[] = {1, 2, 255, 256, 0x7fff, 0x8000, 0xffff};
  u32 bad = 0;
  for (u32 i = 0; i < ARRAY_SIZE(queues); i++) {
    if (queues[i] < read16(c + COMMON_NUM_QUEUES)) continue;
    /* §4.1.4.3.1: a queue that is not there has size 0. */
    if (virtio_queue_size(&b.device, queues[i]) != 0) bad++;
    write16(c + COMMON_QUEUE_SIZE, 64);
    write16(c + COMMON_QUEUE_MSIX_VECTOR, 0);
    if (read16(c + COMMON_QUEUE_MSIX_VECTOR) != NO_VECTOR) bad++;
    write32(c + COMMON_QUEUE_DESC, 0x1000000);
    write16(c + COMMON_QUEUE_ENABLE, 1);
    if (read16(c + COMMON_QUEUE_ENABLE) != 0) bad++;
  }
  check("select-queue", bad == 0, "%u answers for queues that are not there", bad);
  static const u32 words[] = {2, 3, 0x7fffffff, 0x80000000, 0xffffffff};
  for (u32 i = bad = 0; i < ARRAY_SIZE(words); i++) {
    write32(c + COMMON_DEVICE_FEATURE_SELECT, words[i]);
    if (read32(c + COMMON_DEVICE_FEATURE) != 0) bad++;
    write32(c + COMMON_DRIVER_FEATURE_SELECT, words[i]);
    write32(c + COMMON_DRIVER_FEATURE, ~0u);
  }
  check("select-features", bad == 0, "%u words of features too many", bad);
  /* A vector that the table has not reads back as none (§4.1.5.1.2.1). */
  static const u16 vectors[] = {64, 0x7ff, 0x800, 0x8000, 0xfffe};
  for (u32 i = bad = 0; i < ARRAY_SIZE(vectors); i++) {
    write16(c + COMMON_CONFIG_MSIX_VECTOR, vectors[i]);
    if (read16(c + COMMON_CONFIG_MSIX_VECTOR) != NO_VECTOR) bad++;
    write16(c + COMMON_QUEUE_SELECT, 0);
    write16(c + COMMON_QUEUE_MSIX_VECTOR, vectors[i]);
    if (read16(c + COMMON_QUEUE_MSIX_VECTOR) != NO_VECTOR) bad++;
  }
  check("select-vector", bad == 0, "%u vectors accepted", bad);
  /* Doorbells of queues that are not there, and odd values at the one that is. */
  for (u32 offset = 0; offset < 0x2000; offset += 4) write16(b.device.notify + offset % 0x1000, 7);
  for (u32 i = 0; i < 100; i++) write32(b.device.notify, (u32)random_next());
  judge("select-doorbell", &b, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-selectors", selectors);

static void any_read(volatile u8 *at, u32 width) {
  switch (width) {
    case 0:
      read8(at);
      break;
    case 1:
      read16(at);
      break;
    case 2:
      read32(at);
      break;
    default:
      read64(at);
      break;
  }
}

static void any_write(volatile u8 *at, u32 width, u64 value) {
  switch (width) {
    case 0:
      write8(at, (u8)value);
      break;
    case 1:
      write16(at, (u16)value);
      break;
    case 2:
      write32(at, (u32)value);
      break;
    default:
      write64(at, value);
      break;
  }
}

/* The whole BAR in every width and alignment; the MSI-X table is left to hostile-msix. */
static void widths(void) {
  struct block b;
  victim_open(&b, 0);
  u64 table = (u64)b.device.msix & (BAR_SIZE - 1);
  volatile u8 *bar = map_physical(pci_bar(b.device.slot, 0), BAR_SIZE);
  u64 size = pci_bar_size(b.device.slot, 0);
  for (u32 width = 0; width < 4; width++) {
    for (u32 offset = 0; offset < 0x60; offset++) any_read(b.device.common + offset, width);
    for (u32 offset = 0; offset < 0x60; offset++)
      any_write(b.device.common + offset, width, random_next());
    virtio_reset(&b.device);
    if (b.device.config != NULL) {
      for (u32 offset = 0; offset < 0x80; offset++) {
        any_read(b.device.config + offset, width);
        any_write(b.device.config + offset, width, random_next());
      }
    }
    for (u32 offset = 0; offset < 0x20; offset++) {
      any_read(b.device.isr + offset, width);
      any_write(b.device.isr + offset, width, random_next());
      any_read(b.device.notify + offset, width);
      any_write(b.device.notify + offset, width, random_next());
    }
  }
  judge("widths-registers", &b, OUT_IGNORED, OUT_ANY);
  for (u32 i = 0; i < 8000; i++) {
    u64 offset = random_next() % (size - 8);
    any_read(bar + offset, (u32)(random_next() & 3));
    if (offset < table - 8 && (offset < 0x2000 || offset > 0x2010))
      any_write(bar + offset, (u32)(random_next() & 3), random_next());
  }
  /* Across the end of the BAR, and across pages within. */
  any_read(bar + size - 4, 3);
  any_write(bar + size - 4, 3, random_next());
  for (u32 page = 0x1000; page < 0x8000; page += 0x1000) {
    for (u32 back = 1; back < 8; back++) {
      any_read(bar + page - back, 3);
      any_write(bar + page - back, 3, 0);
    }
  }
  judge("widths-bar", &b, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-widths", widths);

/* Vectors that point nowhere good, and the table and PBA beyond their ends. */
static void msix(void) {
  struct block b;
  victim_open(&b, 0);
  struct virtio *d = &b.device;
  volatile u8 *control = pci_config(d->slot) + d->msix_capability + MSIX_CONTROL;
  u8 *data = alloc(SECTOR);
  const struct {
    u64 address;
    u32 data;
  } cases[] = {
      {0, 0},          /* vector 0 is reserved */
      {0xfee00000, 0}, /* and here too */
      {0xfee00000, 0x0f},
      {0x1000000, 0x40},  /* memory, no APIC */
      {0xfec00000, 0x40}, /* the IOAPIC */
      {-4ul, 0x40},
      {1ul << 45, 0x40},
      {0xfee00000, 0x300 | VECTOR}, /* reserved delivery mode */
      {0xfee00000, 0x700 | VECTOR}, /* ExtINT */
      {0xfee00000, 0xffff0000 | VECTOR},
      {0xfeeff000, VECTOR}, /* nobody, or everybody */
      {0xfee00000 | 0xfe << 12, VECTOR},
      {0xfee00ffc, VECTOR},
  };
  u32 bad = 0;
  for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
    virtio_start(d, d->features);
    virtqueue_init(&b.queue, d, 0, 0, 1);
    msix_set(d, 1, cases[i].address, cases[i].data, false);
    write16(control, MSIX_ENABLE);
    virtio_driver_ok(d);
    if (block_request(&b, BLOCK_IN, 1, data, SECTOR) != BLOCK_OK) bad++;
    write16(control, 0);
  }
  check("msix-targets", bad == 0, "%u requests unanswered", bad);
  /* The table in odd widths, beyond its entries, and the PBA, all with interrupts masked. */
  write16(control, MSIX_ENABLE | MSIX_FUNCTION_MASK);
  for (u32 i = 0; i < 3000; i++) {
    u64 offset = random_next() % 0x40000;
    any_read(d->msix + offset, (u32)(random_next() & 3));
    if (offset >= d->msix_vectors * 16)
      any_write(d->msix + offset, (u32)(random_next() & 3), random_next());
  }
  for (u32 offset = 0; offset < 256; offset++) {
    u32 width = offset & 3;
    any_read(d->msix + 0x40000 + offset, width);
    any_write(d->msix + 0x40000 + offset, width, ~0ul);
    any_write(d->msix + offset % (d->msix_vectors * 16 - 8), width, 0);
  }
  write16(control, 0);
  write16(control, 0xffff);
  write16(control, 0);
  judge("msix-table", &b, OUT_IGNORED, OUT_ANY);
  /* Masking back and forth while requests complete. */
  virtio_start(d, d->features);
  virtqueue_init(&b.queue, d, 0, 0, 1);
  msix_route(d, 1, VECTOR);
  virtio_driver_ok(d);
  u8 *bulk = alloc(32 * 4096);
  u32 completed = 0, id, length;
  for (u32 round = 0; round < 50; round++) {
    for (u32 i = 0; i < 16; i++) block_submit(&b, BLOCK_IN, 8 * i, bulk + i * 4096, 4096);
    virtqueue_notify(&b.queue);
    for (u32 i = 0; i < 16; i++) {
      write32(d->msix + 16 + 12, i & 1);
      if (virtqueue_wait(&b.queue, &id, &length, 500000)) completed++;
    }
  }
  check("msix-toggled", completed == 800, "%u of 800", completed);
  write32(d->msix + 16 + 12, 0);
  write16(control, 0);
  judge("msix-off", &b, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-msix", msix);
