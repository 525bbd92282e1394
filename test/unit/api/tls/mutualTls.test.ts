import { expect, test } from 'vitest';
import { matches, parseListenAddress } from '../../../../src/api/tls/mutualTls.ts';

test.each([
  ['*', '', true],
  ['CN=*', 'CN=alice', true],
  ['C=DE,O=*,CN=al?ce', 'C=DE,O=Example\\, Inc,CN=alice', true],
  ['C=DE,O=*,CN=al?ce', 'C=DE,O=Example,CN=alce', false],
  ['*CN=alice', 'O=x,CN=bob,CN=alice', true],
  ['CN=alice', 'CN=alice,OU=more', false],
  ['CN=alice*', 'CN=alice', true],
  ['', 'CN=alice', false],
  // Nothing of a pattern but * and ? has a meaning.
  ['CN=[a-z]+', 'CN=b', false],
  ['CN=a.c', 'CN=abc', false],
])('the pattern %j of subjects: %j %j', (pattern, text, expected) => {
  expect(matches(pattern, text)).toBe(expected);
});

test('a pattern with many stars takes no longer than text and pattern are long', () => {
  expect(matches(`${'*a'.repeat(2_000)}b`, 'a'.repeat(20_000))).toBe(false);
});

test.each([
  ['0.0.0.0', { host: '0.0.0.0', port: 16_514 }],
  ['localhost:1', { host: 'localhost', port: 1 }],
  ['[::1]:16514', { host: '::1', port: 16_514 }],
  ['[::]', { host: '::', port: 16_514 }],
  ['::1', undefined],
  [':16514', undefined],
  ['host:65536', undefined],
  ['host:', undefined],
  ['', undefined],
])('the address %j', (text, expected) => {
  expect(parseListenAddress(text, 16_514)).toEqual(expected);
});

test('an address needs a port where none is usual', () => {
  expect(parseListenAddress('0.0.0.0')).toBeUndefined();
  expect(parseListenAddress('0.0.0.0:0')).toEqual({ host: '0.0.0.0', port: 0 });
});
