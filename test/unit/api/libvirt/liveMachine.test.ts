import { expect, test } from 'vitest';
import { disksOf } from '../../../../src/api/libvirt/deviceCounters.ts';
import { liveMachine } from '../../../../src/api/libvirt/liveMachine.ts';
import type { VmConfigInput } from '../../../../src/config/vmConfig.ts';

const ANY = 1 << 30;
const SOCKET = { cid: 3, socket: '/v' };

function shown(config: VmConfigInput, started: VmConfigInput, pending?: Record<string, object[]>): string[] {
  const info = { config, memory_actual_size: ANY, ...(pending && { pending_devices: pending }) };
  return disksOf(liveMachine(info, started)).map(({ target, disk }) => `${target} ${disk.path}`);
}

test('disks keep their targets when others go and come', () => {
  const [a, b, c] = ['/a', '/b', '/c'].map((path) => ({ path })) as [object, object, object];
  const started = { disks: [a, b, c] };
  const ids = (disk: object, id: string) => ({ ...disk, id });
  const disks = [ids(b, '_disk1'), ids(c, '_disk2')];
  expect(shown({ disks }, started)).toEqual(['vdb /b', 'vdc /c']);
  const others = [
    { path: '/d', id: 'vde' },
    { path: '/e', id: '_disk9' },
    { path: '/f', id: 'my-disk' },
  ];
  expect(shown({ disks: [...disks, ...others] }, started)).toEqual([
    'vdb /b',
    'vdc /c',
    'vde /d',
    // That of a disk of the start is never another's: the guest has it still, or had it.
    'vdd /e',
    'vdf /f',
  ]);
});

test('what a guest has still is shown', () => {
  const started = {
    disks: [{ path: '/a' }, { path: '/b' }],
    net: [{ mac: '52:54:00:00:00:01' }],
    vsock: SOCKET,
  };
  const pending = {
    disks: [{ path: '/a', id: '_disk0' }],
    net: [{ mac: '52:54:00:00:00:02' }],
    vsock: [SOCKET],
  };
  const config = { disks: [{ path: '/b', id: '_disk1' }], net: started.net };
  expect(shown(config, started, pending)).toEqual(['vdb /b', 'vda /a']);
  const info = { config, memory_actual_size: ANY, pending_devices: pending };
  expect(liveMachine(info, started)).toMatchObject({ net: [...started.net, ...pending.net], vsock: SOCKET });
  // A new one is what a document has room for.
  const next = { ...SOCKET, cid: 4 };
  const replaced = liveMachine({ ...info, config: { vsock: next } }, started);
  expect(replaced.vsock).toEqual(next);
  expect(liveMachine({ config: {}, memory_actual_size: ANY }, started)).toEqual({});
});

test('what memory may become stays as it was at the start', () => {
  const MIB = 1 << 20;
  const memory = (size: number, hotplug_size: number) => ({ memory: { size: size * MIB, hotplug_size } });
  const shownOf = (config: VmConfigInput, started: VmConfigInput) =>
    liveMachine({ config, memory_actual_size: ANY }, started).memory;
  const started = memory(512, 256 * MIB);
  expect(shownOf(started, started)).toEqual(started.memory);
  // The machine has 128 MiB more, and its configuration still what may be added to each machine.
  const grown = memory(640, 256 * MIB);
  expect(shownOf(grown, started)).toEqual(memory(640, 128 * MIB).memory);
  expect(shownOf(memory(768, 256 * MIB), started)).toEqual({ size: 768 * MIB });
  const device = { memory: { ...started.memory, hotplug_method: 'VirtioMem' as const } };
  expect(shownOf(device, device)).toEqual(device.memory);
});
