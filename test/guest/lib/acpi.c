/* ACPI tables by signature, and one named operation region of the DSDT without an AML interpreter.
 */
#include "guest.h"
#include "pvh.h"

static u8 sum(const u8 *bytes, size_t size) {
  u8 total = 0;
  for (size_t i = 0; i < size; i++) total = (u8)(total + bytes[i]);
  return total;
}

static u64 scan(u64 from, u64 to) {
  for (u64 at = from; at < to; at += 16) {
    if (memcmp((void *)at, "RSD PTR ", 8) == 0 && sum((void *)at, 20) == 0) return at;
  }
  return 0;
}

u64 rsdp_address(void) {
  if (pvh_start_info()->rsdp != 0) return pvh_start_info()->rsdp;
  return scan(0x9f000, 0x100000); /* ACPI 6.5 §5.2.5.1: the EBDA and the BIOS area */
}

const struct acpi_header *acpi_table(const char *signature, u32 nth) {
  u64 rsdp = rsdp_address();
  if (rsdp == 0) return NULL;
  u64 xsdt_address;
  memcpy(&xsdt_address, (u8 *)rsdp + 24, 8);
  bool wide = ((u8 *)rsdp)[15] >= 2 && xsdt_address != 0;
  if (!wide) {
    u32 rsdt_address;
    memcpy(&rsdt_address, (u8 *)rsdp + 16, 4);
    xsdt_address = rsdt_address;
  }
  const struct acpi_header *root = map_physical(xsdt_address, 4096);
  if (memcmp(signature, root->signature, 4) == 0) return root;
  u32 size = wide ? 8 : 4;
  for (u32 at = sizeof(*root); at + size <= root->length; at += size) {
    u64 address = 0;
    memcpy(&address, (const u8 *)root + at, size);
    const struct acpi_header *table = map_physical(address, 4096);
    if (memcmp(table->signature, signature, 4) == 0 && nth-- == 0) return table;
  }
  if (memcmp(signature, "DSDT", 4) != 0) return NULL;
  const struct acpi_header *fadt = acpi_table("FACP", 0);
  u64 dsdt = 0;
  if (fadt == NULL || fadt->length < 148) return NULL;
  memcpy(&dsdt, (const u8 *)fadt + 140, 8);
  if (dsdt == 0) memcpy(&dsdt, (const u8 *)fadt + 40, 4);
  return map_physical(dsdt, 65536);
}

/* ACPI 6.5 §20.2.5.2 DefOpRegion: 5B 80 name space offset length. */
static u64 region_in(const struct acpi_header *table, const char *name) {
  const u8 *end = (const u8 *)table + table->length;
  for (const u8 *at = (const u8 *)(table + 1); at + 16 < end; at++) {
    if (at[0] != 0x5b || at[1] != 0x80 || memcmp(at + 2, name, 4) != 0 || at[6] != 0) continue;
    u64 address = 0;
    if (at[7] == 0x0e) memcpy(&address, at + 8, 8); /* QWordPrefix */
    if (at[7] == 0x0c) memcpy(&address, at + 8, 4); /* DWordPrefix */
    return address;
  }
  return 0;
}

u64 acpi_region(const char *name) {
  const struct acpi_header *table = acpi_table("DSDT", 0);
  u64 address = table == NULL ? 0 : region_in(table, name);
  for (u32 nth = 0; address == 0 && (table = acpi_table("SSDT", nth)) != NULL; nth++) {
    address = region_in(table, name);
  }
  return address;
}
