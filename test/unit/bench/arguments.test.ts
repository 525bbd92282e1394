import { expect, test } from 'vitest';
import { parseArguments } from '../../../bench/lib/arguments.mjs';

test('names, peers and options', () => {
  const parsed = parseArguments([
    ...[
      'start',
      '--peer',
      'firecracker=/bin/sh',
      '--rounds',
      '7',
      '--json',
      'out.json',
      '--html',
      'out.html',
    ],
    ...['--peers', 'qemu,firecracker', '--set', 'depth=8', '--set', 'ms=10', '--device', 'queue_size=256'],
  ]);
  expect(parsed).toMatchObject({
    names: ['start'],
    peers: new Map([['firecracker', '/bin/sh']]),
    only: ['qemu', 'firecracker'],
    json: 'out.json',
    html: 'out.html',
    rounds: 7,
    set: new Map([
      ['depth', '8'],
      ['ms', '10'],
    ]),
    devices: 'queue_size=256',
  });
});

test('without options: everybody, everything', () => {
  expect(parseArguments([])).toMatchObject({
    names: [],
    only: undefined,
    cases: [],
    list: false,
    help: false,
  });
});

test('tsvmm alone', () => {
  expect(parseArguments(['--peers', 'none']).only).toEqual([]);
});

test.each([
  ['randread-4k-d1', 'randread-4k-d1', true],
  ['randread-4k-d1', 'randread-4k-d1-irq', false],
  ['direct-*', 'direct-randread', true],
  ['*read*,tx-60', 'tx-60', true],
  ['a.c', 'abc', false],
])('--case %s and %s', (pattern, name, expected) => {
  expect(parseArguments(['--case', pattern]).cases.some((one) => one.test(name))).toBe(expected);
});

test.each([
  [['--peer', 'bochs=/bin/sh'], "'bochs' is none of"],
  [['--peer', 'firecracker=/nonexistent/vmm'], 'cannot execute /nonexistent/vmm'],
  [['--rounds', '0'], 'positive whole number'],
  [['--rounds', 'many'], 'positive whole number'],
  [['--set', 'depth'], "KEY=VALUE, not 'depth'"],
  [['--fast'], 'usage: npm run bench'],
])('%j is refused', (args, message) => {
  expect(() => parseArguments(args)).toThrow(message);
});
