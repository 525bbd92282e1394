/* Balloon, persistent memory, clock, panic and VM generation. */
#include "pci.h"
#include "virtio.h"

#define BALLOON_STATISTICS (1ul << 1)
#define BALLOON_REPORTING (1ul << 5)
#define PVPANIC_ID 0x00111b36u
#define GENERATION_ADDRESS 0xef000
#define GED_PIN 13
#define GED_VM_GENERATION 0x10
#define GED_VECTOR 0x47

static bool send(struct virtqueue *q, const void *bytes, u32 size, bool writable) {
  u32 id, length;
  virtqueue_add(q, &(struct buffer){bytes, size}, !writable, writable);
  virtqueue_kick(q);
  return virtqueue_wait(q, &id, &length, 2000000);
}

static bool page_is(const u8 *page, u8 value) {
  for (u32 i = 0; i < 4096; i++)
    if (page[i] != value) return false;
  return true;
}

struct balloon {
  struct virtio device;
  struct virtqueue inflate, deflate, statistics, reporting;
  u32 *pages;
};

static bool balloon_open(struct balloon *b) {
  if (!virtio_find(&b->device, VIRTIO_BALLOON, 0)) {
    not_ok("balloon", "no device");
    return false;
  }
  virtio_start(&b->device, BALLOON_STATISTICS | BALLOON_REPORTING);
  virtqueue_init(&b->inflate, &b->device, 0, 0, NO_VECTOR);
  virtqueue_init(&b->deflate, &b->device, 1, 0, NO_VECTOR);
  virtqueue_init(&b->statistics, &b->device, 2, 0, NO_VECTOR);
  if ((b->device.features & BALLOON_REPORTING) != 0)
    virtqueue_init(&b->reporting, &b->device, 3, 0, NO_VECTOR);
  virtio_driver_ok(&b->device);
  b->pages = alloc(4096);
  return true;
}

static void balloon(void) {
  struct balloon b;
  if (!balloon_open(&b)) return;
  u32 count = (u32)option_number("pages", 256);
  print("target %u pages\n", read32(b.device.config));
  u8 *memory = alloc(4096ul * (count + 2));
  memset(memory, 0x5a, 4096ul * (count + 2));
  bool sent = true, gone = true;
  for (u32 done = 0; done < count;) {
    u32 now = MIN(256u, count - done);
    for (u32 i = 0; i < now; i++)
      b.pages[i] = (u32)((u64)memory / 4096 + 1 + (done + i) * 7919ul % count);
    sent = send(&b.inflate, b.pages, 4 * now, false) && sent;
    done += now;
  }
  /* A look brings a page back, so not at each. */
  for (u32 i = 1; i <= count; i += 16) gone = page_is(memory + 4096ul * i, 0) && gone;
  bool others = page_is(memory, 0x5a) && page_is(memory + 4096ul * (count + 1), 0x5a);
  check("balloon-inflate", sent && gone && others, "sent %u gone %u others %u", sent, gone, others);
  write32(b.device.config + 4, count);
  u8 statistics[20] __attribute__((aligned(8))) = {4, 0, 1, 2, 3, 4, 5, 6, 7, 0};
  u8 *buffer = alloc(4096);
  memcpy(buffer, statistics, 10);
  virtqueue_add(&b.statistics, &(struct buffer){buffer, 10}, 1, 0);
  virtqueue_kick(&b.statistics);
  if ((b.device.features & BALLOON_REPORTING) != 0) {
    memset(memory, 0x5a, 8192);
    check("balloon-report",
          send(&b.reporting, memory, 4096, true) && page_is(memory, 0) &&
              page_is(memory + 4096, 0x5a),
          "not gone");
  }
  check("balloon-deflate", send(&b.deflate, b.pages, 1024, false), "no answer");
}
PROGRAM("balloon", balloon);

/* Page numbers from everywhere, of RAM that is in use least of all. */
static void balloon_numbers(void) {
  struct balloon b;
  if (!balloon_open(&b)) return;
  bool sent = true;
  u32 past = (u32)(low_memory_end() / 4096);
  for (u32 round = 0; round < 64; round++) {
    for (u32 i = 0; i < 1024; i++) b.pages[i] = past + round * 0x03ffffffu + i * 0x10001u;
    for (u32 i = 0; i < 1024; i++)
      if (b.pages[i] < past) b.pages[i] = 0xffffffffu - i;
    sent = send(&b.inflate, b.pages, round % 2 == 0 ? 1024 : 4096 - round, false) && sent;
    sent = send(&b.deflate, b.pages, 1024, false) && sent;
  }
  check("balloon-numbers", sent && virtio_status(&b.device) == 15, "status %u",
        virtio_status(&b.device));
}
PROGRAM("hostile-balloon-numbers", balloon_numbers);

static bool pmem_open(struct virtio *d, struct virtqueue *q) {
  if (!virtio_find(d, VIRTIO_PMEM, 0)) {
    not_ok("pmem", "no device");
    return false;
  }
  virtio_start(d, 0);
  virtqueue_init(q, d, 0, 0, NO_VECTOR);
  virtio_driver_ok(d);
  return true;
}

static u32 pmem_flush(struct virtqueue *q, u32 type) {
  u32 id, length;
  u32 *message = alloc(4096);
  message[0] = type;
  message[1] = 0xdead;
  const struct buffer buffers[] = {{message, 4}, {message + 1, 4}};
  virtqueue_add(q, buffers, 1, 1);
  virtqueue_kick(q);
  return virtqueue_wait(q, &id, &length, 5000000) ? message[1] : 0xbad;
}

static void pmem(void) {
  struct virtio d;
  struct virtqueue q;
  if (!pmem_open(&d, &q)) return;
  u64 start = read64(d.config), size = read64(d.config + 8);
  check("pmem-place", start == pci_bar(d.slot, 2) && pci_bar_size(d.slot, 2) >= size,
        "start 0x%lx bar 0x%lx", start, pci_bar(d.slot, 2));
  volatile u64 *memory = map_physical(start, size);
  print("pmem size %lu first 0x%lx\n", size, memory[0]);
  for (u64 at = 0; at < size; at += 4096) memory[at / 8] = at ^ 0x1234;
  bool kept = true;
  for (u64 at = 0; at < size; at += 4096) kept = memory[at / 8] == (at ^ 0x1234) && kept;
  check("pmem-memory", kept, "lost");
  u32 flushed = pmem_flush(&q, 0), unknown = pmem_flush(&q, 7);
  check("pmem-flush", flushed == 0 && unknown == 1, "answers %u and %u", flushed, unknown);
  /* The memory goes where the BAR goes, and the device's own requests reach it there. */
  u64 moved = start - 4 * pci_bar_size(d.slot, 2);
  pci_command(d.slot, 0, PCI_COMMAND_MEMORY);
  pci_set_bar(d.slot, 2, moved);
  pci_command(d.slot, PCI_COMMAND_MEMORY, 0);
  volatile u64 *again = map_physical(moved, size);
  bool there = again[4096 / 8] == (4096 ^ 0x1234) && read64(d.config) == moved;
  u32 id, length;
  virtqueue_add(&q, &(struct buffer){(const void *)moved, 4}, 0, 1);
  virtqueue_kick(&q);
  bool reached = virtqueue_wait(&q, &id, &length, 2000000) && length == 4 && (u32)again[0] == 1;
  check("pmem-move", there && reached, "there %u, reached %u", there, reached);
}
PROGRAM("pmem", pmem);

static void rtc(void) {
  struct virtio d;
  struct virtqueue q;
  if (!virtio_find(&d, VIRTIO_RTC, 0)) {
    not_ok("rtc", "no device");
    return;
  }
  virtio_start(&d, 0);
  virtqueue_init(&q, &d, 0, 0, NO_VECTOR);
  virtio_driver_ok(&d);
  u64 *request = alloc(4096), *response = request + 64;
  u32 id, length = 0;
  bool answered = true;
  static const u64 requests[][2] = {{0x1000, 0}, {0x1001, 0}, {1, 0}, {1, 1}, {1, 1}, {1, 99}};
  u64 words[ARRAY_SIZE(requests)], status = 0;
  for (u32 i = 0; i < ARRAY_SIZE(requests); i++) {
    memcpy(request, requests[i], 16);
    const struct buffer buffers[] = {{request, 16}, {response, 16}};
    virtqueue_add(&q, buffers, 1, 1);
    virtqueue_kick(&q);
    answered = virtqueue_wait(&q, &id, &length, 2000000) && answered;
    words[i] = response[1];
    status = response[0] & 0xff;
  }
  print("clocks %lu utc %lu\n", words[0] & 0xffff, words[2]);
  check("rtc", answered && words[4] >= words[3] && status == 3, "answered %u, status %lu", answered,
        status);
}
PROGRAM("rtc", rtc);

static void pvpanic(void) {
  for (u32 slot = 0; slot < PCI_SLOTS; slot++) {
    if (pci_id(slot) != PVPANIC_ID) continue;
    volatile u8 *port = map_physical(pci_bar(slot, 0), 4096);
    check("pvpanic", read8(port) == 3, "0x%x", read8(port));
    for (u32 i = 0; i < 100; i++) write8(port, 2);
    for (u32 i = 0; i < 100; i++) write8(port, 1);
    return;
  }
  not_ok("pvpanic", "no device");
}
PROGRAM("pvpanic", pvpanic);

/* Prints the id, and again when the machine says that it is another one. */
static void generation(void) {
  const volatile u8 *id = map_physical(GENERATION_ADDRESS, 16);
  volatile u8 *events = map_physical(acpi_region("GDST"), 1);
  ioapic_route(GED_PIN, GED_VECTOR, lapic_id());
  u32 seen = irq_counts[GED_VECTOR];
  for (u32 round = 0; round < 2; round++) {
    print("generation ");
    for (u32 i = 0; i < 16; i++) print("%02x", id[i]);
    print("\n");
    if (round == 1) return;
    bool told = wait_irq(GED_VECTOR, seen, 20000000);
    u8 what = read8(events);
    check("generation", told && what == GED_VM_GENERATION, "told %u, events 0x%x", told, what);
  }
}
PROGRAM("generation", generation);
