#include "pci.h"

#define MAX_CAPABILITIES 48
#define MAX_SEGMENTS 16

/* Allocations follow the MCFG's header and eight reserved bytes; they begin with an address. */
#define MCFG_ALLOCATIONS 44
#define MCFG_ALLOCATION_SIZE 16

static u64 ecams[MAX_SEGMENTS];
static u32 segments, selected;
static u64 next_bar;

u32 pci_segments(void) {
  if (segments != 0) return segments;
  const struct acpi_header *mcfg = acpi_table("MCFG", 0);
  u32 length = mcfg == NULL ? 0 : mcfg->length;
  for (u32 at = MCFG_ALLOCATIONS; at + MCFG_ALLOCATION_SIZE <= length && segments < MAX_SEGMENTS;
       at += MCFG_ALLOCATION_SIZE) {
    memcpy(&ecams[segments++], (const u8 *)mcfg + at, 8);
  }
  if (segments == 0) segments = 1;
  if (ecams[0] == 0) ecams[0] = option_number("ecam", 0xe8000000);
  return segments;
}

void pci_select(u32 segment) { selected = segment; }

u64 pci_ecam(void) {
  pci_segments();
  return ecams[selected];
}

volatile u8 *pci_config(u32 slot) { return map_physical(pci_ecam() + slot * 0x8000ul, 4096); }

u32 pci_id(u32 slot) { return read32(pci_config(slot)); }

void pci_command(u32 slot, u16 set, u16 clear) {
  volatile u8 *config = pci_config(slot);
  write16(config + PCI_COMMAND, (u16)((read16(config + PCI_COMMAND) & ~clear) | set));
}

bool pci_bar_is_64(u32 slot, u32 bar) {
  return (read32(pci_config(slot) + PCI_BAR0 + bar * 4) & 6) == 4;
}

static u64 read_bar(u32 slot, u32 bar) {
  volatile u8 *at = pci_config(slot) + PCI_BAR0 + bar * 4;
  u64 value = read32(at) & ~0xful;
  if (pci_bar_is_64(slot, bar)) value |= (u64)read32(at + 4) << 32;
  return value;
}

void pci_set_bar(u32 slot, u32 bar, u64 address) {
  volatile u8 *at = pci_config(slot) + PCI_BAR0 + bar * 4;
  write32(at, (u32)address);
  if (pci_bar_is_64(slot, bar)) write32(at + 4, (u32)(address >> 32));
}

u64 pci_bar_size(u32 slot, u32 bar) {
  u64 old = read_bar(slot, bar);
  pci_command(slot, 0, PCI_COMMAND_MEMORY);
  pci_set_bar(slot, bar, ~0ul);
  u64 mask = read_bar(slot, bar);
  if (!pci_bar_is_64(slot, bar)) mask |= 0xffffffff00000000ul;
  pci_set_bar(slot, bar, old);
  pci_command(slot, PCI_COMMAND_MEMORY, 0);
  return mask == 0xffffffff00000000ul || mask == 0 ? 0 : ~mask + 1;
}

u64 pci_bar(u32 slot, u32 bar) {
  u64 address = read_bar(slot, bar);
  if (address != 0) return address;
  u64 size = pci_bar_size(slot, bar);
  if (size == 0) return 0;
  if (next_bar == 0) next_bar = option_number("mmio", 0xc0000000);
  address = ALIGN_UP(next_bar, size);
  next_bar = address + size;
  pci_set_bar(slot, bar, address);
  return address;
}

u8 pci_capability(u32 slot, u8 kind, u8 after) {
  volatile u8 *config = pci_config(slot);
  u8 at = read8(config + (after == 0 ? PCI_CAPABILITIES : after + 1));
  for (u32 i = 0; i < MAX_CAPABILITIES && at >= 0x40; i++, at = read8(config + at + 1)) {
    if (read8(config + at) == kind) return at;
  }
  return 0;
}
