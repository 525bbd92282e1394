/* Ports, configuration space and addresses where nothing is. Power registers are left to the power
 * programs. */
#include "hostile.h"
#include "pci.h"

static bool power_port(u32 port) {
  /* Sleep and reset (also in front: wide accesses reach them), i8042, and CMOS, where index 0x8f
   * resets. */
  return (port >= 0x5f8 && port <= 0x60f) || (port >= 0x5d && port <= 0x64) ||
         (port >= 0x6c && port <= 0x71);
}

static void ports(void) {
  for (u32 port = 0; port < 0x1000; port++) {
    if (port % 7 != 0 && (port < 0x3f0 || port > 0x402) && (port < 0xcf0 || port > 0xd08)) continue;
    in8((u16)port);
    in16((u16)port);
    in32((u16)port);
    if (power_port(port)) continue;
    out8((u16)port, (u8)random_next());
    out16((u16)port, (u16)random_next());
    out32((u16)port, (u32)random_next());
  }
  /* The serial port again as we want it. */
  out8(0x3fb, 0x03);
  out8(0x3fc, 0);
  out8(0x3f9, 0);
  print("\n");
  ok("ports-all");
  in16(0xffff);
  in32(0xffff);
  out32(0xffff, 0);
  in32(0x5fe);
  in32(0x603);
  in32(0x607);
  in32(0x609);
  static const u16 empty[] = {0x100, 0x2f8, 0x700, 0x1234, 0x8000, 0xfffc};
  u32 bad = 0;
  for (u32 i = 0; i < ARRAY_SIZE(empty); i++)
    if (in8(empty[i]) != 0xff || in16(empty[i]) != 0xffff || in32(empty[i]) != 0xffffffff) bad++;
  check("ports-empty", bad == 0, "%u read something", bad);
}
PROGRAM("hostile-ports", ports);

/* PCI mechanism 1 with every odd address and width. */
static void config_ports(void) {
  struct block b;
  victim_open(&b, 0);
  u32 expected = pci_id(b.device.slot);
  for (u32 i = 0; i < 3000; i++) {
    u32 address = (u32)random_next();
    /* Not the command and BARs of real functions: hostile-bars does that. */
    if ((address & 0xff0000) == 0 && (address & 0x700) == 0 && (address & 0xfc) < 0x28) continue;
    out32(0xcf8, address | (i & 1) << 31);
    u16 port = (u16)(0xcfc + random_next() % 4);
    in8(port);
    in16(port);
    in32(port);
    if ((address & 0xff0000) != 0) {
      out8(port, (u8)random_next());
      out16(port, (u16)random_next());
      out32(port, (u32)random_next());
    }
    in8(0xcf8);
    in16(0xcf9);
    out16(0xcfa, (u16)random_next() & 0x7fff);
  }
  out32(0xcf8, 0x80000000u | b.device.slot << 11);
  check("config-ports", in32(0xcfc) == expected, "0x%x", in32(0xcfc));
  out32(0xcf8, b.device.slot << 11); /* not enabled */
  check("config-ports-off", in32(0xcfc) == ~0u, "0x%x", in32(0xcfc));
  out32(0xcf8, 0x80000100u | b.device.slot << 11); /* function 1 */
  check("config-ports-function", in32(0xcfc) == ~0u, "0x%x", in32(0xcfc));
  judge("config-ports-after", &b, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-config-ports", config_ports);

/* The configuration space by ECAM: read-only stays, offsets beyond the capabilities are harmless.
 */
static void config_space(void) {
  struct block b;
  victim_open(&b, 0);
  volatile u8 *config = pci_config(b.device.slot);
  u8 before[64];
  for (u32 i = 0; i < 64; i++) before[i] = read8(config + i);
  for (u32 i = 0; i < 6000; i++) {
    u32 offset = (u32)(random_next() % 4088);
    u64 value = random_next();
    switch (random_next() & 7) {
      case 0:
        read64(config + offset);
        break;
      case 1:
        read32(config + offset);
        break;
      case 2:
        read16(config + offset);
        break;
      case 3:
        if (offset < 4 || offset >= 0x40) write64(config + offset, value);
        break;
      case 4:
        if (offset < 1 || offset >= 0x40) write32(config + offset, (u32)value);
        break;
      case 5:
        if (offset < 3 || offset >= 0x40) write16(config + offset, (u16)value);
        break;
      case 6:
        if (offset < 4 || offset >= 0x40) write8(config + offset, (u8)value);
        break;
    }
  }
  u32 bad = 0;
  for (u32 i = 0; i < 64; i++) {
    bool writable = (i >= 0x04 && i < 0x08) || (i >= 0x0c && i < 0x28) || i >= 0x3c;
    if (!writable && read8(config + i) != before[i]) bad++;
  }
  check("config-read-only", bad == 0, "%u bytes changed", bad);
  write16(config + b.device.msix_capability + MSIX_CONTROL, 0);
  write8(config + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  write8(config + PCI_COMMAND + 1, 0);
  judge("config-space", &b, OUT_IGNORED, OUT_ANY);
  /* Functions and slots that are not there read all ones and swallow writes. */
  volatile u8 *function = map_physical(pci_ecam() + b.device.slot * 0x8000ul + 0x1000, 4096);
  bad = read32(function) != ~0u;
  write32(function, 0);
  volatile u8 *empty = pci_config(31);
  if (read32(empty) != ~0u || read16(empty + 2) != 0xffff || read8(empty + 0xfff) != 0xff) bad++;
  write64(empty + 0x10, ~0ul);
  check("config-empty", bad == 0, "%u read something", bad);
}
PROGRAM("hostile-config", config_space);

/* The capability that reaches BARs through configuration space (§4.1.4.9). */
static void config_window(void) {
  struct block b;
  victim_open(&b, 0);
  volatile u8 *config = pci_config(b.device.slot);
  u8 at = 0;
  while ((at = pci_capability(b.device.slot, PCI_CAP_VENDOR, at)) != 0 &&
         read8(config + at + 3) != 5)
    continue;
  if (at == 0) {
    not_ok("config-window", "no capability");
    return;
  }
  static const u32 sizes[] = {0, 1, 2, 3, 4, 5, 8, 0x80000000, 0xffffffff};
  static const u32 offsets[] = {0,       1,       0x14,       0x2000,     0x4000,    0x7ffff,
                                0x80000, 0x7fffe, 0x7fffffff, 0xfffffffc, 0xffffffff};
  for (u32 bar = 0; bar < 8; bar++) {
    for (u32 s = 0; s < ARRAY_SIZE(sizes); s++) {
      for (u32 o = 0; o < ARRAY_SIZE(offsets); o++) {
        write8(config + at + 4, (u8)(bar == 7 ? 0xff : bar));
        write32(config + at + 8, offsets[o]);
        write32(config + at + 12, sizes[s]);
        read32(config + at + 16);
        read8(config + at + 17);
        if (offsets[o] >= 0x4000) write32(config + at + 16, 0);
      }
    }
  }
  write8(config + at + 4, 0);
  write32(config + at + 8, COMMON_DEVICE_STATUS);
  write32(config + at + 12, 1);
  u8 through = read8(config + at + 16);
  check("config-window", through == virtio_status(&b.device), "0x%x instead of 0x%x", through,
        virtio_status(&b.device));
  judge("config-window-after", &b, OUT_IGNORED, OUT_ANY);
}
PROGRAM("hostile-config-window", config_window);

/* Addresses where nothing is: all ones, writes dropped. */
static void holes(void) {
  const u64 where[] = {hole_address(), 0xf8100000, 0xfed00000, 0xfed40800,
                       0xfef00000,     0xfff00000, 1ul << 40,  (1ul << 45) + 0x1000};
  u32 bad = 0;
  for (u32 i = 0; i < ARRAY_SIZE(where); i++) {
    volatile u8 *at = map_physical(where[i], 4096);
    if (read8(at + 1) != 0xff || read16(at + 3) != 0xffff || read32(at + 6) != 0xffffffff ||
        read64(at + 9) != ~0ul) {
      print("hole 0x%lx reads 0x%x\n", where[i], read32(at));
      bad++;
    }
    write8(at, 1);
    write16(at + 1, 1);
    write32(at + 3, 1);
    write64(at + 5, 1);
  }
  check("holes", bad == 0, "%u read something", bad);
  /* From the last page of memory into the hole behind it. */
  u8 *edge = (u8 *)low_memory_end();
  write64(edge - 4, 0x1122334455667788);
  u64 value = read64(edge - 4);
  check("holes-edge", value == 0xffffffff55667788, "0x%lx", value);
}
PROGRAM("hostile-holes", holes);

/* The platform's own MMIO: IOAPIC and GED registers. */
static void platform(void) {
  volatile u8 *ioapic = map_physical(0xfec00000, 4096);
  for (u32 i = 0; i < 2000; i++) {
    u32 index = (u32)random_next() & 0xff;
    if (i % 5 == 0) index = (u32)random_next();
    write32(ioapic, index);
    read32(ioapic + 0x10);
    /* Redirection entries get garbage that stays masked (bit 16). */
    write32(ioapic + 0x10, (u32)random_next() | 0x10000);
    read8(ioapic + random_next() % 0x20);
    read64(ioapic + random_next() % 0x18);
    write8(ioapic + 1 + random_next() % 8, 0xff);
    write16(ioapic + 0x11 + random_next() % 8, 0);
    write32(ioapic + 0x20 + random_next() % 0x40, ~0u); /* EOI register at 0x40 */
  }
  for (u32 pin = 0; pin < 24; pin++) {
    write32(ioapic, 0x10 + pin * 2);
    write32(ioapic + 0x10, 0x10000);
  }
  ok("ioapic");
  u64 ged = acpi_region(option("region", "GDST"));
  if (ged != 0) {
    volatile u8 *page = map_physical(ged & ~0xffful, 4096);
    for (u32 offset = 0; offset < 4088; offset += 8) {
      read64(page + offset);
      read32(page + offset + 1);
      write64(page + offset, ~0ul);
      write8(page + offset + 3, 0xff);
    }
    ok("ged");
  }
  /* CMOS: every index but the one that resets; String input and output of great length. */
  for (u32 index = 0; index < 256; index++) {
    if (index == 0x8f || index == 0x0f) continue;
    out8(0x70, (u8)index);
    in8(0x71);
    out8(0x71, (u8)random_next());
    in16(0x70);
  }
  out8(0x70, 0);
  ok("cmos");
}
PROGRAM("hostile-platform", platform);
