/**
 * Locks of images that QEMU's tools understand as well. QEMU (docs/system/images, "Image locking"; block/file-posix.c)
 * has a byte for each permission that a process uses, and one for each that a process denies to others; all are
 * read-locked, and a process that opens the image checks those that conflict. A writer here has all of the file
 * exclusively, which excludes them as well.
 */
import type { NativeAddon } from '../../native.ts';

type Locks = Pick<NativeAddon, 'lockRange' | 'lockHolder' | 'imageSize'>;

const USED = 100;
const NOT_SHARED = 200;
/** Behind the last byte that means something. */
const END = 300;
/** QEMU's permissions: to read something consistent, to write, to change the size. */
const READ = 0;
const WRITE = 1;
const RESIZE = 3;

/**
 * Takes the lock to write: `whole` reaches beyond any end, otherwise over the bytes that are there. False if it is in
 * use.
 */
export function lockToWrite(native: Locks, fd: number, whole: boolean): boolean {
  return native.lockRange(fd, true, 0, whole ? 0 : Math.max(native.imageSize(fd), END));
}

/** Takes the lock to read, which several processes may have. False if one may write. */
export function lockToRead(native: Locks, fd: number): boolean {
  const ours = [USED + READ, NOT_SHARED + WRITE, NOT_SHARED + RESIZE];
  if (!ours.every((byte) => native.lockRange(fd, false, byte, 1))) return false;
  return ![USED + WRITE, USED + RESIZE, NOT_SHARED + READ].some((byte) => isTaken(native, fd, byte));
}

/** A read lock that begins before the bytes that mean something is that of a whole file, by another reader of ours. */
function isTaken(native: Locks, fd: number, byte: number): boolean {
  const holder = native.lockHolder(fd, byte, 1);
  return holder !== null && (holder.exclusive || holder.start >= USED);
}
