import { expect, test } from 'vitest';
import {
  contextSwitches,
  privateMemory,
  readMappings,
  switchesBetween,
} from '../../../bench/lib/processState.mjs';

test('private memory grows with what is touched, and mappings of guests are left out', () => {
  const before = privateMemory(process.pid, () => false).anonymous;
  const touched = Buffer.alloc(64 << 20, 1);
  const after = privateMemory(process.pid, () => false).anonymous;
  expect(after - before).toBeGreaterThan(60 << 20);
  expect(privateMemory(process.pid, (mapping) => mapping.size >= touched.length).anonymous).toBeLessThan(
    after - (60 << 20),
  );
  expect(privateMemory(process.pid, () => true)).toEqual({ anonymous: 0, privateDirty: 0 });
});

test('mappings have names and sizes', () => {
  const heap = readMappings(process.pid).find((mapping) => mapping.name === '[heap]');
  expect(heap?.size).toBeGreaterThan(0);
});

test('context switches are counted by thread name', () => {
  const before = new Map([['1', { name: 'vcpu0', switches: 5 }]]);
  const after = new Map([
    ['1', { name: 'vcpu0', switches: 5 }],
    ['2', { name: 'loop', switches: 2 }],
    ['3', { name: 'loop', switches: 1 }],
  ]);
  expect(switchesBetween(before, after)).toEqual({ loop: 3 });
  expect(contextSwitches(process.pid).size).toBeGreaterThan(0);
});
