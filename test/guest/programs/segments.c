/* Disks of all PCI segments: those that are there, those that come, and those that leave. */
#include "block.h"
#include "hotplug.h"
#include "pci.h"

#define POLL_VECTOR 0x54
#define POLL_US 2000
#define FIRST 8
#define COUNT 64

/* As its function says; the vendor is in the lower half. */
#define DISK ((0x1040u + VIRTIO_BLOCK) << 16 | 0x1af4)

static struct pci_controller controller;
static u8 *data;

/* Content that only this place has. */
static bool use(struct block *b, u32 segment) {
  u64 seed = segment * PCI_SLOTS + b->device.slot + 1;
  block_pattern(data, FIRST, COUNT, seed);
  bool good = block_request(b, BLOCK_OUT, FIRST, data, COUNT * SECTOR) == BLOCK_OK;
  memset(data, 0, COUNT * SECTOR);
  good = block_request(b, BLOCK_IN, FIRST, data, COUNT * SECTOR) == BLOCK_OK && good;
  return good && block_matches(data, FIRST, COUNT, seed);
}

static void tell(u32 segment, u32 slot, bool good) {
  print("disk %u:%u %s\n", segment, slot, good ? "works" : "does nothing");
}

/* The nth disk of the segment that is selected. */
static bool use_nth(u32 segment, u32 nth) {
  size_t mark = alloc_mark();
  struct block b;
  if (!block_open(&b, nth, F_EVENT_IDX, NO_VECTOR)) return false;
  tell(segment, b.device.slot, use(&b, segment));
  virtio_reset(&b.device);
  alloc_release(mark);
  return true;
}

static void came(u32 segment, u32 slots) {
  for (u32 slot = 0, nth = 0; slot < PCI_SLOTS; slot++) {
    if (pci_id(slot) != DISK) continue;
    if ((slots >> slot & 1) != 0 && !use_nth(segment, nth)) tell(segment, slot, false);
    nth++;
  }
}

static void go(u32 segment, u32 slots) {
  for (u32 slot = 0; slot < PCI_SLOTS; slot++) {
    if ((slots >> slot & 1) == 0) continue;
    /* Another may be in its place at once. */
    write32(controller.registers + PCI_EJECT, 1u << slot);
    print("disk %u:%u left\n", segment, slot);
  }
}

static void scan(u32 segment) {
  pci_select(segment);
  write32(controller.registers + PCI_SEGMENT, segment);
  u32 inserted = read32(controller.registers + PCI_INSERTED);
  u32 removing = read32(controller.registers + PCI_REMOVING);
  came(segment, inserted);
  go(segment, removing);
}

static void segments(void) {
  if (!check("segments-controller", pci_controller_find(&controller), "none")) return;
  data = alloc(COUNT * SECTOR);
  for (u32 segment = 0; segment < pci_segments(); segment++) {
    pci_select(segment);
    for (u32 nth = 0; use_nth(segment, nth);) nth++;
  }
  print("%u segments ready\n", pci_segments());
  for (;;) {
    for (u32 segment = 0; segment < pci_segments(); segment++) scan(segment);
    while ((read8(controller.events) & GED_PCI) == 0)
      wait_irq(POLL_VECTOR, irq_counts[POLL_VECTOR], POLL_US);
  }
}
PROGRAM("segments", segments);
