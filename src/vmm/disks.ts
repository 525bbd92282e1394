/** Opening and locking disk images. */
import type { DiskConfig } from '../config/devices/disk.ts';
import { O_DIRECT, O_RDONLY, O_RDWR } from '../host/openFlags.ts';
import type { NativeAddon } from '../native.ts';
import type { DiskResource } from '../platform/plan.ts';
import { VmmError } from './errors.ts';

/** Somebody else has the lock, perhaps a process that was killed and is not quite gone. */
export class DiskInUse extends VmmError {}

/** Opening bytes by which formats other than raw are known (QCOW2, VHDX, VMDK). */
const formats: readonly (readonly [magic: string, name: string])[] = [
  ['QFI\xfb', 'qcow2'],
  ['vhdxfile', 'vhdx'],
  ['KDMV', 'vmdk'],
  ['# Disk DescriptorFile', 'vmdk'],
];
/** A fixed VHD is raw data with a footer of one sector. */
const VHD_COOKIE = 'conectix';
const SECTOR = 512;

/**
 * Opens an image as the configuration says and takes its lock: exclusive to write, shared to read. The lock lives as
 * long as any duplicate of the descriptor.
 * @throws VmmError if it cannot be opened, is locked by somebody else, or is in a format that is not supported yet
 */
export function openDisk(native: NativeAddon, disk: DiskConfig): DiskResource {
  const path = disk.path as string;
  const fd = openImage(native, disk, path);
  try {
    const size = native.imageSize(fd);
    const guessed = disk.image_type === 'Unknown';
    if (guessed) refuseOtherFormats(native, path, size);
    lock(native, fd, disk, size);
    return { layers: [{ fd, format: 'raw' }], protectSector0: guessed };
  } catch (error) {
    native.closeFile(fd);
    if (error instanceof VmmError) throw error;
    throw new VmmError(`Cannot use the disk ${path}`, { cause: error });
  }
}

function openImage(native: NativeAddon, disk: DiskConfig, path: string): number {
  const access = disk.readonly ? O_RDONLY : O_RDWR;
  try {
    return native.openFile(path, access | (disk.direct ? O_DIRECT : 0), 0);
  } catch (error) {
    throw new VmmError(`Cannot open disk path ${path}`, { cause: error });
  }
}

function lock(native: NativeAddon, fd: number, disk: DiskConfig, size: number): void {
  const length = disk.lock_granularity === 'ByteRange' ? size : 0;
  if (native.lockRange(fd, !disk.readonly, 0, length)) return;
  const access = disk.readonly ? 'reading' : 'writing';
  throw new DiskInUse(`Cannot lock the disk ${disk.path} for ${access}: another process uses it`);
}

/** Reads through a descriptor of its own: one with O_DIRECT would want aligned buffers. */
function refuseOtherFormats(native: NativeAddon, path: string, size: number): void {
  const fd = native.openFile(path, O_RDONLY, 0);
  try {
    const start = ascii(native.readAt(fd, 0, Math.min(SECTOR, size)));
    const found = formats.find(([magic]) => start.startsWith(magic))?.[1];
    const footer = size >= SECTOR ? ascii(native.readAt(fd, size - SECTOR, SECTOR)) : '';
    const format = found ?? (footer.startsWith(VHD_COOKIE) ? 'vhd' : undefined);
    if (format === undefined) return;
    throw new VmmError(`The disk ${path} is a ${format} image, which is not supported yet`, {
      kind: 'invalid',
    });
  } finally {
    native.closeFile(fd);
  }
}

function ascii(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < 32 && i < bytes.length; i++) text += String.fromCharCode(bytes[i] as number);
  return text;
}
