/**
 * ELF images that say where to enter them in 32-bit mode (XEN_ELFNOTE_PHYS32_ENTRY): PVH kernels and firmware.
 * Nothing in the file is trusted: counts are bounded, and offsets checked before they are added up or followed.
 */
import { getU64 } from '../bytes.ts';
import { PlatformError } from '../platformError.ts';
import { checkInside, type ImageFile } from './imageFile.ts';

interface ElfSegment {
  readonly address: number;
  readonly fileOffset: number;
  /** The first `fileSize` of `memorySize` bytes come from the file, the rest is zero. */
  readonly fileSize: number;
  readonly memorySize: number;
}

export interface PvhElf {
  readonly entry: number;
  /** Only those that occupy memory. */
  readonly segments: readonly ElfSegment[];
  /** It has a note of Linux, as every Linux since 4.19 has. */
  readonly isLinux: boolean;
}

/** `\x7fELF`, read as a little-endian word. */
const ELF_MAGIC = 0x464c_457f;
const EI_CLASS = 4;
const EI_DATA = 5;
const CLASS_32 = 1;
const CLASS_64 = 2;
const DATA_LITTLE_ENDIAN = 1;
const EM_386 = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;

/** Kernels have about five program headers and notes of a few hundred bytes. */
const PROGRAM_HEADERS_LIMIT = 128;
const NOTES_SIZE_LIMIT = 64 * 1024;

const NOTE_HEADER_SIZE = 12;
/** `Xen\0` as a little-endian word. */
const XEN_NAME = 0x006e_6558;
const XEN_NAME_SIZE = 4;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
/** `Linux\0` as a little-endian word and a half of one. */
const LINUX_NAME_START = 0x756e_694c;
const LINUX_NAME_END = 0x0078;
const LINUX_NAME_SIZE = 6;

interface ProgramHeader extends ElfSegment {
  readonly type: number;
  readonly align: number;
}

export function isElf(image: ImageFile): boolean {
  return image.size >= 4 && image.read(0, 4).getUint32(0, true) === ELF_MAGIC;
}

/**
 * Reads an ELF image's headers. Undefined if it is a sound image without a PVH entry.
 * @throws PlatformError `ERR_TSVMM_KERNEL_INVALID`
 */
export function parsePvhElf(image: ImageFile): PvhElf | undefined {
  const headers = readProgramHeaders(image);
  let entry: number | undefined;
  let isLinux = false;
  const segments: ElfSegment[] = [];
  for (const header of headers) {
    if (header.type === PT_NOTE) {
      const notes = readNotes(image, header, entry !== undefined);
      entry ??= notes.entry;
      isLinux ||= notes.isLinux;
    } else if (header.type === PT_LOAD && header.memorySize > 0) {
      checkSegment(image, header);
      segments.push(header);
    }
  }
  if (entry === undefined) {
    return undefined;
  }
  checkEntry(entry, segments);
  checkApart(segments);
  return { entry, segments, isLinux };
}

/** What is loaded then is never more than the memory that it goes to, however many segments there are. */
function checkApart(segments: readonly ElfSegment[]): void {
  const sorted = [...segments].sort((a, b) => a.address - b.address);
  let end = 0;
  for (const { address, memorySize } of sorted) {
    if (address < end) throw invalid('its segments overlap in memory');
    end = address + memorySize;
  }
}

function checkEntry(entry: number, segments: readonly ElfSegment[]): void {
  for (const { address, memorySize } of segments) {
    if (entry >= address && entry - address < memorySize) {
      return;
    }
  }
  throw invalid('its PVH entry point lies in none of its segments');
}

function readProgramHeaders(image: ImageFile): ProgramHeader[] {
  const is64 = readClass(image);
  const header = image.read(0, is64 ? 64 : 52);
  const machine = header.getUint16(18, true);
  if (machine !== EM_X86_64 && machine !== EM_386) {
    throw invalid(`it is built for another processor (ELF machine ${machine})`);
  }
  const tableOffset = is64 ? getU64(header, 32) : header.getUint32(28, true);
  const entrySize = header.getUint16(is64 ? 54 : 42, true);
  const count = header.getUint16(is64 ? 56 : 44, true);
  if (entrySize !== (is64 ? 56 : 32)) {
    throw invalid(`its program headers have an impossible size of ${entrySize} bytes`);
  }
  if (count === 0 || count > PROGRAM_HEADERS_LIMIT) {
    throw invalid(`it has ${count} program headers, of 1 to ${PROGRAM_HEADERS_LIMIT} that are possible`);
  }
  const table = image.read(tableOffset, count * entrySize);
  const headers: ProgramHeader[] = [];
  for (let i = 0; i < count; i++) {
    headers.push(is64 ? programHeader64(table, i * entrySize) : programHeader32(table, i * entrySize));
  }
  return headers;
}

function readClass(image: ImageFile): boolean {
  const ident = image.read(0, 16);
  const elfClass = ident.getUint8(EI_CLASS);
  if ((elfClass !== CLASS_32 && elfClass !== CLASS_64) || ident.getUint8(EI_DATA) !== DATA_LITTLE_ENDIAN) {
    throw invalid('it is neither a 32-bit nor a 64-bit little-endian ELF file');
  }
  return elfClass === CLASS_64;
}

function programHeader64(view: DataView, at: number): ProgramHeader {
  return {
    type: view.getUint32(at, true),
    fileOffset: getU64(view, at + 8),
    address: getU64(view, at + 24),
    fileSize: getU64(view, at + 32),
    memorySize: getU64(view, at + 40),
    align: getU64(view, at + 48),
  };
}

function programHeader32(view: DataView, at: number): ProgramHeader {
  return {
    type: view.getUint32(at, true),
    fileOffset: view.getUint32(at + 4, true),
    address: view.getUint32(at + 12, true),
    fileSize: view.getUint32(at + 16, true),
    memorySize: view.getUint32(at + 20, true),
    align: view.getUint32(at + 28, true),
  };
}

function checkSegment(image: ImageFile, segment: ElfSegment): void {
  checkInside(image.size, segment.fileOffset, segment.fileSize);
  if (segment.fileSize > segment.memorySize) {
    throw invalid('one of its segments has more bytes in the file than in memory');
  }
}

interface Notes {
  entry?: number;
  isLinux: boolean;
}

/**
 * Walks a note segment (ELF-64 §7); each note takes at least its header, so the walk ends.
 * @param hasEntry another segment has the entry: then nothing that is wrong here matters
 */
function readNotes(image: ImageFile, header: ProgramHeader, hasEntry: boolean): Notes {
  const notes: Notes = { isLinux: false };
  if (header.fileSize > NOTES_SIZE_LIMIT) {
    if (hasEntry) return notes;
    throw invalid(`its notes take ${header.fileSize} bytes, more than ${NOTES_SIZE_LIMIT}`);
  }
  const view = image.read(header.fileOffset, header.fileSize);
  // Notes of 8-byte aligned segments are padded to 8 bytes, all others to 4.
  const align = header.align === 8 ? 8 : 4;
  let at = 0;
  while (at + NOTE_HEADER_SIZE <= view.byteLength) {
    const nameSize = view.getUint32(at, true);
    const descriptionSize = view.getUint32(at + 4, true);
    const type = view.getUint32(at + 8, true);
    const name = at + NOTE_HEADER_SIZE;
    const description = padded(name + nameSize, align);
    if (description + descriptionSize > view.byteLength) {
      if (hasEntry || notes.entry !== undefined) return notes;
      throw invalid('one of its notes is longer than the segment that holds it');
    }
    const isXen = nameSize === XEN_NAME_SIZE && view.getUint32(name, true) === XEN_NAME;
    if (isXen && type === XEN_ELFNOTE_PHYS32_ENTRY) {
      notes.entry ??= readEntry(view, description, descriptionSize);
    }
    notes.isLinux ||= nameSize === LINUX_NAME_SIZE && isLinuxName(view, name);
    at = padded(description + descriptionSize, align);
  }
  return notes;
}

function isLinuxName(view: DataView, at: number): boolean {
  return view.getUint32(at, true) === LINUX_NAME_START && view.getUint16(at + 4, true) === LINUX_NAME_END;
}

/** Kernels of 64 bits write the entry with 8 bytes; the address has 32 bits all the same. */
function readEntry(view: DataView, at: number, size: number): number {
  if (size !== 4 && size !== 8) {
    throw invalid(`its PVH entry note holds ${size} bytes, which is no address`);
  }
  if (size === 8 && view.getUint32(at + 4, true) !== 0) {
    throw invalid('its PVH entry point lies above 4 GiB');
  }
  return view.getUint32(at, true);
}

/** Sums of two 32-bit values are exact in a number, unlike with bitwise operators. */
function padded(value: number, align: number): number {
  const rest = value % align;
  return rest === 0 ? value : value + align - rest;
}

function invalid(why: string): PlatformError {
  return new PlatformError('ERR_TSVMM_KERNEL_INVALID', `The kernel image is corrupt or unsuitable: ${why}`);
}
