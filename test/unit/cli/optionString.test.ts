import { describe, expect, it } from 'vitest';
import {
  parseHex,
  parseInteger,
  parseIntegerList,
  parseList,
  parseOptionString,
  parseSize,
  parseToggle,
  parseTupleList,
  parseU64,
  splitTopLevel,
  unquote,
} from '../../../src/cli/optionString.ts';

describe('splitting', () => {
  it.each([
    ['', ['']],
    ['a,b', ['a', 'b']],
    ['a,', ['a', '']],
    ['a=[1,2],b', ['a=[1,2]', 'b']],
    ['a=[1,[2,3]],b', ['a=[1,[2,3]]', 'b']],
    ['a="1,2",b', ['a="1,2"', 'b']],
    ['a="[",b', ['a="["', 'b']],
    ['a="x"",y",b', ['a="x"",y"', 'b']],
  ])('%s', (text, pieces) => {
    expect(splitTopLevel(text, ',')).toEqual(pieces);
  });

  it.each([
    ['a="b', 'a quote is not closed'],
    ['a=[b', 'a bracket is not closed'],
    ['a=b]', 'unexpected ]'],
    ['a=][', 'unexpected ]'],
  ])('refuses %s', (text, message) => {
    expect(() => splitTopLevel(text, ',')).toThrow(message);
  });
});

describe('values', () => {
  it.each([
    ['plain', 'plain'],
    ['"a,b"', 'a,b'],
    ['a"b"c', 'abc'],
    ['"say ""hi"""', 'say "hi"'],
    ['""', ''],
  ])('%s unquoted', (raw, text) => {
    expect(unquote(raw)).toBe(text);
  });

  it('option strings keep keys without values apart from empty ones', () => {
    expect(parseOptionString('a=1,b,c=,d=x=y')).toEqual([
      { key: 'a', value: '1' },
      { key: 'b', value: undefined },
      { key: 'c', value: '' },
      { key: 'd', value: 'x=y' },
    ]);
    expect(parseOptionString('')).toEqual([]);
  });

  it.each([
    ['on', true],
    ['TRUE', true],
    ['Off', false],
    ['false', false],
  ])('toggle %s', (text, value) => {
    expect(parseToggle(text)).toBe(value);
  });

  it.each([
    ['0', 0],
    ['1023', 1023],
    ['512M', 2 ** 29],
    ['2G', 2 ** 31],
    ['4K', 4096],
    ['9007199254740991', 2 ** 53 - 1],
    ['9007199254740993', 2n ** 53n + 1n],
    ['8388608G', 2n ** 53n],
    ['17179869183G', 2n ** 64n - 2n ** 30n],
    ['18446744073709551615', 2n ** 64n - 1n],
  ])('size %s', (text, value) => {
    expect(parseSize(text)).toBe(value);
  });

  it.each([
    [parseToggle, ['yes', '1', '']],
    [parseSize, ['', 'K', '1k', '1T', '-1', '1.5G', '0x10', ' 1', '17179869184G', '18446744073709551616']],
    [parseInteger, ['', '-1', '1e3', '0x1', '1M', '9007199254740992']],
    [parseU64, ['', '-1', '1e3', '0x1', '1M', '18446744073709551616', '100000000000000000000']],
    [parseHex, ['e9', '0xg', '0x', '', '0x10000000000000000']],
    [parseIntegerList, ['[1,x]', '3-1', '2-2', '[0-]', '0-65536']],
    [parseTupleList, ['0@1', '[0]', '']],
  ])('%o refuses what it cannot read', (parse, texts) => {
    for (const text of texts) expect(() => parse(text), text).toThrow();
  });

  it('integers of 64 bits', () => {
    expect(parseU64('9007199254740991')).toBe(2 ** 53 - 1);
    expect(parseU64('9007199254740993')).toBe(2n ** 53n + 1n);
    expect(parseU64('18446744073709551615')).toBe(2n ** 64n - 1n);
  });

  it('lists', () => {
    expect(parseHex('0xe9')).toBe(0xe9);
    expect(parseIntegerList('[0,2-4]')).toEqual([0, 2, 3, 4]);
    expect(parseIntegerList('7')).toEqual([7]);
    expect(parseIntegerList('[]')).toEqual([]);
    expect(parseList('[a,"b,c"]')).toEqual(['a', '"b,c"']);
    expect(parseTupleList('[0@[1,2],1@3]')).toEqual([
      ['0', '[1,2]'],
      ['1', '3'],
    ]);
  });
});
