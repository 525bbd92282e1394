/* Well-behaved use of disks. Options: disk=N (which), seed=N (content). Sector 0 is left alone. */
#include "block.h"

#define FIRST 8
#define DEPTH 32
#define IRQ_VECTOR 0x40
#define CONFIG_VECTOR 0x41

static bool open_disk(struct block *b, u64 features, u16 vector) {
  u32 nth = (u32)option_number("disk", 0);
  if (block_open(b, nth, features, vector)) return true;
  not_ok("block", "no disk %u", nth);
  return false;
}

static void info(void) {
  struct block b;
  if (!open_disk(&b, BLOCK_FEATURES, NO_VECTOR)) return;
  print("slot %u sectors %lu features 0x%lx queue-size %u queues %u vectors %u\n", b.device.slot,
        b.sectors, b.device.features, b.queue.size, read16(b.device.common + COMMON_NUM_QUEUES),
        b.device.msix_vectors);
  print("seg-max %u blk-size %u wce %u mq %u\n", read32(b.device.config + 12),
        read32(b.device.config + 20), read8(b.device.config + 32), read16(b.device.config + 34));
  char *id = alloc(64);
  u8 status = block_request(&b, BLOCK_GET_ID, 0, id, 20);
  if (check("blk-id", status == BLOCK_OK, "status %u", status)) print("serial [%s]\n", id);
  check("blk-info", (b.device.features & F_VERSION_1) != 0, "features 0x%lx", b.device.features);
}
PROGRAM("blk-info", info);

/* Writes 1 MiB sector by sector in different sizes, reads it back in others, flushes. */
static void write_and_read(struct block *b) {
  u64 seed = option_number("seed", 1);
  u32 total = (u32)MIN(2048ul, b->sectors - FIRST), done, bad = 0;
  u8 *data = alloc(256 * SECTOR);
  static const u32 sizes[] = {1, 7, 8, 64, 3, 256, 128, 2};
  for (done = 0; done < total;) {
    u32 count = MIN(sizes[done % ARRAY_SIZE(sizes)], total - done);
    block_pattern(data, FIRST + done, count, seed);
    if (block_request(b, BLOCK_OUT, FIRST + done, data, count * SECTOR) != BLOCK_OK) bad++;
    done += count;
  }
  check("blk-write", bad == 0, "%u requests failed", bad);
  u8 status = block_request(b, BLOCK_FLUSH, 0, NULL, 0);
  check("blk-flush", status == BLOCK_OK, "status %u", status);
  for (bad = 0, done = 0; done < total;) {
    u32 count = MIN(sizes[(done + 5) % ARRAY_SIZE(sizes)], total - done);
    memset(data, 0x55, count * SECTOR);
    if (block_request(b, BLOCK_IN, FIRST + done, data, count * SECTOR) != BLOCK_OK ||
        !block_matches(data, FIRST + done, count, seed))
      bad++;
    done += count;
  }
  check("blk-read", bad == 0, "%u requests failed or differed", bad);
}

static void read_write(void) {
  struct block b;
  if (open_disk(&b, BLOCK_FEATURES, NO_VECTOR)) write_and_read(&b);
}
PROGRAM("blk-rw", read_write);

/* The same on every disk there is, one after the other. */
static void read_write_each(void) {
  struct block b;
  for (u32 i = 0; block_open(&b, i, BLOCK_FEATURES, NO_VECTOR); i++) write_and_read(&b);
}
PROGRAM("blk-rw-each", read_write_each);

/* Reads what the host put there: sectors 8.. must be the pattern of seed. */
static void verify(void) {
  struct block b;
  if (!open_disk(&b, BLOCK_FEATURES, NO_VECTOR)) return;
  u64 seed = option_number("seed", 1);
  u32 total = (u32)MIN(2048ul, b.sectors - FIRST), bad = 0;
  u8 *data = alloc(SECTOR * 8);
  for (u32 at = 0; at + 8 <= total; at += 8) {
    if (block_request(&b, BLOCK_IN, FIRST + at, data, 8 * SECTOR) != BLOCK_OK ||
        !block_matches(data, FIRST + at, 8, seed))
      bad++;
  }
  check("blk-verify", bad == 0, "%u of %u", bad, total / 8);
}
PROGRAM("blk-verify", verify);

/* Many requests in flight, far past the wrap of the 16-bit ring indexes; every one checked. */
static void depth_run(const char *name, u64 features, bool indirect, u32 requests) {
  struct block b;
  if (!open_disk(&b, features, NO_VECTOR)) return;
  u8 *data = alloc(DEPTH * 4096);
  struct vring_desc *tables = alloc(b.queue.size * 4 * sizeof(*tables));
  u8 *slots = alloc(b.queue.size);
  u64 span = MIN(b.sectors - FIRST, 2048ul) / 8;
  block_pattern(data, FIRST, 8, 7);
  for (u64 s = 0; s < span; s++) {
    block_pattern(data, FIRST + s * 8, 8, 7);
    u8 status = block_request(&b, BLOCK_OUT, FIRST + s * 8, data, 4096);
    if (status != BLOCK_OK) {
      not_ok(name, "write %lu: status 0x%x", s, status);
      return;
    }
  }
  u32 submitted = 0, completed = 0, bad = 0, in_flight = 0;
  u8 buffers[DEPTH];
  for (u8 i = 0; i < DEPTH; i++) buffers[i] = i;
  u64 begin = now_us();
  while (completed < requests) {
    while (submitted < requests && in_flight < DEPTH && b.queue.free_count >= 4) {
      u8 buffer = buffers[in_flight];
      u64 sector = FIRST + (submitted * 7919ul % span) * 8;
      u16 slot = b.queue.free_head;
      b.headers[slot].type = BLOCK_IN;
      b.headers[slot].sector = sector;
      b.statuses[slot] = BLOCK_UNTOUCHED;
      u8 *to = data + buffer * 4096;
      struct buffer chain[] = {
          {&b.headers[slot], 16}, {to, 1024}, {to + 1024, 3072}, {&b.statuses[slot], 1}};
      int head = indirect ? virtqueue_add_indirect(&b.queue, tables + slot * 4, chain, 1, 3)
                          : virtqueue_add(&b.queue, chain, 1, 3);
      slots[head] = buffer;
      submitted++;
      in_flight++;
    }
    virtqueue_kick(&b.queue);
    u32 head, length;
    if (!block_wait(&b, &head, &length)) break;
    do {
      u8 buffer = slots[head];
      if (length != 4097 || b.statuses[head] != BLOCK_OK ||
          !block_matches(data + buffer * 4096, b.headers[head].sector, 8, 7))
        bad++;
      buffers[--in_flight] = buffer;
      completed++;
    } while (virtqueue_poll(&b.queue, &head, &length));
  }
  u64 us = now_us() - begin;
  check(name, completed == requests && bad == 0, "%u of %u completed, %u bad, status 0x%x",
        completed, requests, bad, virtio_status(&b.device));
  print("%s: %lu requests/s, %u kicks\n", name, requests * 1000000ul / MAX(us, 1ul), b.queue.kicks);
}

static void depth(void) {
  u32 requests = (u32)option_number("requests", 70000);
  depth_run("blk-depth-plain", 0, false, 2000);
  depth_run("blk-depth-event-idx", F_EVENT_IDX, false, requests);
  depth_run("blk-depth-indirect", F_INDIRECT_DESC, true, 2000);
  depth_run("blk-depth-both", F_EVENT_IDX | F_INDIRECT_DESC, true, requests);
}
PROGRAM("blk-depth", depth);

/* Completion by MSI-X, the CPU halted in between. */
static void interrupts_run(const char *name, u64 features) {
  struct block b;
  if (!open_disk(&b, features, 1)) return;
  msix_route(&b.device, 1, IRQ_VECTOR);
  u8 *data = alloc(4096);
  u32 lost = 0, requests = 50;
  for (u32 i = 0; i < requests; i++) {
    u32 seen = irq_counts[IRQ_VECTOR], id, length;
    virtqueue_interrupts(&b.queue, true);
    block_submit(&b, BLOCK_IN, i, data, SECTOR);
    virtqueue_kick(&b.queue);
    if (!wait_irq(IRQ_VECTOR, seen, 1000000)) lost++;
    if (!virtqueue_wait(&b.queue, &id, &length, 1000000)) lost++;
  }
  check(name, lost == 0, "%u interrupts lost", lost);
  /* With interrupts off for the queue there is none. */
  u32 seen = irq_counts[IRQ_VECTOR];
  virtqueue_interrupts(&b.queue, false);
  u8 status = block_request(&b, BLOCK_IN, 1, data, SECTOR);
  delay_us(2000);
  if (features & F_EVENT_IDX)
    check("blk-irq-suppressed", status == BLOCK_OK && irq_counts[IRQ_VECTOR] == seen,
          "status %u, %u interrupts", status, irq_counts[IRQ_VECTOR] - seen);
}

static void interrupts(void) {
  interrupts_run("blk-irq-plain", 0);
  interrupts_run("blk-irq-event-idx", F_EVENT_IDX);
}
PROGRAM("blk-irq", interrupts);

/* Masking a vector holds its interrupt back; unmasking delivers it (PCI 3.0 §6.8.2). */
static void masking(void) {
  struct block b;
  if (!open_disk(&b, 0, 1)) return;
  msix_route(&b.device, 1, IRQ_VECTOR);
  u8 *data = alloc(4096);
  u32 seen = irq_counts[IRQ_VECTOR];
  write32(b.device.msix + 16 + 12, 1);
  u8 status = block_request(&b, BLOCK_IN, 1, data, SECTOR);
  delay_us(5000);
  check("msix-masked", status == BLOCK_OK && irq_counts[IRQ_VECTOR] == seen,
        "status %u, %u interrupts", status, irq_counts[IRQ_VECTOR] - seen);
  write32(b.device.msix + 16 + 12, 0);
  check("msix-unmasked", wait_irq(IRQ_VECTOR, seen, 1000000), "no interrupt after unmasking");
}
PROGRAM("msix-mask", masking);

/* Every disk there is: its size and the text at the start of sector 1. */
static void multi(void) {
  struct block b;
  char *text = alloc(4096);
  u32 count = 0;
  for (; block_open(&b, count, BLOCK_FEATURES, NO_VECTOR); count++) {
    u8 status = block_request(&b, BLOCK_IN, 1, text, SECTOR);
    text[32] = 0;
    print("disk %u slot %u sectors %lu ro %u status %u [%s]\n", count, b.device.slot, b.sectors,
          (b.device.features & BLOCK_F_RO) != 0, status, text);
  }
  check("blk-multi", count != 0, "no disk");
}
PROGRAM("blk-multi", multi);

/* Every queue of a multi-queue disk answers. */
static void queues(void) {
  struct block b;
  if (!virtio_find(&b.device, VIRTIO_BLOCK, (u32)option_number("disk", 0))) {
    not_ok("blk-mq", "no disk");
    return;
  }
  virtio_start(&b.device, BLOCK_FEATURES);
  u16 count = read16(b.device.common + COMMON_NUM_QUEUES);
  struct virtqueue *all = alloc(count * sizeof(*all));
  for (u16 i = 0; i < count; i++) virtqueue_init(&all[i], &b.device, i, 0, NO_VECTOR);
  virtio_driver_ok(&b.device);
  b.headers = alloc(4096);
  b.statuses = alloc(4096);
  u8 *data = alloc(4096);
  for (u16 i = 0; i < count; i++) {
    b.queue = all[i];
    u8 status = block_request(&b, BLOCK_IN, 1, data, SECTOR);
    check("blk-mq-queue", status == BLOCK_OK, "queue %u: status %u", i, status);
  }
  print("queues %u\n", count);
}
PROGRAM("blk-mq", queues);

/* Sector 0 of an image whose format was guessed may not be written, also not as part of more. */
static void sector_0(void) {
  struct block b;
  if (!open_disk(&b, BLOCK_FEATURES, NO_VECTOR)) return;
  u8 *data = alloc(2 * SECTOR);
  memset(data, 0x51, 2 * SECTOR);
  u8 one = block_request(&b, BLOCK_OUT, 0, data, SECTOR);
  u8 two = block_request(&b, BLOCK_OUT, 0, data, 2 * SECTOR);
  check("blk-sector-0", one == BLOCK_IOERR && two == BLOCK_IOERR, "status %u and %u", one, two);
}
PROGRAM("blk-sector-0", sector_0);

/* Waits for another size, which an interrupt tells of, and uses the disk up to its new end. */
static void resized(void) {
  struct block b;
  if (!open_disk(&b, BLOCK_FEATURES, NO_VECTOR)) return;
  msix_route(&b.device, 0, CONFIG_VECTOR);
  write16(b.device.common + COMMON_CONFIG_MSIX_VECTOR, 0);
  u32 seen = irq_counts[CONFIG_VECTOR];
  print("waits with %lu sectors\n", b.sectors);
  if (!check("blk-resize-interrupt", wait_irq(CONFIG_VECTOR, seen, 20000000), "none came")) return;
  u64 sectors = read64(b.device.config);
  print("has %lu sectors\n", sectors);
  u8 *data = alloc(2 * SECTOR);
  block_pattern(data, sectors - 1, 1, 1);
  u8 write = block_request(&b, BLOCK_OUT, sectors - 1, data, SECTOR);
  memset(data, 0, SECTOR);
  u8 read = block_request(&b, BLOCK_IN, sectors - 1, data, SECTOR);
  check("blk-resize-last",
        write == BLOCK_OK && read == BLOCK_OK && block_matches(data, sectors - 1, 1, 1),
        "status %u and %u", write, read);
  u8 beyond = block_request(&b, BLOCK_IN, sectors - 1, data, 2 * SECTOR);
  check("blk-resize-beyond", beyond == BLOCK_IOERR, "status %u", beyond);
}
PROGRAM("blk-resize", resized);
