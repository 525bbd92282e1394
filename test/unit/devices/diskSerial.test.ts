import { expect, it } from 'vitest';
import { serialOfPath } from '../../../src/devices/disk/diskSerial.ts';

it('is the same for the same path, another for another one, and fits GET_ID', () => {
  const paths = [
    '',
    'a',
    'b',
    'root.img',
    '/srv/vm/root.img',
    '/srv/vm/data.img',
    '/dev/sdä',
    'x'.repeat(4096),
  ];
  const serials = paths.map(serialOfPath);
  expect(serialOfPath('root.img')).toBe(serials[3]);
  expect(new Set(serials).size).toBe(paths.length);
  for (const serial of serials) expect(serial).toMatch(/^tsvm[0-9a-f]{16}$/);
  // It is in guests' names of disks: it stays what it is.
  expect(serialOfPath('/srv/vm/root.img')).toBe('tsvmb2f8f04783525493');
});
