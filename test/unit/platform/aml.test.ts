import { describe, expect, it } from 'vitest';
import { AmlWriter } from '../../../src/platform/acpi/aml.ts';

function written(write: (aml: AmlWriter) => void, capacity = 2 ** 21): number[] {
  const aml = new AmlWriter(new Uint8Array(capacity), 0);
  write(aml);
  return [...aml.bytes.subarray(0, aml.position)];
}

describe('AmlWriter', () => {
  it.each([
    [0, [0]],
    [1, [1]],
    [2, [0x0a, 2]],
    [0xff, [0x0a, 0xff]],
    [0x100, [0x0b, 0, 1]],
    [0xffff, [0x0b, 0xff, 0xff]],
    [0x1_0000, [0x0c, 0, 0, 1, 0]],
    [0xffff_ffff, [0x0c, 0xff, 0xff, 0xff, 0xff]],
    [2 ** 32, [0x0e, 0, 0, 0, 0, 1, 0, 0, 0]],
    [2 ** 52 + 5, [0x0e, 5, 0, 0, 0, 0, 0, 0x10, 0]],
  ])('writes the integer %d in its shortest form', (value, bytes) => {
    expect(written((aml) => aml.integer(value))).toEqual(bytes);
  });

  it.each([
    ['ABCD', [0x41, 0x42, 0x43, 0x44]],
    ['\\_S5', [0x5c, 0x5f, 0x53, 0x35, 0x5f]],
    ['A.B', [0x2e, 0x41, 0x5f, 0x5f, 0x5f, 0x42, 0x5f, 0x5f, 0x5f]],
    ['\\A.B.C', [0x5c, 0x2f, 3, 0x41, 0x5f, 0x5f, 0x5f, 0x42, 0x5f, 0x5f, 0x5f, 0x43, 0x5f, 0x5f, 0x5f]],
  ])('writes the path %s', (path, bytes) => {
    expect(written((aml) => aml.path(path))).toEqual(bytes);
  });

  it('packs EISA ids', () => {
    expect(written((aml) => aml.eisaId('PNP0A08'))).toEqual([0x0c, 0x41, 0xd0, 0x0a, 0x08]);
  });

  it.each([
    [0, [1]],
    [62, [63]],
    [63, [0x41, 0x04]],
    [4093, [0x4f, 0xff]],
    [4094, [0x81, 0x00, 0x01]],
    [2 ** 20 - 4, [0x8f, 0xff, 0xff]],
    [2 ** 20 - 3, [0xc1, 0x00, 0x00, 0x01]],
  ])('counts a package of %d bytes with the shortest length', (size, length) => {
    const bytes = written((aml) =>
      aml.if(() => {
        aml.position += size;
      }),
    );
    expect(bytes.slice(0, 1 + length.length)).toEqual([0xa0, ...length]);
    expect(bytes).toHaveLength(1 + length.length + size);
  });

  it('nests packages', () => {
    expect(written((aml) => aml.device('A', () => aml.name('B').integer(7)))).toEqual([
      0x5b, 0x82, 12, 0x41, 0x5f, 0x5f, 0x5f, 0x08, 0x42, 0x5f, 0x5f, 0x5f, 0x0a, 7,
    ]);
  });

  it('counts a buffer twice: as a package and as a value', () => {
    expect(written((aml) => aml.buffer(() => aml.byte(9).byte(8)))).toEqual([0x11, 5, 0x0a, 2, 9, 8]);
    expect(written((aml) => aml.buffer(() => {}))).toEqual([0x11, 2, 0]);
  });

  it('writes fields by their bits', () => {
    const bytes = written((aml) => aml.byteField('R', [{ name: 'F', bits: 72 }]));
    expect(bytes).toEqual([0x5b, 0x81, 12, 0x52, 0x5f, 0x5f, 0x5f, 0x41, 0x46, 0x5f, 0x5f, 0x5f, 0x48, 4]);
  });
});
