/**
 * The setup header of a Linux bzImage (Documentation/arch/x86/boot.rst). The image is entered where its 32-bit code
 * starts and decompresses itself, so the compression does not matter here.
 */

import { SECTOR_SIZE } from '../../config/units.ts';
import { PlatformError } from '../platformError.ts';
import type { ImageFile } from './imageFile.ts';
import { alignUp } from './memoryMap.ts';
import { SETUP_HEADER_OFFSET } from './zeroPage.ts';

export interface BzImage {
  /** The file's header, from `SETUP_HEADER_OFFSET` on. */
  readonly setupHeader: Uint8Array;
  /** Where the protected-mode code goes, and is entered. */
  readonly codeAddress: number;
  readonly codeOffset: number;
  readonly codeSize: number;
  /** First address that decompressing and starting the kernel does not need. */
  readonly end: number;
  /** Highest address that the initramfs may occupy. */
  readonly initramfsMax: number;
  /** Longest command line in bytes, without the terminating NUL. */
  readonly commandLineMax: number;
}

const BOOT_FLAG = 0xaa55;
/** `HdrS`, read as a little-endian word. */
const HEADER_MAGIC = 0x5372_6448;
const DEFAULT_SETUP_SECTORS = 4;
/** Unit of the size that the header tells of the code. A signature may follow the code in the file. */
const PARAGRAPH = 16;

// Offsets in the file.
const SETUP_SECTS = 0x1f1;
const SYSSIZE = 0x1f4;
const BOOT_FLAG_OFFSET = 0x1fe;
const JUMP_LENGTH = 0x201;
const HEADER = 0x202;
const VERSION = 0x206;
const LOADFLAGS = 0x211;
const CODE32_START = 0x214;
const INITRD_ADDR_MAX = 0x22c;
const KERNEL_ALIGNMENT = 0x230;
const RELOCATABLE_KERNEL = 0x234;
const XLOADFLAGS = 0x236;
const CMDLINE_SIZE = 0x238;
const PREF_ADDRESS = 0x258;
const INIT_SIZE = 0x260;
/** The header ends no earlier than with the fields of protocol 2.10, and before the e820 table of the zero page. */
const HEADER_END_MIN = 0x264;
const HEADER_END_MAX = 0x290;

const LOADED_HIGH = 1 << 0;
const XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1;
/** Kernel 2.6.31; older ones do not tell how much memory they need. */
const PROTOCOL_MIN = 0x020a;

export function isBzImage(image: ImageFile): boolean {
  if (image.size < HEADER + 4) {
    return false;
  }
  const view = image.read(0, HEADER + 4);
  return (
    view.getUint16(BOOT_FLAG_OFFSET, true) === BOOT_FLAG && view.getUint32(HEADER, true) === HEADER_MAGIC
  );
}

/**
 * Reads the header of an image that `isBzImage` recognized.
 * @throws PlatformError `ERR_TSVMM_KERNEL_INVALID`
 */
export function parseBzImage(image: ImageFile): BzImage {
  const start = image.read(0, HEADER_END_MIN);
  const headerEnd = HEADER + start.getUint8(JUMP_LENGTH);
  const version = start.getUint16(VERSION, true);
  if (version < PROTOCOL_MIN) {
    throw invalid(`its boot protocol ${version >> 8}.${version & 0xff} is older than 2.10`);
  }
  if (headerEnd < HEADER_END_MIN || headerEnd > HEADER_END_MAX) {
    throw invalid(`its setup header has an impossible end at ${headerEnd}`);
  }
  if ((start.getUint8(LOADFLAGS) & LOADED_HIGH) === 0) {
    throw invalid('it is a zImage, which loads below 1 MiB');
  }
  const codeOffset = ((start.getUint8(SETUP_SECTS) || DEFAULT_SETUP_SECTORS) + 1) * SECTOR_SIZE;
  const codeSize = image.size - codeOffset;
  if (codeSize <= 0 || codeSize <= (start.getUint32(SYSSIZE, true) - 1) * PARAGRAPH) {
    throw invalid(`it is truncated at ${image.size} bytes, before its protected-mode code ends`);
  }
  const codeAddress = start.getUint32(CODE32_START, true);
  const header = image.read(SETUP_HEADER_OFFSET, headerEnd - SETUP_HEADER_OFFSET);
  return {
    setupHeader: new Uint8Array(header.buffer, header.byteOffset, header.byteLength),
    codeAddress,
    codeOffset,
    codeSize,
    end: Math.max(codeAddress + codeSize, runtimeEnd(start, codeAddress)),
    initramfsMax: initramfsMax(start),
    commandLineMax: start.getUint32(CMDLINE_SIZE, true),
  };
}

/** Where the memory ends that the kernel decompresses into: `init_size` from its runtime start address on. */
function runtimeEnd(header: DataView, codeAddress: number): number {
  // The preferred address has 64 bits, but one above 4 GiB cannot be reached from 32-bit code.
  if (header.getUint32(PREF_ADDRESS + 4, true) !== 0) {
    throw invalid('its preferred load address lies above 4 GiB');
  }
  const preferred = header.getUint32(PREF_ADDRESS, true);
  const initSize = header.getUint32(INIT_SIZE, true);
  if (header.getUint8(RELOCATABLE_KERNEL) === 0) {
    return preferred + initSize;
  }
  const alignment = Math.max(header.getUint32(KERNEL_ALIGNMENT, true), 1);
  return Math.max(alignUp(codeAddress, alignment), preferred) + initSize;
}

/** Kernels that may themselves be loaded anywhere also find their initramfs anywhere. */
function initramfsMax(header: DataView): number {
  const anywhere = (header.getUint16(XLOADFLAGS, true) & XLF_CAN_BE_LOADED_ABOVE_4G) !== 0;
  return anywhere ? Number.MAX_SAFE_INTEGER : header.getUint32(INITRD_ADDR_MAX, true);
}

function invalid(why: string): PlatformError {
  return new PlatformError('ERR_TSVMM_KERNEL_INVALID', `The kernel image is corrupt or unsuitable: ${why}`);
}
