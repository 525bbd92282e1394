/* Several CPUs at one device, each against the others. Needs two CPUs or more. */
#include "hostile.h"
#include "pci.h"

#define RUN_US 1500000
#define VECTOR 0x61

static struct block victim;
static struct virtio neighbour;
static bool has_neighbour;
static volatile bool stop;
static volatile u32 finished;
static u64 home, other;

static u32 next(u32 *state) {
  *state = *state * 1664525 + 1013904223;
  return *state >> 8;
}

/* BAR here, BAR there, decoding on and off, over the neighbour's. */
static void mover(u32 *state) {
  u32 slot = victim.device.slot;
  pci_set_bar(slot, 0, next(state) % 3 == 0 && has_neighbour ? pci_bar(neighbour.slot, 0) : other);
  pci_command(slot, 0, PCI_COMMAND_MEMORY);
  pci_command(slot, PCI_COMMAND_MEMORY, 0);
  pci_set_bar(slot, 0, home);
}

/* The whole life of a device, and rubbish in its registers. */
static void resetter(u32 *state) {
  volatile u8 *common = victim.device.common;
  static const u8 life[] = {0, 1, 3, 11, 15, 0x8f, 0x4f, 15};
  for (u32 i = 0; i < ARRAY_SIZE(life); i++) write8(common + COMMON_DEVICE_STATUS, life[i]);
  write16(common + COMMON_QUEUE_SELECT, (u16)(next(state) & 3));
  write16(common + COMMON_QUEUE_SIZE, (u16)(1u << next(state) % 9));
  write32(common + COMMON_QUEUE_DESC, (u32)(u64)victim.queue.desc);
  write32(common + COMMON_QUEUE_DRIVER, (u32)(u64)victim.queue.avail);
  write32(common + COMMON_QUEUE_DEVICE, (u32)(u64)victim.queue.used);
  write16(common + COMMON_QUEUE_ENABLE, 1);
  write8(common + COMMON_DEVICE_STATUS, (u8)next(state));
}

/* Work and nonsense on the queue. */
static void worker(u32 *state) {
  struct virtqueue *q = &victim.queue;
  for (u32 i = 0; i < 64; i++) {
    u16 d = (u16)(next(state) % q->size);
    q->desc[d].address = 0x2000000 + next(state) % 0x100000;
    q->desc[d].length = next(state) % 2 != 0 ? 16 : 512;
    q->desc[d].flags = (u16)(next(state) & (next(state) % 8 != 0 ? 3 : 7));
    q->desc[d].next = (u16)(next(state) % (q->size + 1u));
    q->avail->ring[next(state) % q->size] = d;
  }
  q->avail->index = (u16)(q->avail->index + next(state) % 8);
  write16(q->doorbell, 0);
}

/* Vectors masked, moved and unmasked; configuration read meanwhile. */
static void masker(u32 *state) {
  volatile u8 *entry = victim.device.msix + 16;
  write32(entry + 12, 1);
  write32(entry + 8, VECTOR + next(state) % 8);
  write32(entry + 12, 0);
  write16(victim.device.common + COMMON_QUEUE_MSIX_VECTOR, (u16)(next(state) & 1));
  write16(victim.device.common + COMMON_CONFIG_MSIX_VECTOR, (u16)(next(state) & 1));
  write16(pci_config(victim.device.slot) + victim.device.msix_capability + MSIX_CONTROL,
          next(state) % 4 != 0 ? MSIX_ENABLE : 0);
  read32(victim.device.config);
  read8(victim.device.isr);
}

static void (*const roles[])(u32 *) = {masker, mover, resetter, worker};

static void play(u32 index) {
  u32 state = index * 7919 + 1;
  while (!stop) roles[index % ARRAY_SIZE(roles)](&state);
  __asm__ volatile("lock incl %0" : "+m"(finished));
}

static void fight(void) {
  victim_open(&victim, F_EVENT_IDX | F_INDIRECT_DESC);
  has_neighbour = virtio_find(&neighbour, VIRTIO_RNG, 0) && !pci_bar_is_64(neighbour.slot, 0);
  home = pci_bar(victim.device.slot, 0);
  other = 0xc8000000;
  msix_route(&victim.device, 1, VECTOR);
  u32 others = smp_start(play, 2000000);
  if (!check("smp-others", others > 0, "one CPU only")) return;
  u32 state = 1;
  for (u64 end = now_us() + option_number("time", RUN_US); now_us() < end;) masker(&state);
  stop = true;
  for (u64 end = now_us() + 5000000; finished < others && now_us() < end;) pause();
  check("smp-ended", finished == others, "%u of %u", finished, others);
  pci_set_bar(victim.device.slot, 0, home);
  pci_command(victim.device.slot, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
  write16(pci_config(victim.device.slot) + victim.device.msix_capability + MSIX_CONTROL, 0);
  victim.device.features = F_VERSION_1;
  judge("smp-fight", &victim, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-smp", fight);
