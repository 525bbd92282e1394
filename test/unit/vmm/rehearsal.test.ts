import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { rehearseStart } from '../../../src/vmm/rehearsal.ts';
import { fakeNative } from '../support/fakeNative.ts';

test('a rehearsal plans a whole machine, opens nothing and makes none', () => {
  const native = fakeNative(tmpdir());
  rehearseStart(native);
  expect(native.machines).toEqual([]);
  expect([...native.files.open]).toEqual([]);
});
