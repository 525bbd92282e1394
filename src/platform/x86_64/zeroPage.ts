/** The boot parameters of Linux' 32-bit boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst). */

import { PAGE_SIZE } from '../../config/units.ts';
import { setU64 } from '../bytes.ts';
import type { E820Entry } from './e820.ts';
import { ACPI_ADDRESS, COMMAND_LINE_ADDRESS, type Range } from './memoryMap.ts';

/** Where the setup header lies, in the file as well as here. */
export const SETUP_HEADER_OFFSET = 0x1f1;

const ACPI_RSDP_ADDR = 0x070;
const E820_ENTRIES = 0x1e8;
const TYPE_OF_LOADER = 0x210;
const RAMDISK_IMAGE = 0x218;
const RAMDISK_SIZE = 0x21c;
const CMD_LINE_PTR = 0x228;
const E820_TABLE = 0x2d0;
const E820_ENTRY_SIZE = 20;

/** A loader without an assigned number. */
const LOADER_UNDEFINED = 0xff;

/**
 * Builds the page. `setupHeader` is the file's, from `SETUP_HEADER_OFFSET` on and of the length that it tells; it
 * ends before the e820 table.
 */
export function buildZeroPage(
  setupHeader: Uint8Array,
  e820: readonly E820Entry[],
  initramfs: Range | undefined,
): Uint8Array {
  const bytes = new Uint8Array(PAGE_SIZE);
  const view = new DataView(bytes.buffer);
  bytes.set(setupHeader, SETUP_HEADER_OFFSET);
  setU64(view, ACPI_RSDP_ADDR, ACPI_ADDRESS);
  view.setUint8(TYPE_OF_LOADER, LOADER_UNDEFINED);
  view.setUint32(RAMDISK_IMAGE, initramfs?.address ?? 0, true);
  view.setUint32(RAMDISK_SIZE, initramfs?.size ?? 0, true);
  view.setUint32(CMD_LINE_PTR, COMMAND_LINE_ADDRESS, true);
  view.setUint8(E820_ENTRIES, e820.length);
  let at = E820_TABLE;
  for (const entry of e820) {
    setU64(view, at, entry.address);
    setU64(view, at + 8, entry.size);
    view.setUint32(at + 16, entry.type, true);
    at += E820_ENTRY_SIZE;
  }
  return bytes;
}
