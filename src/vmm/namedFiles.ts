/**
 * The one place that opens files by names from a configuration or a command line, with the rule for each use. Whatever
 * a name leads to, opening it does not block, truncates nothing and changes no controlling terminal
 * (`NativeAddon.openFile`).
 */
import {
  FileKind,
  O_APPEND,
  O_CREAT,
  O_DIRECT,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  O_WRONLY,
  PRIVATE_FILE,
} from '../host/openFlags.ts';
import type { NativeAddon } from '../native.ts';
import { VmmError } from './errors.ts';

type Opener = Pick<NativeAddon, 'openFile'>;

/** Another process has the lock, perhaps one that was killed and has not ended yet. */
export class FileInUse extends VmmError {}

/** What has bytes at offsets. */
const STORAGE = FileKind.regular | FileKind.block;
/** Random bytes come from devices, and in tests from files; a FIFO could keep its readers waiting. */
const ENTROPY = FileKind.regular | FileKind.character;
const OUTPUT = FileKind.regular | FileKind.character | FileKind.fifo;

/** A kernel, firmware or initramfs. */
export function openPayload(native: Opener, path: string): number {
  return native.openFile(path, O_RDONLY, 0, STORAGE);
}

/** A file that says what a VM is. */
export function openConfiguration(native: Opener, path: string): number {
  return native.openFile(path, O_RDONLY, 0, FileKind.regular);
}

/** One file of a disk image. */
export function openImage(
  native: Opener,
  path: string,
  { write, direct }: { readonly write: boolean; readonly direct: boolean },
): number {
  return native.openFile(path, (write ? O_RDWR : O_RDONLY) | (direct ? O_DIRECT : 0), 0, STORAGE);
}

/** A file behind persistent memory. */
export function openMemory(native: Opener, path: string, { write }: { readonly write: boolean }): number {
  return native.openFile(path, write ? O_RDWR : O_RDONLY, 0, STORAGE);
}

/** A file without a name in a folder. Throws with code ENOTDIR if the path is none of a folder. */
export function openTemporaryMemory(native: Opener, folder: string): number {
  return native.openFile(folder, O_RDWR | O_TMPFILE, PRIVATE_FILE, FileKind.regular);
}

export function openEntropySource(native: Opener, path: string): number {
  return native.openFile(path, O_RDONLY, 0, ENTROPY);
}

/**
 * A file that text is appended to; made, as the user's alone, if it is not there. Writing to it does not block either.
 */
export function openOutput(native: Opener, path: string, mode: number = PRIVATE_FILE): number {
  return native.openFile(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, mode, OUTPUT);
}

/**
 * As `openOutput`; but who reads a FIFO may come later, as libvirt's driver does, and finds in it what was written
 * until then, as far as it has room.
 */
export function openAwaitedOutput(native: Opener & Pick<NativeAddon, 'closeFile'>, path: string): number {
  try {
    return openOutput(native, path);
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ENXIO') throw error;
  }
  // While there is an end that could read as well, which Linux opens without anybody at the other (fifo(7)).
  const both = native.openFile(path, O_RDWR | O_NONBLOCK, 0, FileKind.fifo);
  try {
    return native.openFile(descriptorPath(both), O_WRONLY | O_NONBLOCK, 0, FileKind.fifo);
  } finally {
    native.closeFile(both);
  }
}

/** Another descriptor of an open file, for buffered reading. Its name may lead elsewhere by now. */
export function reopenForReading(native: Opener, fd: number): number {
  return native.openFile(descriptorPath(fd), O_RDONLY, 0, STORAGE);
}

/** A device of the host's kernel. */
export function openDevice(native: Opener, path: string): number {
  return native.openFile(path, O_RDWR, 0, FileKind.character);
}

function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}
