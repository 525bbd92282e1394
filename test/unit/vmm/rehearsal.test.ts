import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { rehearsal } from '../../../src/vmm/rehearsal.ts';
import { fakeNative } from '../support/fakeNative.ts';

test('a rehearsal plans a whole machine, opens nothing and makes none', () => {
  const native = fakeNative(tmpdir());
  for (const step of rehearsal(native)) step();
  expect(native.machines).toEqual([]);
  expect([...native.files.open]).toEqual([]);
});
