import { describe, expect, it } from 'vitest';
import type { NativeAddon } from '../../../src/native.ts';
import { PlatformError } from '../../../src/platform/platformError.ts';
import { errorChain } from '../../../src/vmm/errors.ts';
import { explainPayload } from '../../../src/vmm/payloadKind.ts';

function explain(
  content: Buffer | string,
  code: PlatformError['code'] = 'ERR_TSVMM_KERNEL_FORMAT',
): string[] {
  const bytes = Buffer.from(content as string, 'latin1');
  const native = { readAt: () => bytes } as unknown as NativeAddon;
  return errorChain(explainPayload(native, '/boot/x', 3, new PlatformError(code, 'Kernel lacks PVH header')));
}

const at = (offset: number, magic: string) => `${'\0'.repeat(offset)}${magic}`;

describe('a kernel file that is no kernel', () => {
  it.each([
    ['', 'is empty'],
    ['\x7fELF\x02', 'looks like an ELF image without a PVH entry (Linux has one with CONFIG_PVH)'],
    ['\x1f\x8b\x08', 'is compressed by gzip: decompress it first'],
    ['\x28\xb5\x2f\xfd', 'is compressed by zstd: decompress it first'],
    ['\xfd7zXZ\0', 'is compressed by xz: decompress it first'],
    ['070701', 'looks like an initramfs, which belongs to --initramfs'],
    ['QFI\xfb', 'looks like a qcow2 disk image, which belongs to --disk'],
    [at(56, 'ARM\x64'), 'looks like a kernel for ARM'],
    [at(40, '_FVH'), 'looks like UEFI firmware that starts at the reset vector'],
    [at(510, '\x55\xaa'), 'looks like a disk with a boot sector'],
    ['MZ\x90', 'looks like an EFI program'],
    ['#!/bin/sh\n', 'looks like a script'],
    ['hello\n', 'looks like text'],
    ['\0\0\0', 'begins with zeroes only'],
    ['\x01\x02', 'looks like nothing known'],
  ])('%j', (content, kind) => {
    expect(explain(content)).toEqual([
      expect.stringContaining(`The file /boot/x is no kernel: it ${kind}`),
      'Kernel lacks PVH header',
    ]);
    expect(explain(content)[0]).toMatch(/; a bzImage or an ELF image with a PVH entry is accepted$/);
  });

  it('or a broken one, is named', () => {
    expect(explain('', 'ERR_TSVMM_KERNEL_INVALID')).toEqual([
      'Cannot load /boot/x',
      'Kernel lacks PVH header',
    ]);
  });

  it('is not made of other errors', () => {
    const error = new PlatformError('ERR_TSVMM_PCI_SLOT', 'no slot');
    expect(explainPayload({} as NativeAddon, '/k', 3, error)).toBe(error);
  });
});
