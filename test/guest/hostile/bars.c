/* BARs moved to odd places, over one another and while requests are in flight. */
#include "hostile.h"
#include "pci.h"

/* Registers of the disk at another BAR address. */
static void follow(struct virtio *d, u64 from, u64 to) {
  u64 common = (u64)d->common, old = (u64)map_physical(from, 0x80000);
  volatile u8 *base = map_physical(to, 0x80000);
  u64 config = (u64)d->config, notify = (u64)d->notify, isr = (u64)d->isr, msix = (u64)d->msix;
  d->common = base + (common - old);
  d->config = base + (config - old);
  d->notify = base + (notify - old);
  d->isr = base + (isr - old);
  d->msix = base + (msix - old);
}

static u8 read_sector(struct block *b) {
  u8 *data = alloc(SECTOR);
  return block_request(b, BLOCK_IN, 1, data, SECTOR);
}

static u64 free_address(u32 slot) {
  /* A megabyte-aligned place of the 32-bit window that no BAR uses: the VMM hands out from the top.
   */
  return option_number("free", 0xc8000000) + slot * 0x100000ul;
}

static void move(void) {
  struct block b;
  victim_open(&b, F_EVENT_IDX);
  struct virtio *d = &b.device;
  u64 home = pci_bar(d->slot, 0), other = free_address(d->slot);
  u8 before = read_sector(&b);
  pci_set_bar(d->slot, 0, other);
  follow(d, home, other);
  b.queue.doorbell = b.queue.doorbell - (u64)map_physical(home, 0x80000) + (u64)other;
  u8 after = read_sector(&b);
  check("bar-moved", before == BLOCK_OK && after == BLOCK_OK, "status %u then %u", before, after);
  u32 old = read32(map_physical(home, 4096));
  check("bar-old-place", old == ~0u, "reads 0x%x", old);
  pci_command(d->slot, 0, PCI_COMMAND_MEMORY);
  u32 off = read32((void *)other);
  check("bar-decode-off", off == ~0u, "reads 0x%x", off);
  pci_command(d->slot, PCI_COMMAND_MEMORY, 0);
  u8 on = read_sector(&b);
  check("bar-decode-on", on == BLOCK_OK, "status %u", on);
  pci_set_bar(d->slot, 0, home);
  follow(d, other, home);
  b.queue.doorbell = b.queue.doorbell - (u64)other + (u64)map_physical(home, 0x80000);
  u8 back = read_sector(&b);
  check("bar-moved-back", back == BLOCK_OK, "status %u", back);
}
PROGRAM("bar-move", move);

static void odd_places(void) {
  struct block b;
  victim_open(&b, F_EVENT_IDX);
  struct virtio *d = &b.device, rng;
  u64 home = pci_bar(d->slot, 0);
  u64 neighbour = virtio_find(&rng, VIRTIO_RNG, 0) ? pci_bar(rng.slot, 0) : 0xd0000000;
  const struct {
    const char *name;
    u64 address;
  } cases[] = {
      {"bar-zero", 0},
      {"bar-over-memory", 0x1000000},
      {"bar-over-us", 0x100000},
      {"bar-at-memory-end", low_memory_end() - 0x40000},
      {"bar-over-neighbour", neighbour},
      {"bar-beside-neighbour", neighbour + 0x1000},
      {"bar-over-ecam", pci_ecam()},
      {"bar-over-ioapic", 0xfec00000},
      {"bar-over-lapic", 0xfee00000},
      {"bar-top-32", 0xfff80000},
      {"bar-all-ones", ~0ul},
      {"bar-52-bits", 1ul << 51},
      {"bar-63-bits", 1ul << 63},
      {"bar-at-tss", 0xf8000000},
  };
  for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
    pci_set_bar(d->slot, 0, cases[i].address);
    /* Touch what may lie there now; memory itself must be unharmed. */
    if (cases[i].address >= hole_address() && cases[i].address < 0xe0000000) {
      volatile u8 *there = map_physical(cases[i].address, 0x80000);
      for (u32 offset = 0; offset < 0x8000; offset += 0x400) read32(there + offset);
    }
    pci_command(d->slot, 0, PCI_COMMAND_MEMORY);
    pci_command(d->slot, PCI_COMMAND_MEMORY, 0);
    pci_set_bar(d->slot, 0, home);
    judge(cases[i].name, &b, OUT_IGNORED, OUT_ANY);
  }
  if (neighbour == 0xd0000000) return;
  /* The neighbour still works too. */
  struct virtqueue q;
  u8 *bytes = alloc(64);
  u32 id, length;
  virtio_start(&rng, 0);
  virtqueue_init(&q, &rng, 0, 0, NO_VECTOR);
  virtio_driver_ok(&rng);
  virtqueue_add(&q, &(struct buffer){bytes, 64}, 0, 1);
  virtqueue_kick(&q);
  check("bar-neighbour", virtqueue_wait(&q, &id, &length, 1000000), "dead");
}
PROGRAM("hostile-bars", odd_places);

static void in_flight(void) {
  struct block b;
  victim_open(&b, 0);
  struct virtio *d = &b.device;
  u64 home = pci_bar(d->slot, 0), other = free_address(d->slot);
  u8 *bulk = alloc(32 * 65536);
  u32 submitted = 0, completed = 0, id, length;
  for (u32 round = 0; round < 100; round++) {
    for (u32 i = 0; i < 32; i++)
      if (block_submit(&b, BLOCK_IN, 0, bulk + i * 65536, 65536) >= 0) submitted++;
    virtqueue_notify(&b.queue);
    for (u32 i = 0; i < 4; i++) {
      pci_set_bar(d->slot, 0, other);
      /* A doorbell into the void. */
      virtqueue_notify(&b.queue);
      pci_command(d->slot, 0, PCI_COMMAND_MEMORY);
      pci_set_bar(d->slot, 0, home);
      pci_command(d->slot, PCI_COMMAND_MEMORY, 0);
    }
    virtqueue_notify(&b.queue);
    while (completed < submitted && virtqueue_wait(&b.queue, &id, &length, 1000000)) completed++;
  }
  check("bar-in-flight", completed == submitted, "%u of %u", completed, submitted);
  judge("bar-in-flight-after", &b, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-bars-in-flight", in_flight);
