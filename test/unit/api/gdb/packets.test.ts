import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodePacket,
  escapeBinary,
  fromHex,
  type Item,
  MAX_PACKET,
  PacketReader,
  toHex,
} from '../../../../src/api/gdb/packets.ts';

function read(...pieces: (string | Uint8Array)[]): Item[] {
  const reader = new PacketReader();
  return pieces.flatMap((piece) => [
    ...reader.read(typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece),
  ]);
}

describe('packets of the remote protocol', () => {
  it('are found in what comes, however it is cut', () => {
    const bytes = '+$qSupported:a#2a\x03-$m1000,4#8e';
    const expected = [
      { kind: 'ack' },
      { kind: 'packet', text: 'qSupported:a' },
      { kind: 'interrupt' },
      { kind: 'nack' },
      { kind: 'packet', text: 'm1000,4' },
    ];
    const items = read(bytes);
    expect(read(...bytes)).toEqual(items);
    // Sums of the two texts: "qSupported:a" and "m1000,4".
    expect(items.map(({ kind }) => kind)).toEqual(['ack', 'damaged', 'interrupt', 'nack', 'packet']);
    expect(read('+', encodePacket('qSupported:a'), '\x03-', encodePacket('m1000,4'))).toEqual(expected);
  });

  it('with a checksum that is not theirs are damaged, as are those without digits', () => {
    expect(read('$g#67')).toEqual([{ kind: 'packet', text: 'g' }]);
    expect(read('$g#68')).toEqual([{ kind: 'damaged' }]);
    expect(read('$g#zz$g#67')).toEqual([{ kind: 'damaged' }, { kind: 'packet', text: 'g' }]);
  });

  it('begin anew at a dollar sign, and have escaped bytes', () => {
    expect(read('$lost$g#67')).toEqual([{ kind: 'packet', text: 'g' }]);
    const escaped = `X0,1:}${String.fromCharCode(0x23 ^ 0x20)}`;
    expect(read(encodePacket(escaped))).toEqual([{ kind: 'packet', text: 'X0,1:#' }]);
    expect(escapeBinary('a#$}*b')).toBe('a}\x03}\x04}]}\nb');
  });

  it('that are too long are an error, and nothing is kept of more', () => {
    expect(read(`$${'x'.repeat(MAX_PACKET)}#01`)).toEqual([{ kind: 'damaged' }]);
    expect(() => read(`$${'x'.repeat(MAX_PACKET + 1)}`)).toThrow(RangeError);
    expect(() => read('$', '}'.repeat(2 * (MAX_PACKET + 1)))).toThrow(RangeError);
  });

  it('come back as they were', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary-ascii' }), (text) => {
        expect(read(encodePacket(escapeBinary(text)))).toEqual([{ kind: 'packet', text }]);
      }),
    );
  });

  it('have bytes as hexadecimal digits', () => {
    expect(toHex(new Uint8Array([0, 255, 16]))).toBe('00ff10');
    expect(fromHex('00Ff10')).toEqual(new Uint8Array([0, 255, 16]));
    expect(fromHex('')).toEqual(new Uint8Array(0));
    for (const wrong of ['0', '0g', ' 00', '00\n']) expect(fromHex(wrong)).toBeUndefined();
  });
});
