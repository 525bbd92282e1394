/** Opening and locking disk images. */
import type { DiskConfig } from '../config/devices/disk.ts';
import { O_DIRECT, O_RDONLY, O_RDWR } from '../host/openFlags.ts';
import type { ImageFormat, ImageLayer, NativeAddon } from '../native.ts';
import type { DiskResource } from '../platform/plan.ts';
import { VmmError } from './errors.ts';
import { checkFormat, detectContent, LUKS, supportedFormat } from './imageFormat.ts';
import { lockToRead, lockToWrite } from './imageLock.ts';

/** Somebody else has the lock, perhaps a process that was killed and is not quite gone. */
export class DiskInUse extends VmmError {}

/** What disks count in (virtio 1.2 §5.2.4). */
const SECTOR_SIZE = 512;

export interface DiskContext {
  readonly native: NativeAddon;
  /** Hears what a person should know. */
  readonly warn: (message: string) => void;
  /**
   * Formats that were guessed, for as long as the configuration lives: a guest that makes its disk look like another
   * format gets what it had when it starts anew.
   */
  readonly guessedFormats: WeakMap<DiskConfig, ImageFormat>;
  /** Every descriptor that is opened, for the caller to close, also after a failure. */
  readonly opened: number[];
}

/** What layers of an image have in common: who is to be able to use it at the same time. */
export interface LockOptions {
  readonly exclusive: boolean;
  readonly granularity: DiskConfig['lock_granularity'];
}

/**
 * Opens an image as the configuration says, with the images that it is an overlay of, and takes their locks: exclusive
 * to write, shared to read. A lock lives as long as any duplicate of the descriptor.
 * @throws VmmError if something cannot be opened, is locked by somebody else, or is in a format that is not supported
 */
export async function openDisk(context: DiskContext, disk: DiskConfig): Promise<DiskResource> {
  const path = disk.path as string;
  const fd = openImage(context, path, disk);
  try {
    lock(context.native, fd, path, { exclusive: !disk.readonly, granularity: disk.lock_granularity });
    const { format, guessed } = formatOf(context, disk, fd);
    if (format === 'raw') warnOfRest(context, path, fd);
    const layers: ImageLayer[] = [{ fd, format }];
    if (format === 'qcow2') {
      const { openBackingChain } = await import('./backingChain.ts');
      layers.push(...openBackingChain(context, disk, guessed));
    }
    // What a qcow2 or VHDX image is does not depend on what the guest writes to it.
    const guarded = guessed && !disk.readonly && (format === 'raw' || format === 'vhd');
    return { layers, protectSector0: guarded };
  } catch (error) {
    if (error instanceof VmmError) throw error;
    throw new VmmError(`Cannot use the disk ${path}`, { cause: error });
  }
}

function openImage(context: DiskContext, path: string, disk: DiskConfig): number {
  const access = disk.readonly ? O_RDONLY : O_RDWR;
  return openFile(context, path, access | (disk.direct ? O_DIRECT : 0));
}

/** Opens one file of an image. Not with O_NONBLOCK: io_uring would give up where it ought to wait. */
export function openFile(context: DiskContext, path: string, flags: number): number {
  try {
    const fd = context.native.openFile(path, flags, 0);
    context.opened.push(fd);
    return fd;
  } catch (error) {
    const direct = (flags & O_DIRECT) !== 0 && (error as { code?: string }).code === 'EINVAL';
    const advice = direct ? ': its file system has no direct I/O, leave direct=on out' : '';
    throw new VmmError(`Cannot open disk path ${path}${advice}`, { cause: error });
  }
}

/** @throws DiskInUse */
export function lock(native: NativeAddon, fd: number, path: string, options: LockOptions): void {
  const locked = options.exclusive
    ? lockToWrite(native, fd, options.granularity === 'Full')
    : lockToRead(native, fd);
  if (locked) return;
  const access = options.exclusive ? 'writing' : 'reading';
  throw new DiskInUse(`Cannot lock the disk ${path} for ${access}: another process uses it`);
}

/** The image's format: given, guessed before, or guessed now. */
function formatOf(
  context: DiskContext,
  disk: DiskConfig,
  fd: number,
): { readonly format: ImageFormat; readonly guessed: boolean } {
  const path = disk.path as string;
  const known = context.guessedFormats.get(disk);
  if (known !== undefined) return { format: known, guessed: true };
  const content = contentOf(context.native, disk, fd);
  if (disk.image_type !== 'Unknown') {
    if (disk.image_type === 'Raw' && content !== 'raw' && content !== LUKS) {
      context.warn(`The disk ${path} is used as raw, as image_type says, but looks like a ${content} image`);
    }
    return { format: checkFormat(disk.image_type, content, path), guessed: false };
  }
  const format = supportedFormat(content, path);
  context.guessedFormats.set(disk, format);
  warnOfGuess(context, disk, format);
  return { format, guessed: true };
}

/** Reads through a descriptor of its own where O_DIRECT would want aligned buffers. */
function contentOf(native: NativeAddon, disk: DiskConfig, fd: number): string {
  const size = native.imageSize(fd);
  if (!disk.direct) return detectContent(native, fd, size);
  const reader = native.openFile(disk.path as string, O_RDONLY, 0);
  try {
    return detectContent(native, reader, size);
  } finally {
    native.closeFile(reader);
  }
}

/** A disk has whole sectors. */
function warnOfRest({ native, warn }: DiskContext, path: string, fd: number): void {
  const size = native.imageSize(fd);
  const rest = size % SECTOR_SIZE;
  if (rest === 0) return;
  warn(
    `The disk ${path} has ${size} bytes, which is no multiple of ${SECTOR_SIZE}: ` +
      `its guest does not see the last ${rest} (truncate -s %${SECTOR_SIZE} makes it longer)`,
  );
}

function warnOfGuess({ warn }: DiskContext, disk: DiskConfig, format: ImageFormat): void {
  const found = `The image type of the disk ${disk.path} was detected as ${format}`;
  if (format === 'raw' || format === 'vhd') {
    if (disk.readonly) return;
    warn(`${found}: its guest cannot write to sector 0 unless image_type is given`);
  } else if (format === 'qcow2' && disk.backing_files) {
    warn(`${found}: backing_files is ignored unless image_type is given`);
  }
}
