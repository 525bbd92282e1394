/* All CPUs at PCI slots whose devices come and go: the hot-plug controller, configuration space,
 * registers and doorbells, of devices that are there, that are leaving and that are gone. One disk,
 * the witness, is left alone and used all the time. An NMI ends it. */
#include "pci.h"

#include "crowd.h"
#include "hotplug.h"

#define QUEUES 4
#define RING 16
#define ARENA 0x100000u
#define VECTOR 0x60
/* A place for each slot in the 32-bit window, where few BARs are. */
#define PLACES 0xc8000000u
#define PLACE_SIZE 0x100000u

static struct pci_controller controller;
static u8 *arena;
/* Where a device has what, below its BAR: the same for all. */
static u64 notify_offset, msix_offset;
/* As the window for addresses above 4 GiB must not be changed by several CPUs. */
static volatile u8 *configuration;

static void write_any(volatile u8 *at, u32 width, u32 value) {
  switch (width % 4) {
    case 0:
      return write8(at, (u8)value);
    case 1:
      return write16(at, (u16)value);
    case 2:
      return write32(at, value);
    default:
      return write64(at, (u64)value << 32 | value);
  }
}

/* A slot that a device may come to, mostly one of the lower; the host bridge too. */
static u32 some_slot(u32 *state) {
  u32 slot = crowd_random(state) % (crowd_random(state) % 4 == 0 ? PCI_SLOTS : 8);
  return slot == witness_device()->slot ? 0 : slot;
}

/* Ejects what nobody asked for, twice, in segments that there are not, in any width; takes the
 * events from whom they are for. */
static void controller_role(u32 *state) {
  volatile u8 *r = controller.registers;
  write32(r + PCI_SEGMENT, crowd_random(state) % 4 == 0 ? crowd_random(state) : 0);
  u32 slots = crowd_random(state) % 2 == 0 ? ~0u : 1u << some_slot(state);
  slots &= ~(1u << witness_device()->slot);
  write32(r + PCI_EJECT, slots);
  write32(r + PCI_EJECT, slots);
  write_any(r + crowd_random(state) % PCI_CONTROLLER_SIZE, crowd_random(state) % 2,
            crowd_random(state));
  read32(r + PCI_INSERTED);
  read32(r + PCI_REMOVING);
  read64(r + crowd_random(state) % PCI_CONTROLLER_SIZE);
  read8(controller.events);
}

/* Anything into any function's header and capabilities. */
static void config_role(u32 *state) {
  volatile u8 *function = configuration + some_slot(state) * 0x8000ul;
  for (u32 i = 0; i < 8; i++) {
    /* Every other write is to what is decoded. */
    u32 at = i % 2 == 0 ? crowd_random(state) % 256 : PCI_COMMAND + crowd_random(state) % 0x24;
    write_any(function + at, crowd_random(state),
              crowd_random(state) % 4 == 0 ? ~0u : crowd_random(state));
    read32(function + (crowd_random(state) % 1024) * 4);
  }
}

/* Whatever is in the slot, decoded at the slot's own place. */
static volatile u8 *place(u32 slot) {
  volatile u8 *function = configuration + slot * 0x8000ul;
  u32 address = PLACES + slot * PLACE_SIZE;
  write32(function + PCI_BAR0, address);
  write32(function + PCI_BAR0 + 4, 0);
  write16(function + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  return (volatile u8 *)(u64)address;
}

/* Three rings in the arena, with requests that a disk would carry out, and now and then such as
 * nobody would. */
static u8 *make_ring(u32 *state) {
  u8 *ring = arena + crowd_random(state) % 16 * 4096;
  struct vring_desc *desc = (struct vring_desc *)ring;
  volatile struct vring_avail *avail = (volatile struct vring_avail *)(ring + 1024);
  struct block_header *header = (struct block_header *)(ring + 3072);
  header->type = crowd_random(state) % 2;
  header->sector = crowd_random(state) % 64;
  u64 data = (u64)arena + 65536 + crowd_random(state) % 8 * 65536;
  u16 direction = header->type == BLOCK_IN ? DESC_WRITE : 0;
  for (u16 i = 0; i + 2 < RING; i = (u16)(i + 3)) {
    desc[i] = (struct vring_desc){(u64)header, 16, DESC_NEXT, (u16)(i + 1)};
    desc[i + 1] = (struct vring_desc){data, 8 * SECTOR, (u16)(DESC_NEXT | direction), (u16)(i + 2)};
    desc[i + 2] = (struct vring_desc){(u64)(ring + 3100), 1, DESC_WRITE, 0};
    avail->ring[i / 3] = i;
  }
  if (crowd_random(state) % 4 == 0) {
    struct vring_desc *d = &desc[crowd_random(state) % RING];
    d->flags = (u16)(crowd_random(state) & 7);
    d->next = (u16)(crowd_random(state) % (RING + 1));
    d->length = crowd_random(state) % 65536;
  }
  return ring;
}

/* The life of a device, whatever it is; it may leave at each step. */
static void driver_role(u32 *state) {
  volatile u8 *bar = place(some_slot(state));
  static const u8 life[] = {0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER};
  for (u32 i = 0; i < ARRAY_SIZE(life); i++) write8(bar + COMMON_DEVICE_STATUS, life[i]);
  write32(bar + COMMON_DRIVER_FEATURE_SELECT, 0);
  write32(bar + COMMON_DRIVER_FEATURE, crowd_random(state) % 2 == 0 ? 0 : (u32)F_EVENT_IDX);
  write32(bar + COMMON_DRIVER_FEATURE_SELECT, 1);
  write32(bar + COMMON_DRIVER_FEATURE, 1);
  write8(bar + COMMON_DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  for (u16 index = 0; index < QUEUES; index++) {
    u8 *ring = make_ring(state);
    ((struct vring_avail *)(ring + 1024))->index = (u16)(1 + crowd_random(state) % (RING / 3));
    write16(bar + COMMON_QUEUE_SELECT, index);
    write16(bar + COMMON_QUEUE_SIZE, RING);
    write16(bar + COMMON_QUEUE_MSIX_VECTOR, index);
    write32(bar + COMMON_QUEUE_DESC, (u32)(u64)ring);
    write32(bar + COMMON_QUEUE_DRIVER, (u32)(u64)(ring + 1024));
    write32(bar + COMMON_QUEUE_DEVICE, (u32)(u64)(ring + 2048));
    write16(bar + COMMON_QUEUE_ENABLE, 1);
    volatile u8 *entry = bar + msix_offset + index * 16;
    write32(entry, 0xfee00000u);
    write32(entry + 4, 0);
    write32(entry + 8, VECTOR + index);
    write32(entry + 12, crowd_random(state) % 2);
  }
  write8(bar + COMMON_DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
  for (u32 i = 0; i < 64; i++) write16(bar + notify_offset + i % QUEUES * 4, (u16)(i % QUEUES));
}

/* Doorbells and registers of all slots, whoever is there. */
static void doorbell_role(u32 *state) {
  for (u32 slot = 0; slot < PCI_SLOTS; slot++) {
    volatile u8 *bar = (volatile u8 *)(u64)(PLACES + slot * PLACE_SIZE);
    write16(bar + notify_offset + crowd_random(state) % QUEUES * 4,
            (u16)(crowd_random(state) % QUEUES));
    if (crowd_random(state) % 8 == 0) write8(bar + COMMON_DEVICE_STATUS, (u8)crowd_random(state));
    if (crowd_random(state) % 8 == 0) read32(bar + crowd_random(state) % (u32)msix_offset);
    struct vring_avail *avail = (struct vring_avail *)(make_ring(state) + 1024);
    avail->index = (u16)(avail->index + crowd_random(state) % 2);
  }
}

static void (*const roles[])(u32 *) = {driver_role, controller_role, config_role, doorbell_role};

/* Each has a role that it plays most of the time. */
static void assault(u32 index, u32 *state) {
  roles[crowd_random(state) % 4 == 0 ? crowd_random(state) % ARRAY_SIZE(roles)
                                     : index % ARRAY_SIZE(roles)](state);
}

static void slots(void) {
  if (!check("pci-controller", pci_controller_find(&controller), "none")) return;
  witness_open(0);
  arena = alloc(ARENA);
  configuration = pci_config(0);
  u64 bar = (u64)map_physical(pci_bar(witness_device()->slot, 0), 4096);
  notify_offset = (u64)witness_device()->notify - bar;
  msix_offset = (u64)witness_device()->msix - bar;
  if (crowd("pci", assault, witness_goes_on) != 0) witness_report("pci-witness");
}
PROGRAM("hostile-pci", slots);
