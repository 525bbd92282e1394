import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Decoded, Descriptor, decode, encode } from '../../../src/boundary/cbor.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));

/** Most are RFC 8949's, appendix A. The same file is what the core's reader and writer are tested with. */
const VECTORS: readonly [unknown, string][] = [
  [0, '00'],
  [23, '17'],
  [24, '1818'],
  [255, '18ff'],
  [256, '190100'],
  [65_535, '19ffff'],
  [65_536, '1a00010000'],
  [2 ** 32 - 1, '1affffffff'],
  [2 ** 32, '1b0000000100000000'],
  [2 ** 53 - 1, '1b001fffffffffffff'],
  [2n ** 53n, '1b0020000000000000'],
  [2n ** 64n - 1n, '1bffffffffffffffff'],
  [-1, '20'],
  [-24, '37'],
  [-100, '3863'],
  [-(2n ** 64n), '3bffffffffffffffff'],
  [false, 'f4'],
  [true, 'f5'],
  [null, 'f6'],
  [new Uint8Array(), '40'],
  [Uint8Array.of(1, 2, 3, 4), '4401020304'],
  ['', '60'],
  ['IETF', '6449455446'],
  ['ü', '62c3bc'],
  ['\u{10151}', '64f0908591'],
  [[], '80'],
  [[1, 2, 3], '83010203'],
  [{}, 'a0'],
  [{ a: 1, b: [2, 3] }, 'a26161016162820203'],
  [new Descriptor(7), 'd9fd0000'],
];

test.each(VECTORS)('%o is %s', (value, expected) => {
  const { bytes, descriptors } = encode(value);
  expect(hex(bytes)).toBe(expected);
  expect(descriptors).toEqual(value instanceof Descriptor ? [value.fd] : []);
  if (!(value instanceof Descriptor)) expect(decode(bytes)).toStrictEqual(value);
});

test('the core is tested with the same', () => {
  const lines = readFileSync(new URL('../../native/cbor_vectors.txt', import.meta.url), 'utf8');
  expect(lines.trim().split('\n')).toEqual(VECTORS.map(([, expected]) => expected));
});

const anything = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }),
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.uint8Array(),
    fc.array(tie('value')),
    fc.dictionary(fc.string(), tie('value')),
  ),
})).value;

test('what was encoded is decoded', () => {
  fc.assert(
    fc.property(anything, (value) => {
      const { bytes, descriptors } = encode(value);
      expect(descriptors).toEqual([]);
      expect(decode(bytes)).toEqual(value);
    }),
  );
});

test('messages of any size', () => {
  const value = { list: Array.from({ length: 5000 }, (_, i) => `text ${i}`), bytes: new Uint8Array(20_000) };
  expect(decode(encode(value).bytes)).toEqual(value);
});

test('descriptors have the indexes that the bytes say', () => {
  const message = encode({ fds: [new Descriptor(9), new Descriptor(4)], fd: new Descriptor(9) });
  expect(message.descriptors).toEqual([9, 4, 9]);
  expect(hex(message.bytes)).toBe('a26366647382d9fd0000d9fd0001626664d9fd0002');
});

test('a field that is undefined is left out', () => {
  expect(hex(encode({ a: undefined, b: 1 }).bytes)).toBe(hex(encode({ b: 1 }).bytes));
});

describe('what cannot be encoded is refused', () => {
  test.each<[string, unknown, string]>([
    ['a fraction', 1.5, '1.5 is no whole number that is exact'],
    ['a number that is not exact', 2 ** 53, '9007199254740992 is no whole number that is exact'],
    ['no number', Number.NaN, 'NaN is no whole number that is exact'],
    ['more than 64 bits', 2n ** 64n, '18446744073709551616 has more than 64 bits'],
    ['nothing', undefined, 'A undefined cannot be encoded'],
    ['a function', () => {}, 'A function cannot be encoded'],
    ['no descriptor', new Descriptor(-1), '-1 is no descriptor'],
  ])('%s', (_name, value, message) => {
    expect(() => encode(value)).toThrow(message);
    expect(() => encode([value])).toThrow(message);
  });
});

test.each([
  ['nothing', '', 'it ends too early'],
  ['half a number', '19ff', 'it ends too early'],
  ['half a text', '6461', 'it ends too early'],
  ['a text longer than all memory', '7bffffffffffffffff', 'it ends too early'],
  ['an array of too few', '8201', 'it ends too early'],
  ['two values', '0000', 'bytes follow it'],
  ['an indefinite length', '9fff', 'a length is not definite'],
  ['a key that is a number', 'a10102', 'a key is not text'],
  ['a tag', 'c001', 'it has an item that no answer has'],
  ['a float', 'f90000', 'it has an item that no answer has'],
  ['undefined', 'f7', 'it has an item that no answer has'],
  ['a nest', '81'.repeat(100), 'it is nested too deep'],
  ['a nest of maps', 'a16161'.repeat(50), 'it is nested too deep'],
])('%s is no message', (_name, bytes, message) => {
  expect(() => decode(bytesOf(bytes))).toThrow(message);
});

test('text that is not UTF-8 is no message', () => {
  expect(() => decode(bytesOf('61ff'))).toThrow();
});

test('a key may have any name', () => {
  const decoded = decode(bytesOf('a1695f5f70726f746f5f5f01')) as { [name: string]: Decoded };
  expect(Object.keys(decoded)).toEqual(['__proto__']);
  expect(Object.getPrototypeOf(decoded)).toBe(Object.prototype);
});

test('what outgrows its room is whole, wherever that ends', () => {
  for (let pad = 16_100; pad < 16_400; pad++) {
    const value = {
      pad: new Uint8Array(pad),
      [`name of ${pad} that takes some room`]: 1,
      short: ['text', 'é', {}, null],
    };
    expect(decode(encode(value).bytes)).toEqual(value);
  }
});

test.each([1, () => {}])(
  'fields that a program gives to every object, such as %s, are in no message',
  (value) => {
    const message = { name: 'one', absent: undefined, inner: [{ fd: 1 }] };
    const expected = encode(message).bytes;
    const all = Object.prototype as { everywhere?: unknown };
    all.everywhere = value;
    onTestFinished(() => void delete all.everywhere);
    expect(hex(encode(message).bytes)).toBe(hex(expected));
  },
);
