import { expect, test } from 'vitest';
import { formatTable } from '../../../src/cli/vms/table.ts';
import { describeEvent } from '../../../src/cli/vms/vmCommands.ts';

const ESCAPE = '\x1b]0;owned\x07\x9b2J\nfake';
const SHOWN = '\\x1b]0;owned\\x07\\x9b2J\\nfake';

test('a path in a table cannot move the cursor, and columns stay where they are', () => {
  const rows = [
    [`/srv/${ESCAPE}`, 'a'],
    ['/srv/kernel', 'b'],
  ];
  expect(formatTable(['KERNEL', 'NAME'], rows, Number.POSITIVE_INFINITY)).toBe(
    [
      `KERNEL${' '.repeat(`/srv/${SHOWN}`.length - 4)}NAME\n`,
      `/srv/${SHOWN}  a\n`,
      `/srv/kernel${' '.repeat(`/srv/${SHOWN}`.length - 9)}b\n`,
    ].join(''),
  );
  expect(formatTable(['KERNEL', 'NAME'], rows, 20).split('\n')[1]).toBe('/srv/\\x1b]0;o…  a');
});

test('an event of a VM is one line', () => {
  const properties = { reason: '\x9b2J\u2028', output: ESCAPE };
  const line = describeEvent({ time: 0, vm: 'web', source: 'vm', event: 'shutdown', properties } as never);
  expect(line).toMatch(/^[\x20-\x7e]+$/);
});
