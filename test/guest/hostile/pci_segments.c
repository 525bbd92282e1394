/* All CPUs at PCI segments whose devices come and go: the hot-plug controller, and functions'
 * configuration, with BARs that lead into other segments. A disk of segment 0, the witness, is left
 * alone and used all the time. An NMI ends it. */
#include "crowd.h"
#include "hotplug.h"
#include "pci.h"

#define ECAM_SIZE 0x100000ul
/* Of 16 segments of the same weight: each has so much of the window below 4 GiB. */
#define WINDOWS 0xc0000000u
#define WINDOW_SIZE 0x2800000u
#define PLACE_SIZE 0x100000u
#define NOTIFY 0x6000

static struct pci_controller controller;
static volatile u8 *ecam;
static u32 segments;

static void write_any(volatile u8 *at, u32 width, u32 value) {
  switch (width % 3) {
    case 0:
      return write8(at, (u8)value);
    case 1:
      return write16(at, (u16)value);
    default:
      return write32(at, value);
  }
}

/* One that devices come to, or any but the witness' own. */
static u32 some_segment(u32 *state) {
  u32 any = crowd_random(state);
  return any % 3 == 0 ? 1 : any % 3 == 1 ? segments - 1 : 1 + any / 3 % (segments - 1);
}

/* Ejects what nobody asked for, in all segments and in such as there are not. */
static void at_controller(u32 *state) {
  write32(controller.registers + PCI_SEGMENT,
          crowd_random(state) % 4 == 0 ? crowd_random(state) : crowd_random(state) % segments);
  write32(controller.registers + PCI_EJECT, ~0u);
  write_any(controller.registers + crowd_random(state) % PCI_CONTROLLER_SIZE, crowd_random(state),
            crowd_random(state));
  read32(controller.registers + PCI_INSERTED);
  read32(controller.registers + PCI_REMOVING);
  read64(controller.registers + crowd_random(state) % PCI_CONTROLLER_SIZE);
  read8(controller.events);
}

static volatile u8 *some_function(u32 *state) {
  return ecam + some_segment(state) * ECAM_SIZE + crowd_random(state) % 4 * 0x8000ul;
}

static void at_configuration(u32 *state) {
  volatile u8 *function = some_function(state);
  for (u32 i = 0; i < 8; i++) {
    u32 at = i % 2 == 0 ? crowd_random(state) % 256 : PCI_COMMAND + crowd_random(state) % 0x24;
    write_any(function + at, crowd_random(state), crowd_random(state));
    read32(function + crowd_random(state) % 1024 * 4);
  }
}

/* A BAR in any segment's window, and a driver that believes in it. */
static void at_registers(u32 *state) {
  volatile u8 *function = some_function(state);
  u32 address = WINDOWS + crowd_random(state) % segments * WINDOW_SIZE +
                crowd_random(state) % 32 * PLACE_SIZE;
  write32(function + PCI_BAR0, address);
  write32(function + PCI_BAR0 + 4, 0);
  write16(function + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  volatile u8 *bar = (volatile u8 *)(u64)address;
  static const u8 life[] = {0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, FEATURES_OK | 3, DRIVER_OK | 11};
  for (u32 i = 0; i < ARRAY_SIZE(life); i++) write8(bar + COMMON_DEVICE_STATUS, life[i]);
  for (u32 i = 0; i < 16; i++) write16(bar + NOTIFY, 0);
  read32(bar + crowd_random(state) % NOTIFY);
}

static void assault(u32 index, u32 *state) {
  static void (*const attacks[])(u32 *) = {at_controller, at_configuration, at_registers};
  attacks[(index + crowd_random(state)) % ARRAY_SIZE(attacks)](state);
}

static void pci_segments_attacked(void) {
  segments = pci_segments();
  bool there = pci_controller_find(&controller) && segments == 16;
  if (!check("segments-there", there, "%u", segments)) return;
  ecam = map_physical(pci_ecam(), segments * ECAM_SIZE);
  witness_open(0);
  if (crowd("segments", assault, witness_goes_on) != 0) witness_report("segments-witness");
}
PROGRAM("hostile-pci-segments", pci_segments_attacked);
