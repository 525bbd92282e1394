#include "guest.h"

#define SLEEP_RESET_PORT 0x600

extern u64 ring0_triple_fault(u64, u64, u64);

void power_off(void) {
  /* ACPI sleep control register: SLP_TYP 5, SLP_EN (ACPI 6.5 §4.8.3.7). */
  out8(SLEEP_RESET_PORT, 0x34);
  /* Machines without one: QEMU's q35, then whatever ends at a reset. */
  out16(0x604, 0x2000);
  reset("i8042");
  reset("triple-fault");
  halt_forever();
}

void reset(const char *cause) {
  if (strcmp(cause, "acpi") == 0) out8(SLEEP_RESET_PORT, 1);
  if (strcmp(cause, "i8042") == 0) out8(0x64, 0xfe);
  if (strcmp(cause, "cmos") == 0) {
    out8(0x70, 0x8f);
    out8(0x71, 0);
  }
  if (strcmp(cause, "triple-fault") == 0) ring0(ring0_triple_fault, 0, 0, 0);
}
