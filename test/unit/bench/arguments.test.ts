import { expect, test } from 'vitest';
import { parseArguments } from '../../../bench/lib/arguments.mjs';

test('names, peers and options', () => {
  const parsed = parseArguments([
    'start',
    '--peer',
    'firecracker=/bin/sh',
    '--rounds',
    '7',
    '--json',
    'out.json',
  ]);
  expect(parsed).toEqual({
    names: ['start'],
    peers: new Map([['firecracker', '/bin/sh']]),
    json: 'out.json',
    rounds: 7,
  });
});

test.each([
  [['--peer', 'bochs=/bin/sh'], "'bochs' is none of"],
  [['--peer', 'firecracker=/nonexistent/vmm'], 'cannot execute /nonexistent/vmm'],
  [['--rounds', '0'], 'positive whole number'],
  [['--rounds', 'many'], 'positive whole number'],
  [['--fast'], 'usage: npm run bench'],
])('%j is refused', (args, message) => {
  expect(() => parseArguments(args)).toThrow(message);
});
