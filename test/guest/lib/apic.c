/* The local APIC, as MMIO or (x2APIC) as MSRs, and the IOAPIC. */
#include "guest.h"

#define APIC_BASE_MSR 0x1b
#define APIC_BASE_X2 0x400
#define LAPIC_BASE 0xfee00000ul
#define LAPIC_SPURIOUS 0xf0
#define LAPIC_ICR 0x300
#define LAPIC_LINT0 0x350
#define IOAPIC_BASE 0xfec00000ul

extern u8 lapic_x2;

u32 lapic_read(u32 reg) {
  if (lapic_x2) return (u32)read_msr(0x800 + reg / 16);
  return read32((void *)(LAPIC_BASE + reg));
}

void lapic_write(u32 reg, u32 value) {
  if (lapic_x2) {
    write_msr(0x800 + reg / 16, value);
  } else {
    write32((void *)(LAPIC_BASE + reg), value);
  }
}

u32 lapic_id(void) { return lapic_x2 ? lapic_read(0x20) : lapic_read(0x20) >> 24; }

void lapic_send(u32 apic_id, u32 command) {
  if (lapic_x2) {
    write_msr(0x830, (u64)apic_id << 32 | command);
  } else {
    lapic_write(LAPIC_ICR + 0x10, apic_id << 24);
    lapic_write(LAPIC_ICR, command);
  }
}

void lapic_init(void) {
  lapic_x2 = (read_msr(APIC_BASE_MSR) & APIC_BASE_X2) != 0;
  lapic_write(LAPIC_LINT0, 0x10000); /* nothing from a legacy controller */
  lapic_write(LAPIC_SPURIOUS, 0x1ff);
}

void ioapic_route(u32 pin, u8 vector, u32 apic_id) {
  volatile u8 *ioapic = (u8 *)IOAPIC_BASE;
  write32(ioapic, 0x10 + pin * 2 + 1);
  write32(ioapic + 0x10, apic_id << 24);
  write32(ioapic, 0x10 + pin * 2);
  write32(ioapic + 0x10, vector); /* fixed, physical, edge, unmasked */
}
