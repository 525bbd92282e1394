/* PCI functions of bus 0 of a segment, by ECAM (PCI Firmware Specification 3.2 §4.1.2). */
#pragma once
#include "guest.h"

#define PCI_COMMAND 0x04
#define PCI_COMMAND_MEMORY 0x2
#define PCI_COMMAND_MASTER 0x4
#define PCI_BAR0 0x10
#define PCI_CAPABILITIES 0x34
#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX 0x11
#define PCI_SLOTS 32

#define MSIX_CONTROL 2
#define MSIX_ENABLE 0x8000
#define MSIX_FUNCTION_MASK 0x4000

/* How many segments there are, numbered from 0. */
u32 pci_segments(void);
/* The segment that all else here, and drivers, mean by a slot; 0 at first. For one CPU. */
void pci_select(u32 segment);
/* Base of its ECAM window: from the MCFG, else the option ecam=. */
u64 pci_ecam(void);
volatile u8 *pci_config(u32 slot);
u32 pci_id(u32 slot); /* device << 16 | vendor; all ones if the slot is empty */
/* Address of a memory BAR; assigns one from the option mmio= where firmware left none. */
u64 pci_bar(u32 slot, u32 bar);
u64 pci_bar_size(u32 slot, u32 bar);
bool pci_bar_is_64(u32 slot, u32 bar);
void pci_set_bar(u32 slot, u32 bar, u64 address);
void pci_command(u32 slot, u16 set, u16 clear);
/* Offset of the next capability of this kind after `after` (0: the first); 0 if there is none. */
u8 pci_capability(u32 slot, u8 kind, u8 after);
