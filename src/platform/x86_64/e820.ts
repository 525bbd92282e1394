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
export const E820_RAM = 1;
export const E820_RESERVED = 2;

export interface E820Entry extends Range {
  readonly type: typeof E820_RAM | typeof E820_RESERVED;
}

/** Entries by ascending address. What they leave out is not RAM: the legacy hole is for tables. */
export function buildE820(map: MemoryMap): E820Entry[] {
  const entries: E820Entry[] = [
    { address: 0, size: LOW_RAM_END, type: E820_RAM },
    { address: HIGH_RAM_START, size: map.ramBelow4G - HIGH_RAM_START, type: E820_RAM },
    { address: ECAM_ADDRESS, size: ECAM_RESERVED_SIZE, type: E820_RESERVED },
  ];
  if (map.ramAbove4G > 0) {
    entries.push({ address: RAM_64BIT_START, size: map.ramAbove4G, type: E820_RAM });
  }
  return entries;
}
