import { describe, expect, it } from 'vitest';
import { Descriptor } from '../../../src/boundary/cbor.ts';
import { encodeCommandLine } from '../../../src/platform/x86_64/commandLine.ts';
import { openImage } from '../../../src/platform/x86_64/imageFile.ts';
import { placeInitramfs } from '../../../src/platform/x86_64/initramfs.ts';
import { planPayload } from '../../../src/platform/x86_64/kernel.ts';
import { ELF_CODE, GIB, imageOf, MIB, makeBzImage, makeElf, plainMap } from './support.ts';

const map = plainMap(64 * MIB);
const DOES_NOT_FIT = expect.objectContaining({ code: 'ERR_TSVMM_KERNEL_FIT' });

function plan(bytes: Uint8Array, memory = map) {
  return planPayload(imageOf(bytes), 7, memory);
}

describe('planPayload', () => {
  it('enters PVH images where their note says', () => {
    expect(plan(makeElf({ entry: MIB + 32 }))).toMatchObject({
      protocol: 'pvh',
      isLinux: false,
      entry: MIB + 32,
      load: [{ address: MIB, fd: new Descriptor(7), offset: ELF_CODE, length: 64 }],
      end: MIB + 4096,
    });
  });

  it('enters a bzImage where its 32-bit code starts', () => {
    expect(plan(makeBzImage())).toMatchObject({
      protocol: 'linux',
      isLinux: true,
      entry: MIB,
      load: [{ address: MIB, fd: new Descriptor(7), offset: 1024, length: 4096 }],
    });
  });

  it('loads nothing for a segment that is all zeros', () => {
    expect(plan(makeElf({ fileSize: 0 })).load).toEqual([]);
  });

  it.each([
    ['an empty file', new Uint8Array(0)],
    ['text', new TextEncoder().encode('#!/bin/sh\n'.repeat(100))],
    ['zeros', new Uint8Array(8192)],
    ['an ELF file without the note', makeElf({ noteType: 1 })],
  ])('says what is wrong with %s', (_name, bytes) => {
    expect(() => plan(bytes)).toThrowError(
      expect.objectContaining({ code: 'ERR_TSVMM_KERNEL_FORMAT', message: 'Kernel lacks PVH header' }),
    );
  });

  it.each([
    ['over boot data', makeElf({ loadAddress: 0x7000 })],
    ['into the end of RAM', makeElf({ loadAddress: 64 * MIB - 4095 })],
    ['into the hole', makeElf({ loadAddress: 0xe800_0000 })],
    ['over more than there is', makeElf({ memorySize: 64 * MIB })],
    ['over all that numbers can say', makeElf({ memorySize: Number.MAX_SAFE_INTEGER })],
  ])('refuses to load an ELF segment %s', (_name, bytes) => {
    expect(() => plan(bytes)).toThrowError(DOES_NOT_FIT);
  });

  it('refuses a bzImage that needs more memory than there is', () => {
    expect(() => plan(makeBzImage(), plainMap(40 * MIB))).toThrowError(DOES_NOT_FIT);
  });

  it('refuses a file that is shorter than it was when it was opened', () => {
    const bytes = makeElf();
    const cut = (_fd: number, offset: number, length: number) =>
      bytes.slice(offset, offset + length).slice(0, 100);
    expect(() => openImage(0, bytes.length, cut)).toThrowError(
      expect.objectContaining({ code: 'ERR_TSVMM_KERNEL_INVALID' }),
    );
  });
});

describe('placeInitramfs', () => {
  const payload = plan(makeElf());

  it('takes the top of RAM, down to a page', () => {
    expect(placeInitramfs(5000, payload, map)).toEqual({ address: 64 * MIB - 8192, size: 5000 });
    expect(placeInitramfs(4096, payload, plainMap(8 * GIB))?.address).toBe(3 * GIB - 4096);
  });

  it('stays below the limit that the kernel sets', () => {
    const bytes = makeBzImage();
    new DataView(bytes.buffer).setUint16(0x236, 0, true);
    const large = plainMap(3 * GIB);
    expect(placeInitramfs(4096, plan(bytes, large), large)?.address).toBe(2 * GIB - 4096);
  });

  it('is nowhere when empty', () => {
    expect(placeInitramfs(0, payload, map)).toBeUndefined();
  });

  it('just fits above the kernel', () => {
    const room = 64 * MIB - payload.end;
    expect(placeInitramfs(room, payload, map)?.address).toBe(payload.end);
    expect(() => placeInitramfs(room + 1, payload, map)).toThrowError(DOES_NOT_FIT);
    expect(() => placeInitramfs(2 ** 53, payload, map)).toThrowError(DOES_NOT_FIT);
  });
});

describe('encodeCommandLine', () => {
  const REFUSED = expect.objectContaining({ code: 'ERR_TSVMM_COMMAND_LINE' });

  it('ends with a NUL', () => {
    expect([...encodeCommandLine('a=b', 100)]).toEqual([0x61, 0x3d, 0x62, 0]);
    expect([...encodeCommandLine('', 0)]).toEqual([0]);
  });

  it('counts bytes of UTF-8', () => {
    expect([...encodeCommandLine('xé', 3)]).toEqual([0x78, 0xc3, 0xa9, 0]);
    expect(() => encodeCommandLine('xé', 2)).toThrowError(REFUSED);
  });

  it('holds to the limits of the kernel and of the place for it', () => {
    expect(encodeCommandLine('x'.repeat(2047), 2047)).toHaveLength(2048);
    expect(() => encodeCommandLine('x'.repeat(2048), 2047)).toThrowError(REFUSED);
    expect(encodeCommandLine('x'.repeat(65_535), Number.MAX_SAFE_INTEGER)).toHaveLength(65_536);
    expect(() => encodeCommandLine('x'.repeat(65_536), Number.MAX_SAFE_INTEGER)).toThrowError(REFUSED);
  });

  it('refuses a NUL inside', () => {
    expect(() => encodeCommandLine('a\0b', 100)).toThrowError(REFUSED);
  });
});
