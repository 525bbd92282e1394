import { describe, expect, it } from 'vitest';
import { isElf, parsePvhElf } from '../../../src/platform/x86_64/elf.ts';
import { ELF_CODE, ELF_NOTE, ELF_PROGRAM_HEADERS, imageOf, MIB, makeElf, programHeader } from './support.ts';

const INVALID = expect.objectContaining({ code: 'ERR_TSVMM_KERNEL_INVALID' });

function parse(bytes: Uint8Array) {
  return parsePvhElf(imageOf(bytes));
}

function changed(change: (view: DataView, bytes: Uint8Array) => void, bytes = makeElf()): Uint8Array {
  change(new DataView(bytes.buffer), bytes);
  return bytes;
}

describe('parsePvhElf', () => {
  it.each([
    { bits: 64, entrySize: 8 },
    { bits: 64, entrySize: 4 },
    { bits: 32, entrySize: 4, machine: 3 },
    { bits: 64, entrySize: 8, noteAlign: 8 },
  ] as const)('reads %o', (options) => {
    expect(parse(makeElf({ ...options, entry: MIB + 16 }))).toEqual({
      entry: MIB + 16,
      segments: [
        expect.objectContaining({ address: MIB, fileOffset: ELF_CODE, fileSize: 64, memorySize: 4096 }),
      ],
      isLinux: false,
    });
  });

  it('finds the note behind others', () => {
    const bytes = changed((view, all) => {
      all.copyWithin(ELF_NOTE + 20, ELF_NOTE, ELF_NOTE + 24);
      view.setUint32(ELF_NOTE + 4, 1, true);
      view.setUint32(ELF_NOTE + 8, 5, true);
      programHeader(view, true, 0, [4, ELF_NOTE, 0, 44, 44, 4]);
    });
    expect(parse(bytes)?.entry).toBe(MIB);
  });

  it('knows Linux by its note, before or behind that of the entry', () => {
    // Name size 6, no description, type 257 (LINUX_ELFNOTE_LTO_INFO), the name padded to 8 bytes.
    const linux = Buffer.from('0600000000000000010100000000000000000000', 'hex');
    linux.write('Linux\0', 12, 'latin1');
    for (const before of [true, false]) {
      const bytes = changed((view, all) => {
        const entry = all.slice(ELF_NOTE, ELF_NOTE + 24);
        all.set(before ? [...linux, ...entry] : [...entry, ...linux], ELF_NOTE);
        programHeader(view, true, 0, [4, ELF_NOTE, 0, 44, 44, 4]);
      });
      expect(parse(bytes)).toMatchObject({ entry: MIB, isLinux: true });
    }
  });

  it('is undefined without a PVH note', () => {
    expect(parse(makeElf({ noteType: 17 }))).toBeUndefined();
    expect(parse(changed((_view, bytes) => bytes.set([0x47, 0x4e, 0x55, 0], ELF_NOTE + 12)))).toBeUndefined();
  });

  it('leaves out segments that take no memory', () => {
    const bytes = changed((view) => programHeader(view, true, 1, [1, 0, 0, 0, 0, 0]));
    expect(() => parse(bytes)).toThrow(/lies in none of its segments/);
  });

  it.each([
    { address: MIB + 4096, size: 64, apart: true },
    { address: MIB - 64, size: 64, apart: true },
    { address: MIB + 4095, size: 64, apart: false },
    { address: MIB - 64, size: 65, apart: false },
    { address: MIB, size: 4096, apart: false },
  ])('takes segments that lie apart, and only those: %o', ({ address, size, apart }) => {
    const whole = makeElf();
    const bytes = new Uint8Array(whole.length + 168);
    bytes.set(whole);
    // The program headers move behind the code, where there is room for a third one.
    bytes.copyWithin(whole.length, ELF_PROGRAM_HEADERS, ELF_PROGRAM_HEADERS + 112);
    const extra = makeElf();
    programHeader(new DataView(extra.buffer), true, 0, [1, ELF_CODE, address, 8, size, 0]);
    bytes.set(extra.subarray(ELF_PROGRAM_HEADERS, ELF_PROGRAM_HEADERS + 56), whole.length + 112);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(32, BigInt(whole.length), true);
    view.setUint16(56, 3, true);
    if (apart) expect(parse(bytes)?.segments).toHaveLength(2);
    else expect(() => parse(bytes)).toThrow(/overlap in memory/);
  });

  it('refuses a file cut anywhere, with one clear error', () => {
    const whole = makeElf();
    for (let length = 0; length < whole.length; length++) {
      const image = imageOf(whole.slice(0, length));
      if (isElf(image)) {
        expect(() => parsePvhElf(image), `cut at ${length}`).toThrowError(INVALID);
      } else {
        expect(length).toBeLessThan(4);
      }
    }
  });

  it.each<[string, (view: DataView, bytes: Uint8Array) => void]>([
    ['an unknown class', (_view, bytes) => bytes.set([3], 4)],
    ['big-endian fields', (_view, bytes) => bytes.set([2], 5)],
    ['another processor', (view) => view.setUint16(18, 183, true)],
    ['no program headers', (view) => view.setUint16(56, 0, true)],
    ['65535 program headers', (view) => view.setUint16(56, 0xffff, true)],
    ['tiny program headers', (view) => view.setUint16(54, 1, true)],
    [
      'program headers at the end of the address space',
      (view) => view.setBigUint64(32, 2n ** 64n - 1n, true),
    ],
    ['program headers past the end', (view) => view.setBigUint64(32, 300n, true)],
    ['a segment from beyond the file', (view) => programHeader(view, true, 1, [1, 400, MIB, 64, 64, 0])],
    [
      'a segment whose end wraps',
      (view) => view.setBigUint64(ELF_PROGRAM_HEADERS + 56 + 8, 2n ** 64n - 32n, true),
    ],
    [
      'a segment of 2^64 - 1 bytes',
      (view) => view.setBigUint64(ELF_PROGRAM_HEADERS + 56 + 32, 2n ** 64n - 1n, true),
    ],
    [
      'more in the file than in memory',
      (view) => programHeader(view, true, 1, [1, ELF_CODE, MIB, 64, 63, 0]),
    ],
    ['notes of a gigabyte', (view) => programHeader(view, true, 0, [4, ELF_NOTE, 0, 2 ** 30, 0, 4])],
    ['a note name of 4 GiB', (view) => view.setUint32(ELF_NOTE, 0xffff_ffff, true)],
    ['a note description of 4 GiB', (view) => view.setUint32(ELF_NOTE + 4, 0xffff_ffff, true)],
    ['an entry of 2 bytes', (view) => view.setUint32(ELF_NOTE + 4, 2, true)],
    ['an entry above 4 GiB', (view) => view.setUint32(ELF_NOTE + 20, 1, true)],
    ['an entry outside its segments', (view) => view.setUint32(ELF_NOTE + 16, MIB + 4096, true)],
  ])('refuses %s', (_name, change) => {
    expect(() => parse(changed(change))).toThrowError(INVALID);
  });

  it('ends on notes of no size at all', () => {
    const bytes = changed((view, all) => {
      all.fill(0, ELF_NOTE, ELF_CODE);
      programHeader(view, true, 0, [4, ELF_NOTE, 0, ELF_CODE - ELF_NOTE, 0, 4]);
    });
    expect(parse(bytes)).toBeUndefined();
  });

  it('survives any single wrong byte', () => {
    for (let at = 0; at < ELF_CODE; at++) {
      for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
        const bytes = changed((_view, all) => all.set([value], at));
        try {
          parse(bytes);
        } catch (error) {
          expect(error, `byte ${at} = ${value}`).toEqual(INVALID);
        }
      }
    }
  });
});
