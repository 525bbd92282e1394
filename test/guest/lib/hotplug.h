/* The hot-plug controllers of CPUs (\_SB.PRES) and of PCI slots (\_SB.PHPR), and the event register
 * that says to look at them. */
#pragma once
#include "guest.h"

#define CPU_ENABLED 1
#define CPU_INSERTING 2
#define CPU_REMOVING 4
#define CPU_EJECT 8
#define GED_CPU 1
#define GED_PCI 4

/* Registers of the PCI controller: slots by bit, of the segment that is selected. */
#define PCI_INSERTED 0x0
#define PCI_REMOVING 0x4
#define PCI_EJECT 0x8
#define PCI_SEGMENT 0xc
#define PCI_CONTROLLER_SIZE 16

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

struct pci_controller {
  volatile u8 *events;
  volatile u8 *registers;
};

/* False if the machine has none. */
static inline bool pci_controller_find(struct pci_controller *c) {
  u64 events = acpi_region("GDST"), registers = acpi_region("PCST");
  if (events == 0 || registers == 0) return false;
  c->events = map_physical(events, 1);
  c->registers = map_physical(registers, PCI_CONTROLLER_SIZE);
  return true;
}
