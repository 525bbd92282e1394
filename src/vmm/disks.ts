/** Opening and locking disk images, and changing their sizes. */
import type { DiskConfig } from '../config/devices/disk.ts';
import { isMultiple, type Uint64 } from '../config/uint64.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { ImageFormat, ImageLayer, MachineHandle, NativeAddon } from '../native.ts';
import type { DiskResource } from '../platform/plan.ts';
import { VmmError } from './errors.ts';
import { checkFormat, detectContent, LUKS, supportedFormat } from './imageFormat.ts';
import { lockToRead, lockToWrite } from './imageLock.ts';
import { FileInUse, openImage, reopenForReading } from './namedFiles.ts';

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

/**
 * The disks of a VM that runs. They stay open over its reboots: a lock is let go with the last descriptor, and somebody
 * else could take it between two machines.
 */
export class HeldDisks {
  private disks: readonly DiskResource[] | undefined;
  private opened: number[] = [];

  /** Opens and locks all of them, unless that was done before. @throws VmmError as openDisk, with nothing left open */
  async open(
    context: Omit<DiskContext, 'opened'>,
    configs: readonly DiskConfig[],
  ): Promise<readonly DiskResource[]> {
    if (this.disks) return this.disks;
    const disks: DiskResource[] = [];
    try {
      for (const disk of configs) disks.push(await openDisk({ ...context, opened: this.opened }, disk));
    } catch (error) {
      this.close(context.native);
      throw error;
    }
    this.disks = disks;
    return disks;
  }

  get descriptors(): readonly number[] {
    return this.opened;
  }

  close(native: NativeAddon): void {
    this.disks = undefined;
    for (const fd of this.opened.splice(0)) native.closeFile(fd);
  }
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
  const fd = openLayer(context, path, { write: !disk.readonly, direct: disk.direct });
  try {
    lock(context.native, fd, path, { exclusive: !disk.readonly, granularity: disk.lock_granularity });
    const { format, guessed } = formatOf(context, disk, fd);
    if (format === 'raw') warnOfRest(context, path, fd);
    const layers: ImageLayer[] = [{ fd, format }];
    if (format === 'qcow2') {
      const { openBackingChain } = await import('./backingChain.ts');
      layers.push(...openBackingChain(context, disk, fd, guessed));
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
export function openLayer(
  context: DiskContext,
  path: string,
  access: { readonly write: boolean; readonly direct: boolean },
): number {
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
  throw new FileInUse(`Cannot lock the disk ${path} for ${access}: another process uses it`);
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

/**
 * Gives a disk of a machine another size in bytes.
 * @throws VmmError `missing` if there is no such disk; Error if it cannot have that size
 */
export async function resizeDisk(
  native: Pick<NativeAddon, 'machineResizeDisk'>,
  machine: MachineHandle,
  config: VmConfig | undefined,
  id: string,
  bytes: Uint64,
): Promise<void> {
  if (!config?.disks?.some((disk) => disk.id === id)) {
    throw new VmmError(`There is no disk with id "${id}"`, { kind: 'missing' });
  }
  if (bytes === 0 || !isMultiple(bytes, SECTOR_SIZE)) {
    throw new VmmError(`The size ${bytes} is not a positive multiple of ${SECTOR_SIZE} bytes`, {
      code: 'ERR_TSVMM_CONFIG',
    });
  }
  if (typeof bytes === 'bigint') {
    throw new VmmError(`The size ${bytes} is more than any image can have`, { code: 'ERR_TSVMM_CONFIG' });
  }
  await native.machineResizeDisk(machine, id, bytes);
}
