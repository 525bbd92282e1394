/* Power-off, the power button and every way to reset. */
#include "block.h"
#include "guest.h"

#define GED_PIN 13
#define GED_VECTOR 0x51
#define GED_POWER_BUTTON 8

static void off(void) { ok("power-off"); }
PROGRAM("off", off);

/*
 * Resets the machine until it has started `boots` times (2), counting in the last sector of the
 * first disk; without a disk it resets for ever. Option cause=: acpi, i8042, cmos, triple-fault.
 */
static void reset_program(void) {
  struct block b;
  u64 boot = 1;
  bool disk = block_open(&b, 0, 0, NO_VECTOR);
  u8 *data = alloc(SECTOR);
  if (disk) {
    block_request(&b, BLOCK_IN, b.sectors - 1, data, SECTOR);
    memcpy(&boot, data, 8);
    boot++;
    memcpy(data, &boot, 8);
    block_request(&b, BLOCK_OUT, b.sectors - 1, data, SECTOR);
  }
  print("boot %lu\n", boot);
  if (disk && boot >= option_number("boots", 2)) {
    ok("reset");
    return;
  }
  reset(option("cause", "acpi"));
  not_ok("reset", "the machine went on");
}
PROGRAM("reset", reset_program);

/* Waits for the power button as an ACPI guest would: GED interrupt, event register, S5. */
static void power_button(void) {
  const char *name = option("region", "GDST");
  u64 address = acpi_region(name);
  if (address == 0) {
    not_ok("power-button", "no operation region %s in the DSDT", name);
    return;
  }
  volatile u8 *event = map_physical(address, 1);
  ioapic_route(GED_PIN, GED_VECTOR, lapic_id());
  print("waiting, event register at 0x%lx\n", address);
  if (!wait_irq(GED_VECTOR, 0, 10000000)) {
    not_ok("power-button", "no interrupt");
    return;
  }
  u8 first = read8(event), second = read8(event);
  check("power-button", first == GED_POWER_BUTTON && second == 0, "events 0x%x then 0x%x", first,
        second);
}
PROGRAM("power-button", power_button);
