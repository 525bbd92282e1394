/** What the guest is told about its physical memory (ACPI 6.5 §15). */
import {
  ECAM_ADDRESS,
  ECAM_RESERVED_SIZE,
  HIGH_RAM_START,
  LOW_RAM_END,
  type MemoryMap,
  RAM_64BIT_START,
  type Range,
} from './memoryMap.ts';

/** Address range types; PVH uses the same numbers (ACPI 6.5 table 15.4). */
const E820_RAM = 1;
const E820_RESERVED = 2;

export interface E820Entry extends Range {
  readonly type: typeof E820_RAM | typeof E820_RESERVED;
}

/** Entries by ascending address. What they leave out is not RAM: the legacy hole is for tables. */
export function buildE820({ ram }: MemoryMap): E820Entry[] {
  const entries: E820Entry[] = [{ address: 0, size: LOW_RAM_END, type: E820_RAM }];
  for (const { address, size } of ram) {
    if (address >= RAM_64BIT_START) continue;
    const skipped = address === 0 ? HIGH_RAM_START : 0;
    entries.push({ address: address + skipped, size: size - skipped, type: E820_RAM });
  }
  entries.push({ address: ECAM_ADDRESS, size: ECAM_RESERVED_SIZE, type: E820_RESERVED });
  for (const { address, size } of ram) {
    if (address >= RAM_64BIT_START) entries.push({ address, size, type: E820_RAM });
  }
  return entries;
}
