import { expect, test } from 'vitest';
import { describeError, VmmError } from '../../../src/vmm/errors.ts';
import { printable, printableJson } from '../../../src/vmm/printable.ts';

test.each([
  ['plain text, größer: 日本語 😀', 'plain text, größer: 日本語 😀'],
  ['a\nb\r\tc', 'a\\nb\\r\\tc'],
  ['\x1b[2J\x07\0', '\\x1b[2J\\x07\\x00'],
  ['\x7f\x9b31m', '\\x7f\\x9b31m'],
  ['left\u202etfel\u2028', 'left\\u{202e}tfel\\u{2028}'],
  ['half \ud800', 'half \\u{d800}'],
  ['\u{e0001}', '\\u{e0001}'],
])('%j is shown as %j', (text, shown) => {
  expect(printable(text)).toBe(shown);
  expect(printable(shown)).toBe(shown);
});

test.each([
  { text: '\x7f\x9b31m \u202e \u2028 \ud800 \u{e0001}', deep: ['größer 😀', 1] },
  ['\x1b]0;owned\x07\n\t'],
  'text',
])('JSON of %j means the same without what moves a cursor', (value) => {
  for (const indent of ['', '  ']) {
    const json = JSON.stringify(value, undefined, indent);
    const shown = printableJson(json);
    expect(JSON.parse(shown)).toEqual(value);
    expect(printable(shown.replaceAll('\n', ''))).toBe(shown.replaceAll('\n', ''));
    expect(printableJson(shown)).toBe(shown);
  }
});

test('errors show what they quote, and what is below them', () => {
  const error = new VmmError('The image has a backing file \x1b]0;owned\x07', { cause: new Error('a\nb') });
  expect(error.title).toBe('The image has a backing file \\x1b]0;owned\\x07');
  expect(error.message).toBe('The image has a backing file \\x1b]0;owned\\x07: a\\nb');
  expect(describeError(error)).toBe(error.message);
});
