/** Telling image formats apart by their content. */

import { SECTOR_SIZE } from '../../config/units.ts';
import type { ImageFormat, NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import type { DiskConfig } from '../disk.ts';

/** What a configuration calls the formats; the rest of its image types is not supported. */
const configured: Readonly<Partial<Record<DiskConfig['image_type'], ImageFormat>>> = {
  Raw: 'raw',
  Qcow2: 'qcow2',
  FixedVhd: 'vhd',
  Vhdx: 'vhdx',
};

/** An encrypted disk: one of the host's, or what a guest has made of its own. */
export const LUKS = 'LUKS';

/** Opening bytes. A dynamic VHD begins with a copy of its footer, a fixed one with data. */
const magics: readonly (readonly [magic: string, format: string])[] = [
  ['QFI\xfb', 'qcow2'],
  ['vhdxfile', 'vhdx'],
  ['conectix', 'dynamic vhd'],
  ['KDMV', 'vmdk'],
  ['# Disk DescriptorFile', 'vmdk'],
  ['QED\0', 'QED'],
  ['WithoutFreeSpace', 'Parallels'],
  ['WithouFreSpacExt', 'Parallels'],
  ['LUKS\xba\xbe', LUKS],
];
/** VirtualBox's VDI has its magic behind a line of text. */
const VDI_MAGIC = '\x7f\x10\xda\xbe';
const VDI_MAGIC_OFFSET = 64;
const MAGIC_BYTES = VDI_MAGIC_OFFSET + VDI_MAGIC.length;
/** VHD specification, "Hard Disk Footer Format": the last sector. */
const VHD_COOKIE = 'conectix';
const VHD_DISK_TYPE_OFFSET = 60;
const VHD_FIXED = 2;

/**
 * The format that `type` asks for, after a look at whether the content agrees. Raw agrees with everything: a guest
 * may write what it likes to its disk.
 * @throws VmmError if it does not, or nothing here reads the format
 */
export function checkFormat(
  type: Exclude<DiskConfig['image_type'], 'Unknown'>,
  content: string,
  path: string,
): ImageFormat {
  const format = configured[type];
  if (format === undefined) throw unsupported(path, 'vmdk');
  if (format === 'raw' || content === format) return format;
  const found = content === 'raw' ? 'shows no sign of it' : `is a ${content} image`;
  throw new VmmError(`The disk ${path} was given as a ${format} image, but ${found}`);
}

/** @throws VmmError if nothing here reads the format */
export function supportedFormat(content: string, path: string): ImageFormat {
  const format = Object.values(configured).find((name) => name === content);
  if (format === undefined) throw unsupported(path, content);
  return format;
}

function unsupported(path: string, format: string): VmmError {
  const advice =
    format === LUKS
      ? 'open it on the host (cryptsetup), or give image_type=raw if it is the guest that encrypts it'
      : 'convert it, as by "qemu-img convert -O qcow2"';
  return new VmmError(`The disk ${path} is a ${format} image, which is not supported: ${advice}`, {
    code: 'ERR_TSVMM_IMAGE_FORMAT',
  });
}

/** What an image looks like: a format's name, `raw` for what looks like nothing else. */
export function detectContent(native: NativeAddon, fd: number, size: number): string {
  const start = latin1(native.readAt(fd, 0, Math.min(SECTOR_SIZE, size)));
  const found = magics.find(([magic]) => start.startsWith(magic));
  if (found !== undefined) return found[1];
  if (start.startsWith(VDI_MAGIC, VDI_MAGIC_OFFSET)) return 'VDI';
  // A footer is the last of whole sectors; elsewhere a guest of a raw image could write one unnoticed.
  if (size < 2 * SECTOR_SIZE || size % SECTOR_SIZE !== 0) return 'raw';
  const footer = native.readAt(fd, size - SECTOR_SIZE, SECTOR_SIZE);
  if (!latin1(footer).startsWith(VHD_COOKIE)) return 'raw';
  return footer[VHD_DISK_TYPE_OFFSET + 3] === VHD_FIXED ? 'vhd' : 'dynamic vhd';
}

/** The first bytes as text, as many as there are magics in. */
function latin1(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < MAGIC_BYTES && i < bytes.length; i++) text += String.fromCharCode(bytes[i] as number);
  return text;
}
