/** Describes a file that was given as a kernel and is none. Loaded only then. */
import type { NativeAddon } from '../native.ts';
import { PlatformError } from '../platform/platformError.ts';
import { VmmError } from './errors.ts';

const HEAD_BYTES = 512;
/** Bytes as Latin-1 text, where they are, and what has them. */
const signatures: readonly (readonly [offset: number, magic: string, kind: string])[] = [
  [0, '\x7fELF', 'looks like an ELF image without a PVH entry (Linux has one with CONFIG_PVH)'],
  [0, '\x1f\x8b', 'is compressed by gzip: decompress it first'],
  [0, '\x28\xb5\x2f\xfd', 'is compressed by zstd: decompress it first'],
  [0, '\xfd7zXZ', 'is compressed by xz: decompress it first'],
  [0, 'BZh', 'is compressed by bzip2: decompress it first'],
  [0, '070701', 'looks like an initramfs, which belongs to --initramfs'],
  [0, 'QFI\xfb', 'looks like a qcow2 disk image, which belongs to --disk'],
  [56, 'ARM\x64', 'looks like a kernel for ARM'],
  [
    40,
    '_FVH',
    'looks like UEFI firmware that starts at the reset vector, as QEMU has it: one built for PVH (CLOUDHV.fd) is needed',
  ],
  [510, '\x55\xaa', 'looks like a disk with a boot sector, which belongs to --disk'],
  [0, 'MZ', 'looks like an EFI program'],
  [0, '#!', 'looks like a script'],
];

/** The error with the file's path, what the file looks like and what is accepted, if it was about the payload. */
export function explainPayload(native: NativeAddon, path: string, fd: number, error: unknown): unknown {
  if (!(error instanceof PlatformError) || !error.code.startsWith('ERR_TSVMM_KERNEL_')) return error;
  if (error.code !== 'ERR_TSVMM_KERNEL_FORMAT') return new VmmError(`Cannot load ${path}`, { cause: error });
  const title = `The file ${path} is no kernel: it ${kindOf(native.readAt(fd, 0, HEAD_BYTES))}`;
  return new VmmError(`${title}; a bzImage or an ELF image with a PVH entry is accepted`, { cause: error });
}

function kindOf(head: Uint8Array): string {
  if (head.length === 0) return 'is empty';
  const text = String.fromCharCode(...head);
  const found = signatures.find(([offset, magic]) => text.startsWith(magic, offset));
  if (found !== undefined) return found[2];
  if (head.every((byte) => byte === 0)) return 'begins with zeroes only';
  return head.every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127))
    ? 'looks like text'
    : 'looks like nothing known';
}
