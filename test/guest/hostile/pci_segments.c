/* All CPUs at PCI segments whose devices come and go: the hot-plug controller, and functions'
 * configuration, with BARs that lead into other segments. A disk of segment 0, the witness, is left
 * alone and used all the time. */
#include "hostile.h"
#include "pci.h"

#define RUN_US 3000000
#define ECAM_SIZE 0x100000ul
/* Of 16 segments of the same weight: each has so much of the window below 4 GiB. */
#define WINDOWS 0xc0000000u
#define WINDOW_SIZE 0x2800000u
#define PLACE_SIZE 0x100000u
#define NOTIFY 0x6000
#define CONTROLLER_SIZE 16

/* Registers of \_SB.PHPR, by their names in AML. */
enum { PCIU = 0x0, PCID = 0x4, B0EJ = 0x8, PSEG = 0xc };

static struct block witness;
static volatile u8 *controller, *events, *ecam;
static u32 segments;
static volatile bool stop;
static volatile u32 finished;

static u32 next(u32 *state) {
  *state = *state * 1664525 + 1013904223;
  return *state >> 8;
}

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
  u32 any = next(state);
  return any % 3 == 0 ? 1 : any % 3 == 1 ? segments - 1 : 1 + any / 3 % (segments - 1);
}

/* Ejects what nobody asked for, in all segments and in such as there are not. */
static void at_controller(u32 *state) {
  write32(controller + PSEG, next(state) % 4 == 0 ? next(state) : next(state) % segments);
  write32(controller + B0EJ, ~0u);
  write_any(controller + next(state) % CONTROLLER_SIZE, next(state), next(state));
  read32(controller + PCIU);
  read32(controller + PCID);
  read64(controller + next(state) % CONTROLLER_SIZE);
  read8(events);
}

static volatile u8 *some_function(u32 *state) {
  return ecam + some_segment(state) * ECAM_SIZE + next(state) % 4 * 0x8000ul;
}

static void at_configuration(u32 *state) {
  volatile u8 *function = some_function(state);
  for (u32 i = 0; i < 8; i++) {
    u32 at = i % 2 == 0 ? next(state) % 256 : PCI_COMMAND + next(state) % 0x24;
    write_any(function + at, next(state), next(state));
    read32(function + next(state) % 1024 * 4);
  }
}

/* A BAR in any segment's window, and a driver that believes in it. */
static void at_registers(u32 *state) {
  volatile u8 *function = some_function(state);
  u32 address = WINDOWS + next(state) % segments * WINDOW_SIZE + next(state) % 32 * PLACE_SIZE;
  write32(function + PCI_BAR0, address);
  write32(function + PCI_BAR0 + 4, 0);
  write16(function + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  volatile u8 *bar = (volatile u8 *)(u64)address;
  static const u8 life[] = {0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, FEATURES_OK | 3, DRIVER_OK | 11};
  for (u32 i = 0; i < ARRAY_SIZE(life); i++) write8(bar + COMMON_DEVICE_STATUS, life[i]);
  for (u32 i = 0; i < 16; i++) write16(bar + NOTIFY, 0);
  read32(bar + next(state) % NOTIFY);
}

static void assault(u32 *state) {
  static void (*const attacks[])(u32 *) = {at_controller, at_configuration, at_registers};
  attacks[next(state) % ARRAY_SIZE(attacks)](state);
}

static void play(u32 index) {
  u32 state = index * 7919 + 1;
  while (!stop) assault(&state);
  __asm__ volatile("lock incl %0" : "+m"(finished));
}

static bool use_witness(u32 round) {
  static u8 *data;
  if (data == NULL) data = alloc(8 * SECTOR);
  u64 at = 8 + round % 64 * 8;
  block_pattern(data, at, 8, round);
  bool good = block_request(&witness, BLOCK_OUT, at, data, 8 * SECTOR) == BLOCK_OK;
  memset(data, 0, 8 * SECTOR);
  good = block_request(&witness, BLOCK_IN, at, data, 8 * SECTOR) == BLOCK_OK && good;
  return good && block_matches(data, at, 8, round);
}

static void pci_segments_attacked(void) {
  u64 registers = acpi_region("PCST"), event = acpi_region("GDST");
  segments = pci_segments();
  if (!check("segments-there", registers != 0 && event != 0 && segments == 16, "%u", segments))
    return;
  controller = map_physical(registers, CONTROLLER_SIZE);
  events = map_physical(event, 1);
  ecam = map_physical(pci_ecam(), segments * ECAM_SIZE);
  victim_open(&witness, F_EVENT_IDX);
  u32 others = smp_start(play, 20000000);
  if (!check("segments-others", others > 0, "one CPU only")) return;
  u32 state = 1, round = 0, failed = 0;
  for (u64 end = now_us() + option_number("time", RUN_US); now_us() < end; round++) {
    if (!use_witness(round)) failed++;
    assault(&state);
  }
  stop = true;
  for (u64 end = now_us() + 20000000; finished < others && now_us() < end;) pause();
  check("segments-ended", finished == others, "%u of %u", finished, others);
  check("segments-witness", failed == 0 && round > 0, "%u of %u rounds failed", failed, round);
  virtio_reset(&witness.device);
}
PROGRAM("hostile-pci-segments", pci_segments_attacked);
