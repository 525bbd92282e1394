/**
 * The x86_64 physical address map: every guest address that the platform chooses is written here and nowhere else.
 * All values are bytes. Sums stay exact: a guest physical address has at most 52 bits.
 */

import { HOTPLUG_ALIGNMENT } from '../../config/memory.ts';
import { GIB, KIB, MIB } from '../../config/units.ts';
import { PlatformError } from '../platformError.ts';

// Boot data in low RAM.
export const GDT_ADDRESS = 0x500;
export const PVH_START_INFO_ADDRESS = 0x6000;
export const PVH_MODULES_ADDRESS = 0x6040;
/** The PVH memory map and Linux' zero page share a page: a machine boots by one protocol or the other. */
export const PVH_MEMORY_MAP_ADDRESS = 0x7000;
export const ZERO_PAGE_ADDRESS = 0x7000;
export const BOOT_STACK_ADDRESS = 0x8ff0;
export const COMMAND_LINE_ADDRESS = 0x20000;
/** Bytes for the command line, its terminating NUL included. */
export const COMMAND_LINE_CAPACITY = 64 * KIB;
/** Word in the BIOS data area that holds the segment of the EBDA. */
export const EBDA_POINTER_ADDRESS = 0x40e;

// The legacy hole: RAM underneath, but never reported as such.
export const LOW_RAM_END = 0xa0000;
export const ACPI_ADDRESS = 0xa0000;
/** The VM generation id, alone in its page. */
export const VM_GENERATION_ADDRESS = 0xef000;
export const SMBIOS_ADDRESS = 0xf0000;
export const HIGH_RAM_START = MIB;

// The hole below 4 GiB.
const RAM_HOLE_START = 3 * GIB;
/** Window for 32-bit BARs. */
export const PCI_WINDOW32: { readonly start: number; readonly size: number } = {
  start: 0xc000_0000,
  size: 640 * MIB,
};
export const ECAM_ADDRESS = 0xe800_0000;
/** What e820 keeps free for ECAM: 1 MiB for each of up to 256 segments. */
export const ECAM_RESERVED_SIZE = 256 * MIB;
/** ECAM of one segment, which has one bus. */
export const ECAM_SEGMENT_SIZE = MIB;
/** Below 4 GiB, where kernels without PAE can map it. */
export const GED_ADDRESS = 0xfe00_0000;
/** GED's register is one byte. */
export const GED_SIZE = 1;
/** The PCI hot-plug controller's registers. */
export const PCI_HOTPLUG_ADDRESS = 0xfe00_0010;
export const PCI_HOTPLUG_SIZE = 16;
/** The CPU hot-plug controller's registers. */
export const CPU_HOTPLUG_ADDRESS = 0xfe00_0020;
export const CPU_HOTPLUG_SIZE = 12;
/** The memory hot-plug controller's. */
export const MEMORY_HOTPLUG_ADDRESS = 0xfe00_0030;
export const MEMORY_HOTPLUG_SIZE = 24;
export const IOAPIC_ADDRESS = 0xfec0_0000;
export const LOCAL_APIC_ADDRESS = 0xfee0_0000;
export const RAM_64BIT_START = 4 * GIB;

// Ports and interrupt pins.
export const CMOS_PORT = 0x70;
/** Index of the register with the century. */
export const CMOS_CENTURY = 0x32;
export const SERIAL_PORT = 0x3f8;
export const SERIAL_GSI = 4;
export const CMOS_GSI = 8;
export const SCI_GSI = 9;
export const GED_GSI = 13;
export const SLEEP_RESET_PORT = 0x600;
export const PM_TIMER_PORT = 0x608;
/** PM1 event block; PM1 control at 0x610, general-purpose event block 0 at 0x614. */
export const ACPI_EVENTS_PORT = 0x60c;
export const DEFAULT_DEBUG_CONSOLE_PORT = 0xe9;

/** Left free at the very top of the address space: the reference has registers of its platform in the lower MiB. */
const TOP_RESERVED_SIZE = MIB + 64 * KIB;

/** Of what a guest is told at boot: the zero page has room for 128 entries. */
const MAX_RAM_RANGES = 64;

/** x86 has no more physical address bits than these (SDM vol. 3 §4.1.4). */
const PHYS_BITS_LIMIT = 52;

export interface Range {
  readonly address: number;
  readonly size: number;
}

/** What a memory zone needs of the address space. In bytes. */
export interface ZoneNeeds {
  readonly size: number;
  readonly pageSize: number;
  /** What a device may hand out later. */
  readonly hotplugSize: number;
}

/** Where a memory zone is. */
export interface ZonePlace {
  /** There at boot: one region, or two around the hole. */
  readonly ram: readonly Range[];
  /** No RAM at boot: of a device that hands it out. */
  readonly hotplug?: Range;
}

/** The part of the map that depends on the size of RAM and the width of addresses. */
export interface MemoryMap {
  readonly zones: readonly ZonePlace[];
  /** RAM at boot, whatever zones it is in: what is adjacent is one range. */
  readonly ram: readonly Range[];
  readonly ramBelow4G: number;
  readonly ramAbove4G: number;
  /** Address space for memory that ACPI adds, if there is to be any. */
  readonly growth?: Range;
  readonly physBits: number;
  /** Window for 64-bit BARs. */
  readonly window64: { readonly start: number; readonly size: number };
}

/** Guest physical address width in bits: the host's, up to the configured limit. */
export function guestPhysBits(hostPhysBits: number, maxPhysBits: number): number {
  return Math.min(hostPhysBits, maxPhysBits, PHYS_BITS_LIMIT);
}

/** `value` rounded down to a multiple of `alignment`, exact above 32 bits. */
export function alignDown(value: number, alignment: number): number {
  return value - (value % alignment);
}

/** `value` rounded up to a multiple of `alignment`, exact above 32 bits. */
export function alignUp(value: number, alignment: number): number {
  return alignDown(value + alignment - 1, alignment);
}

/**
 * Lays out zones in an address space of `physBits` bits, one behind the other; those of huge pages begin at multiples
 * of these.
 * @param growth bytes that ACPI may add
 * @throws PlatformError `ERR_TSVMM_MEMORY` if a zone is no multiple of its pages, or RAM has less than the legacy first
 * MiB, or does not fit.
 */
export function planMemory(zones: readonly ZoneNeeds[], physBits: number, growth = 0): MemoryMap {
  const boot = placeZones(zones);
  const ram = joinRanges(boot);
  const [low, last] = [ram[0] as Range, ram[ram.length - 1] as Range];
  if (low.size <= HIGH_RAM_START) {
    refuse(`Guest memory of ${low.size} bytes is too small: more than 1 MiB is needed`);
  }
  if (ram.length > MAX_RAM_RANGES) refuse(`Guest memory in ${ram.length} pieces is too scattered`);
  const above = Math.max(last.address + last.size, RAM_64BIT_START);
  const { places, end } = placeHotplug(zones, boot, alignUp(above, HOTPLUG_ALIGNMENT));
  // What is added is of the first zone's pages.
  const { pageSize } = zones[0] as ZoneNeeds;
  const room = growth > 0 && { address: alignUp(end, pageSize), size: alignUp(growth, pageSize) };
  const start = alignUp(room ? room.address + room.size : end, HOTPLUG_ALIGNMENT);
  const windowEnd = 2 ** physBits - TOP_RESERVED_SIZE;
  if (start >= windowEnd) {
    refuse(`Guest memory up to ${start} does not fit a physical address space of ${physBits} bits`);
  }
  let ramAbove4G = 0;
  for (const { address, size } of ram) if (address >= RAM_64BIT_START) ramAbove4G += size;
  return {
    zones: places,
    ram,
    ramBelow4G: low.size,
    ramAbove4G,
    ...(room && { growth: room }),
    physBits,
    window64: { start, size: windowEnd - start },
  };
}

/** What zones have at boot. */
function placeZones(zones: readonly ZoneNeeds[]): ZonePlace[] {
  let end = 0;
  const places: ZonePlace[] = [];
  for (const { size, pageSize } of zones) {
    if (size % pageSize !== 0) {
      refuse(`Guest memory of ${size} bytes is not a multiple of its page size of ${pageSize} bytes`);
    }
    const ram = placeZone(size, pageSize, end);
    const last = ram[ram.length - 1] as Range;
    end = last.address + last.size;
    places.push({ ram });
  }
  return places;
}

/** Puts what devices hand out behind `from`. @returns where it ends, too */
function placeHotplug(
  zones: readonly ZoneNeeds[],
  boot: readonly ZonePlace[],
  from: number,
): { readonly places: readonly ZonePlace[]; readonly end: number } {
  let end = from;
  const places = [...boot];
  for (let index = 0; index < places.length; index++) {
    const { hotplugSize: size, pageSize } = zones[index] as ZoneNeeds;
    if (size === 0) continue;
    const unit = Math.max(HOTPLUG_ALIGNMENT, pageSize);
    if (size % unit !== 0) refuse(`The hotplug_size ${size} is not a multiple of ${unit} bytes`);
    const address = alignUp(end, unit);
    end = address + size;
    places[index] = { ...(places[index] as ZonePlace), hotplug: { address, size } };
  }
  return { places, end };
}

/** Puts a zone behind `end`: below the hole as far as there is room for whole pages, and above it. */
function placeZone(size: number, pageSize: number, end: number): readonly Range[] {
  const start = alignUp(end, pageSize);
  const below = Math.min(size, alignDown(Math.max(RAM_HOLE_START - start, 0), pageSize));
  if (below === size) return [{ address: start, size }];
  const above = { address: alignUp(Math.max(end, RAM_64BIT_START), pageSize), size: size - below };
  return below === 0 ? [above] : [{ address: start, size: below }, above];
}

function joinRanges(places: readonly ZonePlace[]): readonly Range[] {
  const joined: { address: number; size: number }[] = [];
  for (const { ram } of places) {
    for (const { address, size } of ram) {
      const before = joined[joined.length - 1];
      if (before && before.address + before.size === address) before.size += size;
      else joined.push({ address, size });
    }
  }
  return joined;
}

function refuse(message: string): never {
  throw new PlatformError('ERR_TSVMM_MEMORY', message);
}

/** True if `[address, address + size)` lies wholly in one RAM region. Both must be non-negative safe integers. */
export function inRam(map: MemoryMap, address: number, size: number): boolean {
  for (const region of map.ram) {
    if (address >= region.address && size <= region.size && address - region.address <= region.size - size) {
      return true;
    }
  }
  return false;
}
