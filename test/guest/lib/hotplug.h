/* The CPU hot-plug controller of \_SB.PRES, and the event register that says to look at it. */
#pragma once
#include "guest.h"

#define CPU_ENABLED 1
#define CPU_INSERTING 2
#define CPU_REMOVING 4
#define CPU_EJECT 8
#define GED_CPU 1

struct cpu_controller {
  volatile u8 *events;
  volatile u8 *registers;
};

/* False if the machine has none. */
static inline bool cpu_controller_find(struct cpu_controller *c) {
  u64 events = acpi_region("GDST"), registers = acpi_region("PRST");
  if (events == 0 || registers == 0) return false;
  c->events = map_physical(events, 1);
  c->registers = map_physical(registers, 12);
  return true;
}

static inline u8 cpu_status(const struct cpu_controller *c, u32 cpu) {
  write32(c->registers, cpu);
  return read8(c->registers + 4);
}

static inline void cpu_write(const struct cpu_controller *c, u32 cpu, u8 bits) {
  write32(c->registers, cpu);
  write8(c->registers + 4, bits);
}
