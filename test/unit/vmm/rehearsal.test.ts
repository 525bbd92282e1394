import { tmpdir } from 'node:os';
import { expect, test, vi } from 'vitest';
import { rehearsal, rehearseWhile } from '../../../src/vmm/rehearsal.ts';
import { fakeNative } from '../support/fakeNative.ts';

test('a rehearsal plans a whole machine, opens nothing and makes none', () => {
  const native = fakeNative(tmpdir());
  for (const step of rehearsal(native)) step();
  expect(native.machines).toEqual([]);
  expect([...native.files.open]).toEqual([]);
});

test('a rehearsal goes on for as long as there is time, and is no failure without KVM', async () => {
  const native = fakeNative(tmpdir());
  const looked = vi.spyOn(native, 'hostInfo');
  let steps = 0;
  await rehearseWhile(native, () => ++steps < 2);
  expect([steps, looked.mock.calls.length]).toEqual([2, 0]);
  await rehearseWhile(native, () => true);
  expect(looked).toHaveBeenCalled();
  looked.mockImplementation(() => {
    throw Object.assign(new Error('no KVM'), { code: 'ENOENT' });
  });
  await rehearseWhile(native, () => true);
});
