import { expect, test } from 'vitest';
import type { AnyDeviceRecord, OpenContext } from '../../../src/devices/record.ts';
import { HeldDevices } from '../../../src/vmm/heldDevices.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

/** A kind whose devices are a descriptor and a socket each; one called `bad` cannot be opened. */
function kind(name: string, removed: string[]): AnyDeviceRecord {
  return {
    ...{ name, field: name, schema: { type: 'boolean' }, option: { kind: 'switch' }, ids: { prefix: name } },
    opening: {
      lifetime: 'vm',
      open({ id = '' }, { native, opened, sockets }) {
        opened.push(native.openFile('/dev/null', 0, 0, 4));
        sockets.push({ listener: -1, close: () => removed.push(id) });
        if (id === 'bad') throw new Error('cannot be opened');
        return id;
      },
    },
  };
}

const openFiles = (native: FakeNative): number => native.files.open.size;

function held() {
  const native = fakeNative('/nowhere');
  const removed: string[] = [];
  const context = { native } as unknown as Omit<OpenContext, 'opened' | 'sockets'>;
  return { native, removed, context, devices: new HeldDevices() };
}

test('are opened once, and closed with their sockets', async () => {
  const { native, removed, context, devices } = held();
  const record = kind('a', removed);
  const [x, y] = [{ id: 'x' }, { id: 'y' }];
  expect(await devices.open(context, record, [x, y])).toEqual(['x', 'y']);
  expect(await devices.open(context, record, [x, y])).toEqual(['x', 'y']);
  expect([openFiles(native), devices.descriptors.length]).toEqual([2, 2]);
  devices.closeDevice(native, x);
  expect([openFiles(native), removed]).toEqual([1, ['x']]);
  devices.close(native);
  expect([openFiles(native), removed]).toEqual([0, ['x', 'y']]);
  expect(await devices.open(context, record, [{ id: 'z' }])).toEqual(['z']);
  devices.close(native);
});

test('of a kind of which one cannot be opened leave nothing open, and other kinds alone', async () => {
  const { native, removed, context, devices } = held();
  await devices.open(context, kind('a', removed), [{ id: 'x' }]);
  const bad = devices.open(context, kind('b', removed), [{ id: 'y' }, { id: 'bad' }]);
  await expect(bad).rejects.toThrow('cannot be opened');
  expect([openFiles(native), removed]).toEqual([1, ['y', 'bad']]);
  devices.close(native);
  expect([openFiles(native), removed]).toEqual([0, ['y', 'bad', 'x']]);
});

test('lose their sockets, and no file is closed, where the process has to end at once', async () => {
  const { native, removed, context, devices } = held();
  await devices.open(context, kind('a', removed), [{ id: 'x' }]);
  devices.removeSockets();
  expect([openFiles(native), removed]).toEqual([1, ['x']]);
  devices.close(native);
  expect([openFiles(native), removed]).toEqual([0, ['x']]);
});
