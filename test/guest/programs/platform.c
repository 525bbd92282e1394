/* What the machine says of itself: memory, tables, clocks. */
#include "guest.h"
#include "pci.h"
#include "pvh.h"

#define PM_TIMER_PORT 0x608
#define PM_TIMER_HZ 3579545ul

static void memory(void) {
  u64 ram = 0, bad = 0;
  for (u32 i = 0; i < memory_map_count; i++) {
    const struct memory_region *r = &memory_map[i];
    print("memory 0x%lx size 0x%lx type %u\n", r->address, r->size, r->type);
    if (r->type != 1) continue;
    ram += r->size;
    /* The first and last page of each region and some between; below 16 MiB we live ourselves. */
    u64 from = MAX(r->address, 0x1000000ul), end = r->address + r->size;
    for (u64 at = from; at < end; at += MAX(ALIGN_UP(r->size / 64, 4096), 4096ul)) {
      volatile u64 *word = map_physical(at, 8);
      *word = at ^ 0x5555;
      if (*word != (at ^ 0x5555)) bad++;
    }
    if (end <= from) continue;
    volatile u64 *last = map_physical(end - 8, 8);
    *last = end;
    if (*last != end) bad++;
  }
  print("ram %lu\n", ram);
  check("memory", ram != 0 && bad == 0, "%lu pages differ", bad);
  const struct pvh_start *start = pvh_start_info();
  print("start-info magic 0x%x version %u modules %u\n", start->magic, start->version,
        start->modules);
  if (start->modules == 0) return;
  const struct pvh_module *module = (const void *)start->module_list;
  print("module 0x%lx size %lu\n", module->address, module->size);
  u32 sum = 0;
  for (u64 i = 0; i < module->size; i++) sum += ((const u8 *)module->address)[i];
  print("module sum %u\n", sum);
}
PROGRAM("memory", memory);

static bool checksum_good(const struct acpi_header *table) {
  u8 total = 0;
  for (u32 i = 0; i < table->length; i++) total = (u8)(total + ((const u8 *)table)[i]);
  return total == 0;
}

static void acpi(void) {
  static const char *const needed[] = {"XSDT", "FACP", "APIC", "MCFG", "DSDT"};
  print("rsdp 0x%lx\n", rsdp_address());
  for (u32 i = 0; i < ARRAY_SIZE(needed); i++) {
    const struct acpi_header *table = acpi_table(needed[i], 0);
    if (!check(needed[i], table != NULL, "missing")) continue;
    check(needed[i], checksum_good(table), "checksum of %u bytes", table->length);
  }
}
PROGRAM("acpi", acpi);

static void pci(void) {
  u32 count = 0;
  print("ecam 0x%lx\n", pci_ecam());
  for (u32 slot = 0; slot < PCI_SLOTS; slot++) {
    if (pci_id(slot) == ~0u) continue;
    count++;
    volatile u8 *config = pci_config(slot);
    print("slot %02u id %08x class %06x bar0 0x%lx size 0x%lx %s\n", slot, pci_id(slot),
          read32(config + 8) >> 8, pci_bar(slot, 0), pci_bar_size(slot, 0),
          pci_bar_is_64(slot, 0) ? "64" : "32");
    /* The same by ports, PCI mechanism 1. */
    out32(0xcf8, 0x80000000u | slot << 11);
    u32 id = in32(0xcfc);
    check("pci-port", id == pci_id(slot), "slot %u: 0x%x", slot, id);
  }
  check("pci", count != 0, "empty bus");
}
PROGRAM("pci", pci);

static u8 cmos(u8 index) {
  out8(0x70, index);
  return in8(0x71);
}

static void clocks(void) {
  u32 first = in32(PM_TIMER_PORT);
  delay_us(20000);
  u64 ticks = (u32)(in32(PM_TIMER_PORT) - first);
  u64 expected = PM_TIMER_HZ * 20 / 1000;
  check("pm-timer", ticks > expected * 9 / 10 && ticks < expected * 3, "%lu ticks in 20 ms", ticks);
  print("rtc %02x-%02x-%02x %02x:%02x:%02x century %02x\n", cmos(9), cmos(8), cmos(7), cmos(4),
        cmos(2), cmos(0), cmos(0x32));
  u64 below = (u64)(cmos(0x35) << 8 | cmos(0x34)) * 65536 + 0x1000000;
  u64 above = (u64)(cmos(0x5d) << 16 | cmos(0x5c) << 8 | cmos(0x5b)) * 65536;
  print("cmos below %lu above %lu\n", below, above);
  ok("clocks");
}
PROGRAM("clocks", clocks);

/* Bytes for the firmware's debug ports. */
static void debug_ports(void) {
  out8(0x80, 0x42);
  for (const char *s = "debug 402\n"; *s != 0; s++) out8(0x402, (u8)*s);
  for (const char *s = "debug e9\n"; *s != 0; s++) out8(0xe9, (u8)*s);
  check("debug-402", in8(0x402) == 0xe9, "0x%x", in8(0x402));
}
PROGRAM("debug-ports", debug_ports);

static void identity(void) {
  struct cpuid_result base = cpuid(0, 0), one = cpuid(1, 0), kvm = cpuid(0x40000000, 0);
  char vendor[13] = {0}, hypervisor[13] = {0};
  memcpy(vendor, &base.ebx, 4);
  memcpy(vendor + 4, &base.edx, 4);
  memcpy(vendor + 8, &base.ecx, 4);
  memcpy(hypervisor, &kvm.ebx, 12);
  print("vendor %s hypervisor %s phys-bits %u\n", vendor, hypervisor,
        cpuid(0x80000008, 0).eax & 0xff);
  check("cpuid-hypervisor", (one.ecx >> 31 & 1) == 1, "ecx 0x%x", one.ecx);
  check("cpuid-tsc-deadline", (one.ecx >> 24 & 1) == 1, "ecx 0x%x", one.ecx);
  check("cpuid-mtrr", (one.edx >> 12 & 1) == 1, "edx 0x%x", one.edx);
}
PROGRAM("cpuid", identity);
