/* Several CPUs at one device, each against the others. Needs two CPUs or more. */
#include "crowd.h"
#include "pci.h"

#define VECTOR 0x61

static struct block victim;
static struct virtio neighbour;
static bool has_neighbour;
static u64 home, other;

/* BAR here, BAR there, decoding on and off, over the neighbour's. */
static void mover(u32 *state) {
  u32 slot = victim.device.slot;
  pci_set_bar(slot, 0,
              crowd_random(state) % 3 == 0 && has_neighbour ? pci_bar(neighbour.slot, 0) : other);
  pci_command(slot, 0, PCI_COMMAND_MEMORY);
  pci_command(slot, PCI_COMMAND_MEMORY, 0);
  pci_set_bar(slot, 0, home);
}

/* The whole life of a device, and rubbish in its registers. */
static void resetter(u32 *state) {
  volatile u8 *common = victim.device.common;
  static const u8 life[] = {0, 1, 3, 11, 15, 0x8f, 0x4f, 15};
  for (u32 i = 0; i < ARRAY_SIZE(life); i++) write8(common + COMMON_DEVICE_STATUS, life[i]);
  write16(common + COMMON_QUEUE_SELECT, (u16)(crowd_random(state) & 3));
  write16(common + COMMON_QUEUE_SIZE, (u16)(1u << crowd_random(state) % 9));
  write32(common + COMMON_QUEUE_DESC, (u32)(u64)victim.queue.desc);
  write32(common + COMMON_QUEUE_DRIVER, (u32)(u64)victim.queue.avail);
  write32(common + COMMON_QUEUE_DEVICE, (u32)(u64)victim.queue.used);
  write16(common + COMMON_QUEUE_ENABLE, 1);
  write8(common + COMMON_DEVICE_STATUS, (u8)crowd_random(state));
}

/* Work and nonsense on the queue. */
static void worker(u32 *state) {
  struct virtqueue *q = &victim.queue;
  for (u32 i = 0; i < 64; i++) {
    u16 d = (u16)(crowd_random(state) % q->size);
    q->desc[d].address = 0x2000000 + crowd_random(state) % 0x100000;
    q->desc[d].length = crowd_random(state) % 2 != 0 ? 16 : 512;
    q->desc[d].flags = (u16)(crowd_random(state) & (crowd_random(state) % 8 != 0 ? 3 : 7));
    q->desc[d].next = (u16)(crowd_random(state) % (q->size + 1u));
    q->avail->ring[crowd_random(state) % q->size] = d;
  }
  q->avail->index = (u16)(q->avail->index + crowd_random(state) % 8);
  write16(q->doorbell, 0);
}

/* Vectors masked, moved and unmasked; configuration read meanwhile. */
static void masker(u32 *state) {
  volatile u8 *entry = victim.device.msix + 16;
  write32(entry + 12, 1);
  write32(entry + 8, VECTOR + crowd_random(state) % 8);
  write32(entry + 12, 0);
  write16(victim.device.common + COMMON_QUEUE_MSIX_VECTOR, (u16)(crowd_random(state) & 1));
  write16(victim.device.common + COMMON_CONFIG_MSIX_VECTOR, (u16)(crowd_random(state) & 1));
  write16(pci_config(victim.device.slot) + victim.device.msix_capability + MSIX_CONTROL,
          crowd_random(state) % 4 != 0 ? MSIX_ENABLE : 0);
  read32(victim.device.config);
  read8(victim.device.isr);
}

static void (*const roles[])(u32 *) = {masker, mover, resetter, worker};

static void assault(u32 index, u32 *state) { roles[index % ARRAY_SIZE(roles)](state); }

static void fight(void) {
  victim_open(&victim, F_EVENT_IDX | F_INDIRECT_DESC);
  has_neighbour = virtio_find(&neighbour, VIRTIO_RNG, 0) && !pci_bar_is_64(neighbour.slot, 0);
  home = pci_bar(victim.device.slot, 0);
  other = 0xc8000000;
  msix_route(&victim.device, 1, VECTOR);
  if (crowd("smp", assault, crowd_has_time) == 0) return;
  pci_set_bar(victim.device.slot, 0, home);
  pci_command(victim.device.slot, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
  write16(pci_config(victim.device.slot) + victim.device.msix_capability + MSIX_CONTROL, 0);
  victim.device.features = F_VERSION_1;
  judge("smp-fight", &victim, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-smp", fight);
