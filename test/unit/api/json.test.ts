import { describe, expect, it } from 'vitest';
import { JsonError, readAnswer, readJson } from '../../../src/api/rest/jsonReader.ts';
import { writeJson } from '../../../src/api/rest/jsonWriter.ts';

/** Objects of the reader have no prototype, which `toEqual` does not mind. */
describe('reading JSON', () => {
  it.each([
    '{}',
    '[]',
    '""',
    '0',
    '-0',
    '-17',
    '9007199254740991',
    'true',
    'false',
    'null',
    ' \t\r\n[ 1 , 2 ] ',
    '{"a":{"b":[1,"x",null]},"c":"\\u00e9\\n\\"\\\\"}',
    '"\ud83d\ude00"',
    '"\\ud83d\\ude00"',
  ])('agrees with the runtime on %s', (text) => {
    expect(readJson(text)).toEqual(JSON.parse(text));
  });

  it('keeps integers above 2^53', () => {
    expect(readJson('18446744073709551615')).toBe(18_446_744_073_709_551_615n);
    expect(readJson('9007199254740992')).toBe(9_007_199_254_740_992n);
  });

  it.each(['1.0', '1e3', '268435456.0', '1E-2', '0.5'])('tells %s from an integer', (text) => {
    const value = readJson(text);
    expect(value).toBeInstanceOf(Number);
    expect(Number(value)).toBe(JSON.parse(text));
  });

  it('gives no key a meaning', () => {
    const object = readJson('{"__proto__":{"a":1},"constructor":2}') as Record<string, unknown>;
    expect(Object.getPrototypeOf(object)).toBeNull();
    expect(Object.keys(object)).toEqual(['__proto__', 'constructor']);
  });

  it.each([
    ['', 'EOF while parsing a value at line 1 column 0'],
    ['{', 'key must be a string'],
    ['{"a"}', 'expected `:`'],
    ['{"a":1,}', 'key must be a string'],
    ['{"a":1 "b":2}', 'expected `,` or `}`'],
    ['{"a":1,"a":2}', 'duplicate field `a`'],
    ['[1,]', 'expected value'],
    ['[1 2]', 'expected `,` or `]`'],
    ['[', 'EOF while parsing a value'],
    ['01', 'invalid number'],
    ['-', 'expected value'],
    ['+1', 'expected value'],
    ['1.', 'invalid number'],
    ['.5', 'expected value'],
    ['1e', 'invalid number'],
    ['NaN', 'expected value'],
    ['nul', 'expected value'],
    ['"a', 'EOF while parsing a string'],
    ['"a\\', 'EOF while parsing a string'],
    ['"\\x"', 'invalid string'],
    ['"a\nb"', 'invalid string'],
    ['"\\ud800"', 'lone surrogate'],
    ['1 1', 'trailing characters'],
    ['{}\n x', 'trailing characters at line 2 column 2'],
    ['x', 'expected value at line 1 column 1'],
    ['[1', 'expected `,` or `]` at line 1 column 2'],
    ['//', 'expected value'],
    ['\u00a01', 'expected value'],
  ])('refuses %j', (text, message) => {
    expect(() => readJson(text)).toThrow(JsonError);
    expect(() => readJson(text)).toThrow(message);
  });

  it.each([
    ['an integer', '9'.repeat(4 << 20), 'number out of range'],
    ['a fraction', `1.${'9'.repeat(4 << 20)}x`, 'trailing characters'],
    ['values', `[${'1,'.repeat(2 << 20)}1]`, 'more than 65536 values'],
    ['keys', `{${Array.from({ length: 70_000 }, (_, i) => `"${i}":0`).join(',')}}`, 'more than 65536 values'],
    ['escapes', `"${'\\"'.repeat(2 << 20)}"`, 'more than 65536 values'],
    ['a string without an end', `"${'a'.repeat(4 << 20)}`, 'EOF while parsing a string'],
    ['space', `${' '.repeat(4 << 20)}x`, 'expected value'],
    ['a key twice', `{"${'k'.repeat(1 << 20)}":1,"${'k'.repeat(1 << 20)}":1}`, 'duplicate field'],
  ])('says little of a body of 4 MiB that is one: %s', (_, text, message) => {
    expect(() => readJson(text)).toThrow(message);
    expect(() => readJson(text)).toThrow(/^.{1,200}$/);
  });

  it('takes numbers that are too long for integers as fractions', () => {
    expect(readJson('184467440737095516150')).toBeInstanceOf(Number);
    expect(readJson('-18446744073709551615')).toBe(-18_446_744_073_709_551_615n);
  });

  it('bounds nesting', () => {
    const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
    expect(() => readJson(nested(128))).not.toThrow();
    expect(() => readJson(nested(1_000_000))).toThrow('recursion limit exceeded');
  });
});

describe('reading what a program of ours answers', () => {
  it.each([
    '{"pid":7,"cpu_seconds":0.25}',
    '{"cpu_seconds":0.12345678901234567,"uuid":"00000000000000000000"}',
    '[1e300,123456789012345678901234]',
  ])('agrees with the runtime on %s', (text) => {
    expect(readAnswer(text)).toEqual(JSON.parse(text));
    expect(JSON.stringify(readAnswer(text))).toBe(JSON.stringify(JSON.parse(text)));
  });

  it('keeps integers above 2^53 among any number of values', () => {
    const values = Array.from({ length: 70_000 }, (_, index) => index);
    expect(readAnswer(`[${values},18446744073709551615]`)).toEqual([...values, 2n ** 64n - 1n]);
  });
});

describe('writing JSON', () => {
  it.each([{}, [], { a: {}, b: [], c: [1, [2, { d: 'x' }]], e: undefined }, 'text'])(
    'indents %j as the runtime does',
    (value) => {
      expect(writeJson(value, '  ')).toBe(JSON.stringify(value, undefined, 2));
    },
  );

  it('is lossless for 64 bits', () => {
    expect(writeJson({ disk: { read_latency_min: 18_446_744_073_709_551_615n, ops: 0n } })).toBe(
      '{"disk":{"read_latency_min":18446744073709551615,"ops":0}}',
    );
  });

  it('agrees with the runtime on everything else', () => {
    const value = { a: [1, 'x"\n', null, true, { b: undefined, c: [] }], 'k"': {} };
    expect(writeJson(value)).toBe(JSON.stringify(value));
    expect(writeJson([undefined])).toBe('[null]');
  });
});
