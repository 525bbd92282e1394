/** Opening and locking disk images. Loaded only for VMs that have a disk. */
import { Descriptor } from '../../boundary/cbor.ts';
import { SECTOR_SIZE } from '../../config/units.ts';
import type { ImageFormat, ImageLayer, NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { FileInUse, openImage, reopenForReading } from '../../vmm/namedFiles.ts';
import type { DiskConfig, DiskResource } from '../disk.ts';
import type { OpenContext } from '../record.ts';
import { checkFormat, detectContent, LUKS, supportedFormat } from './imageFormat.ts';
import { lockToRead, lockToWrite } from './imageLock.ts';

/** What opening an image needs. */
export type DiskContext = Pick<OpenContext, 'native' | 'opened' | 'guessedFormats' | 'filesAnswer' | 'warn'>;

/** What layers of an image have in common: which other processes may use it at the same time. */
export interface LockOptions {
  readonly exclusive: boolean;
  readonly granularity: DiskConfig['lock_granularity'];
}

/**
 * Opens an image as the configuration says, with the images that it is an overlay of, and takes their locks: exclusive
 * to write, shared to read. A lock lives as long as any duplicate of the descriptor.
 * @throws VmmError if something cannot be opened, is locked by another process, or is in a format that is not supported
 */
export async function openDisk(context: DiskContext, disk: DiskConfig): Promise<DiskResource> {
  const path = disk.path as string;
  const fd = await openLayer(context, path, { write: !disk.readonly, direct: disk.direct });
  try {
    lock(context.native, fd, path, { exclusive: !disk.readonly, granularity: disk.lock_granularity });
    const { format, guessed } = formatOf(context, disk, fd);
    if (format === 'raw') warnOfRest(context, path, fd);
    const layers: ImageLayer[] = [{ fd: new Descriptor(fd), format }];
    if (format === 'qcow2') {
      const { openBackingChain } = await import('./backingChain.ts');
      layers.push(...(await openBackingChain(context, disk, fd, guessed)));
    }
    // What a qcow2 or VHDX image is does not depend on what the guest writes to it.
    const guarded = guessed && !disk.readonly && (format === 'raw' || format === 'vhd');
    return { layers, protectSector0: guarded };
  } catch (error) {
    if (error instanceof VmmError) throw error;
    throw new VmmError(`Cannot use the disk ${path}`, { cause: error });
  }
}

/** Opens one file of an image. */
export async function openLayer(
  context: DiskContext,
  path: string,
  access: { readonly write: boolean; readonly direct: boolean },
): Promise<number> {
  await context.filesAnswer([path]);
  try {
    const fd = openImage(context.native, path, access);
    context.opened.push(fd);
    return fd;
  } catch (error) {
    const direct = access.direct && (error as { code?: string }).code === 'EINVAL';
    const advice = direct ? ': its file system has no direct I/O, leave direct=on out' : '';
    throw new VmmError(`Cannot open disk path ${path}${advice}`, { cause: error });
  }
}

/** @throws FileInUse */
export function lock(native: NativeAddon, fd: number, path: string, options: LockOptions): void {
  const locked = options.exclusive
    ? lockToWrite(native, fd, options.granularity === 'Full')
    : lockToRead(native, fd);
  if (locked) return;
  const access = options.exclusive ? 'writing' : 'reading';
  throw new FileInUse(
    `Cannot lock the disk ${path} for ${access}: another process, or another disk of this VM, uses it`,
  );
}

/** The image's format: given, guessed before, or guessed now. */
function formatOf(
  context: DiskContext,
  disk: DiskConfig,
  fd: number,
): { readonly format: ImageFormat; readonly guessed: boolean } {
  const path = disk.path as string;
  const known = context.guessedFormats().get(disk);
  if (known !== undefined) return { format: known, guessed: true };
  const content = contentOf(context.native, disk, fd);
  if (disk.image_type !== 'Unknown') {
    if (disk.image_type === 'Raw' && content !== 'raw' && content !== LUKS) {
      context.warn(`The disk ${path} is used as raw, as image_type says, but looks like a ${content} image`);
    }
    return { format: checkFormat(disk.image_type, content, path), guessed: false };
  }
  const format = supportedFormat(content, path);
  context.guessedFormats().set(disk, format);
  warnOfGuess(context, disk, format);
  return { format, guessed: true };
}

/** Reads through a descriptor of its own where O_DIRECT would want aligned buffers. */
function contentOf(native: NativeAddon, disk: DiskConfig, fd: number): string {
  const size = native.imageSize(fd);
  if (!disk.direct) return detectContent(native, fd, size);
  const reader = reopenForReading(native, fd);
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
