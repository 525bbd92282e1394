/* Disks of all PCI segments: those that are there, those that come, and those that leave. */
#include "block.h"
#include "hotplug.h"
#include "pci.h"

#define POLL_VECTOR 0x54
#define POLL_US 2000
#define FIRST 8
#define COUNT 64

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

/* The disk in that slot of the segment that is selected, if there is one, still or again. */
static void use_disk(u32 segment, u32 slot) {
  struct block b;
  if (!virtio_open(&b.device, slot) || b.device.id != VIRTIO_BLOCK) return;
  size_t mark = alloc_mark();
  block_start(&b, F_EVENT_IDX, NO_VECTOR);
  print("disk %u:%u %s\n", segment, slot, use(&b, segment) ? "works" : "does nothing");
  virtio_reset(&b.device);
  alloc_release(mark);
}

static void came(u32 segment, u32 slots) {
  for (u32 slot = 0; slot < PCI_SLOTS; slot++) {
    if ((slots >> slot & 1) != 0) use_disk(segment, slot);
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
    for (u32 slot = 0; slot < PCI_SLOTS; slot++) use_disk(segment, slot);
  }
  print("%u segments ready\n", pci_segments());
  for (;;) {
    for (u32 segment = 0; segment < pci_segments(); segment++) scan(segment);
    while ((read8(controller.events) & GED_PCI) == 0) {
      wait_irq(POLL_VECTOR, irq_counts[POLL_VECTOR], POLL_US);
    }
  }
}
PROGRAM("segments", segments);
