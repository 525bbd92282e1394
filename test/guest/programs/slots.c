/* PCI devices that come while the machine runs, and leave it, as the AML would have it. */
#include "block.h"
#include "hotplug.h"
#include "net.h"
#include "pci.h"

#define POLL_VECTOR 0x53
#define POLL_US 2000
#define TIMEOUT_US 20000000
#define IN_FLIGHT 16
#define BULK 65536

/* In each slot that a device has come to. */
static union {
  struct virtio device;
  struct block block;
} present[PCI_SLOTS];
static u8 *bulk;

/* Content that only this device has, and requests that are still in flight when it leaves. */
static bool use_block(struct block *b) {
  block_start(b, F_EVENT_IDX, NO_VECTOR);
  u64 seed = b->device.slot + 1;
  block_pattern(bulk, 8, 64, seed);
  bool good = block_request(b, BLOCK_OUT, 8, bulk, 64 * SECTOR) == BLOCK_OK;
  memset(bulk, 0, 64 * SECTOR);
  good = block_request(b, BLOCK_IN, 8, bulk, 64 * SECTOR) == BLOCK_OK && good;
  good = block_matches(bulk, 8, 64, seed) && good;
  for (u32 i = 0; i < IN_FLIGHT; i++)
    block_submit(b, BLOCK_IN, 0, bulk + i * BULK, (u32)MIN(b->sectors * SECTOR, (u64)BULK));
  virtqueue_notify(&b->queue);
  return good;
}

/* One buffer that the device reads or writes, and whether it comes back in time. */
static bool exchange(struct virtio *d, u16 index, struct buffer buffer, bool writable) {
  struct virtqueue q;
  u32 id, length;
  virtio_start(d, 0);
  virtqueue_init(&q, d, index, 0, NO_VECTOR);
  virtio_driver_ok(d);
  virtqueue_add(&q, &buffer, writable ? 0 : 1, writable ? 1 : 0);
  virtqueue_kick(&q);
  return virtqueue_wait(&q, &id, &length, TIMEOUT_US);
}

static bool use_pmem(struct virtio *d) {
  struct virtqueue q;
  u32 id, length;
  volatile u64 *memory = map_physical(pci_bar(d->slot, 2), 2 << 20);
  *memory = d->slot;
  virtio_start(d, 0);
  virtqueue_init(&q, d, 0, 0, NO_VECTOR);
  virtio_driver_ok(d);
  u32 *flush = alloc(4096);
  flush[1] = ~0u;
  virtqueue_add(&q, (struct buffer[]){{flush, 4}, {flush + 1, 4}}, 1, 1);
  virtqueue_kick(&q);
  return virtqueue_wait(&q, &id, &length, TIMEOUT_US) && flush[1] == 0 && *memory == d->slot;
}

static bool use(u32 slot) {
  struct virtio *d = &present[slot].device;
  if (!virtio_open(d, slot)) return false;
  switch (d->id) {
    case VIRTIO_BLOCK:
      return use_block(&present[slot].block);
    case VIRTIO_NET: /* a frame of nothing, to everybody */
      memset(bulk, 0xff, sizeof(struct net_header) + 60);
      memset(bulk, 0, sizeof(struct net_header));
      return exchange(d, 1, (struct buffer){bulk, sizeof(struct net_header) + 60}, false);
    case VIRTIO_PMEM:
      return use_pmem(d);
    case VIRTIO_SOCKET: /* a packet to no host */
      memset(bulk, 0, 64);
      return exchange(d, 1, (struct buffer){bulk, 44}, false);
    default:
      return virtio_start(d, 0);
  }
}

/* Every other device leaves with what it has in flight. */
static void goes(const struct pci_controller *c, u32 slot) {
  static u32 count;
  if (present[slot].device.common != NULL && ++count % 2 == 0) virtio_reset(&present[slot].device);
  write32(c->registers + PCI_EJECT, 1u << slot);
  present[slot].device.common = NULL;
  /* Another may be in its place at once. */
  print("slot %u left\n", slot);
}

static void slots(void) {
  struct pci_controller c = {0};
  if (!check("slots-controller", pci_controller_find(&c), "none")) return;
  bulk = alloc(IN_FLIGHT * BULK);
  write32(c.registers + PCI_SEGMENT, 0);
  print("slots ready\n");
  for (;;) {
    u32 removing = read32(c.registers + PCI_REMOVING),
        inserted = read32(c.registers + PCI_INSERTED);
    for (u32 slot = 0; slot < PCI_SLOTS; slot++) {
      if ((removing >> slot & 1) != 0) goes(&c, slot);
      if ((inserted >> slot & 1) == 0) continue;
      size_t mark = alloc_mark();
      print("slot %u %s\n", slot, use(slot) ? "works" : "does nothing");
      /* A disk's rings are in use until it leaves. */
      if (present[slot].device.id != VIRTIO_BLOCK) alloc_release(mark);
    }
    while ((read8(c.events) & GED_PCI) == 0)
      wait_irq(POLL_VECTOR, irq_counts[POLL_VECTOR], POLL_US);
  }
}
PROGRAM("slots", slots);
