/** Tells a Linux kernel from other payloads, for hosts on which Linux will not run. */
import type { NativeAddon } from '../native.ts';

/** Linux x86 boot protocol: "HdrS" at 0x202 of a bzImage. */
const SETUP_MAGIC_OFFSET = 0x202;
const SETUP_MAGIC = 0x5372_6448;
const ELF_MAGIC = 0x464c_457f;
const ELF_HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;
const MAX_PROGRAM_HEADERS = 64;
const PT_NOTE = 4;
const MAX_NOTES = 65_536;
/** Owner of the notes that every Linux since 4.19 carries, with its length and its terminating zero. */
const LINUX_OWNER = 'Linux\0';

/** True for a bzImage and for an ELF file with a note of Linux. Never throws for what the file holds. */
export function isLinuxImage(native: NativeAddon, fd: number): boolean {
  const head = native.readAt(fd, 0, SETUP_MAGIC_OFFSET + 4);
  const view = viewOf(head);
  if (head.length >= SETUP_MAGIC_OFFSET + 4 && view.getUint32(SETUP_MAGIC_OFFSET, true) === SETUP_MAGIC)
    return true;
  return (
    head.length >= ELF_HEADER_SIZE && view.getUint32(0, true) === ELF_MAGIC && hasLinuxNote(native, fd, view)
  );
}

function hasLinuxNote(native: NativeAddon, fd: number, header: DataView): boolean {
  const offset = Number(header.getBigUint64(32, true));
  const count = Math.min(header.getUint16(56, true), MAX_PROGRAM_HEADERS);
  if (header.getUint16(54, true) !== PROGRAM_HEADER_SIZE || !Number.isSafeInteger(offset)) return false;
  const table = viewOf(native.readAt(fd, offset, count * PROGRAM_HEADER_SIZE));
  for (let at = 0; at + PROGRAM_HEADER_SIZE <= table.byteLength; at += PROGRAM_HEADER_SIZE) {
    if (table.getUint32(at, true) !== PT_NOTE) continue;
    const start = Number(table.getBigUint64(at + 8, true));
    const length = Math.min(Number(table.getBigUint64(at + 32, true)), MAX_NOTES);
    if (Number.isSafeInteger(start) && holdsOwner(viewOf(native.readAt(fd, start, length)))) return true;
  }
  return false;
}

/** Walks the notes of a segment: name size, descriptor size, type, name and descriptor padded to 4 bytes. */
function holdsOwner(notes: DataView): boolean {
  for (let at = 0; at + 12 <= notes.byteLength; ) {
    const nameSize = notes.getUint32(at, true);
    const descriptorSize = notes.getUint32(at + 4, true);
    if (nameSize === LINUX_OWNER.length && startsWith(notes, at + 12, LINUX_OWNER)) return true;
    at += 12 + padded(nameSize) + padded(descriptorSize);
  }
  return false;
}

function padded(size: number): number {
  return Math.ceil(size / 4) * 4;
}

function startsWith(view: DataView, at: number, text: string): boolean {
  if (at + text.length > view.byteLength) return false;
  for (let i = 0; i < text.length; i++) {
    if (view.getUint8(at + i) !== text.charCodeAt(i)) return false;
  }
  return true;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
