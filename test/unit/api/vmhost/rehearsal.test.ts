import { tmpdir } from 'node:os';
import { expect, test, vi } from 'vitest';
import { rehearseOrders } from '../../../../src/api/vmhost/rehearsal.ts';
import * as folder from '../../../../src/api/vmhost/vmFolder.ts';
import { fakeNative } from '../../support/fakeNative.ts';

test('orders are rehearsed to where a machine would be made, with nothing opened or left', async () => {
  const native = fakeNative(tmpdir());
  const random = vi.spyOn(native, 'randomBytes');
  const listeners = process.eventNames().map((name) => process.listenerCount(name));
  const read = vi.spyOn(folder, 'readVmFolder');
  await rehearseOrders(native, '/folder');
  // A configuration was read and taken, by the functions that do it with a VM's.
  expect(read).toHaveBeenCalledWith(expect.anything(), '/folder', '/folder/vms/_rehearsal');
  expect(random).toHaveBeenCalled();
  expect(native.machines).toEqual([]);
  expect([...native.files.open]).toEqual([]);
  expect(process.eventNames().map((name) => process.listenerCount(name))).toEqual(listeners);
});
