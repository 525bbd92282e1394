/** What a kernel entered by the PVH protocol finds (Xen's public/arch-x86/hvm/start_info.h, version 1). */
import { setU64 } from '../bytes.ts';
import type { E820Entry } from './e820.ts';
import {
  ACPI_ADDRESS,
  COMMAND_LINE_ADDRESS,
  PVH_MEMORY_MAP_ADDRESS,
  PVH_MODULES_ADDRESS,
  PVH_START_INFO_ADDRESS,
  type Range,
} from './memoryMap.ts';

const MAGIC = 0x336e_c578;
const VERSION = 1;
const MODULES_OFFSET = PVH_MODULES_ADDRESS - PVH_START_INFO_ADDRESS;
const MODULE_SIZE = 32;
const MEMORY_MAP_ENTRY_SIZE = 24;

/** Start info, and the module list at its place behind it: bytes for `PVH_START_INFO_ADDRESS`. */
export function buildStartInfo(memoryMapEntries: number, initramfs: Range | undefined): Uint8Array {
  const bytes = new Uint8Array(MODULES_OFFSET + MODULE_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, VERSION, true);
  setU64(view, 24, COMMAND_LINE_ADDRESS);
  setU64(view, 32, ACPI_ADDRESS);
  setU64(view, 40, PVH_MEMORY_MAP_ADDRESS);
  view.setUint32(48, memoryMapEntries, true);
  if (initramfs !== undefined) {
    view.setUint32(12, 1, true);
    setU64(view, 16, PVH_MODULES_ADDRESS);
    setU64(view, MODULES_OFFSET, initramfs.address);
    setU64(view, MODULES_OFFSET + 8, initramfs.size);
  }
  return bytes;
}

/** Bytes for `PVH_MEMORY_MAP_ADDRESS`. */
export function buildMemoryMap(entries: readonly E820Entry[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * MEMORY_MAP_ENTRY_SIZE);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const entry of entries) {
    setU64(view, at, entry.address);
    setU64(view, at + 8, entry.size);
    view.setUint32(at + 16, entry.type, true);
    at += MEMORY_MAP_ENTRY_SIZE;
  }
  return bytes;
}
