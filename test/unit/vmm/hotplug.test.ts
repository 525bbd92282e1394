/** Devices that come to a machine that runs, and leave it. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import type { PciFunctionSpec } from '../../../src/native.ts';
import { errorChain } from '../../../src/vmm/errors.ts';
import type { Vmm } from '../../../src/vmm/vmm.ts';
import type { VmmOptions } from '../../../src/vmm/vmmOptions.ts';
import { booted, events, failure, folder, guest, native, warnings } from './vmmFixture.ts';

let disk: string;

beforeEach(() => {
  disk = join(folder, 'disk');
  writeFileSync(disk, Buffer.alloc(1 << 20));
});

const diskConfig = (extra: object = {}) =>
  decode(vmConfig, { disks: [{ path: disk, image_type: 'Raw', ...extra }] }).disks?.[0] as object;

/** Ejects as a guest does, and waits until the VM has heard of it. */
async function eject(vmm: Vmm, id: string): Promise<void> {
  guest({ type: 'device-ejected', id });
  await vmm.resizeConsole();
}

it('a disk gets a name and a place, which the next machine has for it, too', async () => {
  const functions: PciFunctionSpec[] = [];
  native.onPlug = (spec) => void functions.push(spec);
  const vmm = await booted();
  expect(await vmm.addDevice('disk', diskConfig())).toEqual({ id: '_disk0', bdf: '0000:00:02.0' });
  expect(functions[0]).toMatchObject({ id: '_disk0', kind: 'block', slot: 2, bar0Is64Bit: true });
  const info = vmm.info();
  expect(info.config.disks).toMatchObject([{ path: disk, id: '_disk0', pci_device_id: 2 }]);
  expect(info.device_tree?.['_virtio-pci-_disk0']?.pci_bdf).toBe('0000:00:02.0');
  expect(events.at(-1)).toBe('vm device-added disk _disk0 0000:00:02.0');
  await vmm.reboot();
  expect(native.machines[1]?.boot?.pci.functions).toMatchObject([
    { id: '_disk0', slot: 2 },
    { id: '__rng', slot: 1 },
  ]);
  await vmm.quit();
});

it('a disk that is removed is kept open until the guest has given it up', async () => {
  const vmm = await booted();
  const before = native.files.open.size;
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  expect(native.files.open.size).toBe(before + 1);
  await vmm.removeDevice('_virtio-pci-a');
  expect(vmm.info().config.disks).toEqual([]);
  expect(vmm.info().device_tree?.a).toMatchObject({ pending_removal: true });
  expect(vmm.info().pending_devices).toMatchObject({ disks: [{ id: 'a', path: disk }] });
  expect(native.files.open.size).toBe(before + 1);
  const again = await failure(vmm.removeDevice('a'));
  expect(errorChain(again).at(-1)).toBe(
    'The guest was asked before to give up the device a, and has not yet',
  );
  const same = await failure(vmm.addDevice('disk', diskConfig({ id: 'a' })));
  expect(errorChain(same).at(-1)).toBe('The guest has not given up the device a yet, which is being removed');
  await eject(vmm, 'a');
  expect(native.files.open.size).toBe(before);
  expect(vmm.info().device_tree?.a).toBeUndefined();
  expect(events.at(-1)).toBe('vm device-removed a 0000:00:02.0');
  expect(await vmm.addDevice('disk', diskConfig({ id: 'a' }))).toEqual({ id: 'a', bdf: '0000:00:02.0' });
  await vmm.quit();
  expect(native.machines[0]?.calls.slice(1)).toEqual([
    ...['plug a at 2', 'request-unplug a', 'finish-unplug a', 'plug a at 2', 'destroy'],
  ]);
});

it('a removal is told of when it is done', async () => {
  let device: unknown = 'nobody has looked';
  const onEvent: VmmOptions['onEvent'] = ({ event }) => {
    if (event === 'device-removed') device = vmm.info().device_tree?.a;
  };
  const vmm: Vmm = await booted({ onEvent });
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  await vmm.removeDevice('a');
  await eject(vmm, 'a');
  expect(device).toBeUndefined();
  await vmm.quit();
});

it('a device that comes can be behind the IOMMU only where the guest was told so at its boot', async () => {
  const vmm = await booted();
  const before = native.files.open.size;
  const refused = await failure(vmm.addDevice('disk', diskConfig({ iommu: true })));
  expect(errorChain(refused).at(-1)).toContain('only in a PCI segment of platform.iommu_segments');
  expect(native.files.open.size).toBe(before);
  expect(vmm.info().config.iommu).toBe(false);
  expect(vmm.info().config.disks ?? []).toEqual([]);
  await vmm.quit();
});

it('a device that comes in a segment behind the IOMMU is translated', async () => {
  const functions: PciFunctionSpec[] = [];
  native.onPlug = (spec) => void functions.push(spec);
  const platform = { iommu_segments: [0] };
  const rng = { src: '/dev/urandom', iommu: true };
  const vmm = await booted({}, { platform, rng, console: { mode: 'Off' } });
  expect(vmm.info().config.iommu).toBe(true);
  await vmm.addDevice('disk', diskConfig({ iommu: true }));
  expect(functions).toMatchObject([{ kind: 'block', iommu: true }]);
  const beside = await failure(vmm.addDevice('disk', diskConfig({ id: 'b' })));
  expect(errorChain(beside).at(-1)).toContain('needs iommu=on');
  await vmm.quit();
});

it('a wait for a removal ends with it, or with a timeout, unless force is used', async () => {
  const vmm = await booted();
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  const late = await failure(vmm.removeDevice('a', { waitMs: 1 }));
  expect(errorChain(late).at(-1)).toBe('The guest has not given up the device a within 1 ms');
  const removed = vmm.removeDevice('a', { waitMs: 60_000 });
  await vmm.resizeConsole();
  guest({ type: 'device-ejected', id: 'a' });
  await removed;
  await vmm.addDevice('disk', diskConfig({ id: 'b' }));
  await vmm.removeDevice('b', { force: true });
  await vmm.addDevice('disk', diskConfig({ id: 'c' }));
  await vmm.removeDevice('c', { waitMs: 1, force: true });
  expect(native.machines[0]?.calls.filter((call) => call.startsWith('finish'))).toEqual([
    ...['finish-unplug a', 'finish-unplug b by force', 'finish-unplug c by force'],
  ]);
  expect(vmm.info().config.disks).toEqual([]);
  await vmm.quit();
});

it('a removal that the guest never answers ends with the machine', async () => {
  const vmm = await booted();
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  await vmm.removeDevice('a');
  await vmm.reboot();
  expect(events).toContain('vm device-removed a 0000:00:02.0');
  expect(native.machines[1]?.boot?.pci.functions.map(({ id }) => id)).toEqual(['__rng']);
  await eject(vmm, 'a');
  await vmm.quit();
});

it('a device that does not come to its end keeps what it has', async () => {
  const vmm = await booted();
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  const before = native.files.open.size;
  native.onFinishUnplug = () => {
    throw new Error('a: the host does not answer');
  };
  await vmm.removeDevice('a');
  await eject(vmm, 'a');
  expect(warnings).toEqual(['The device a does not come to its end: a: the host does not answer']);
  expect(native.files.open.size).toBe(before);
  expect(vmm.info().device_tree?.a).toMatchObject({ pending_removal: true });
  native.onFinishUnplug = () => {};
  await vmm.removeDevice('a', { force: true });
  expect(vmm.info().device_tree?.a).toBeUndefined();
  await vmm.quit();
});

it('who remembers answers is told of the end of a removal, and when counters count again', async () => {
  const vmm = await booted();
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  await vmm.removeDevice('a');
  const told: unknown[] = [];
  const end = vmm.watchInfo(() => {
    told.push([Object.hasOwn(vmm.info().device_tree ?? {}, 'a'), vmm.countedMachine === native.machines[0]]);
  });
  await eject(vmm, 'a');
  expect(told[0]).toEqual([true, false]);
  expect(told.at(-1)).toEqual([false, true]);
  told.length = 0;
  native.onPlug = () => {
    throw new Error('no interrupt is left');
  };
  await failure(vmm.addDevice('disk', diskConfig()));
  expect(told.at(-1)).toEqual([false, true]);
  end();
  await vmm.quit();
});

it('a device that is ejected into a pause comes to its end when devices go on', async () => {
  const vmm = await booted();
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  const finished = () => native.machines[0]?.calls.filter((call) => call.startsWith('finish'));
  await vmm.removeDevice('a');
  await vmm.pause();
  await eject(vmm, 'a');
  expect(finished()).toEqual([]);
  expect(vmm.info().device_tree?.a).toMatchObject({ pending_removal: true });
  await vmm.resume();
  await vmm.resizeConsole();
  expect(finished()).toEqual(['finish-unplug a']);
  expect(vmm.info().device_tree?.a).toBeUndefined();
  await vmm.quit();
});

it('a device that did not come to its end is tried again by its next removal', async () => {
  const vmm = await booted();
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  native.onFinishUnplug = () => {
    throw new Error('a: the host does not answer');
  };
  await vmm.removeDevice('a');
  await eject(vmm, 'a');
  expect(errorChain(await failure(vmm.removeDevice('a'))).at(-1)).toBe('a: the host does not answer');
  native.onFinishUnplug = () => {};
  await vmm.removeDevice('a');
  expect(vmm.info().device_tree?.a).toBeUndefined();
  await vmm.quit();
});

it.each([2 ** 31, 2 ** 32 - 1, Number.POSITIVE_INFINITY])('%d ms are not over at once', async (waitMs) => {
  const vmm = await booted();
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  let removed = false;
  const removal = vmm.removeDevice('a', { waitMs, force: true }).then(() => {
    removed = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(removed).toBe(false);
  await eject(vmm, 'a');
  await removal;
  expect(native.machines[0]?.calls).not.toContain('finish-unplug a by force');
  await vmm.quit();
});

it.each([-1, Number.NaN])('%d ms are no time to wait', async (waitMs) => {
  const vmm = await booted();
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  await expect(vmm.removeDevice('a', { waitMs, force: true })).rejects.toThrow(RangeError);
  expect(native.machines[0]?.calls).not.toContain('request-unplug a');
  await vmm.quit();
});

it('the others stay where they are when one is gone, in the next machine, too', async () => {
  const path = join(folder, 'other');
  writeFileSync(path, Buffer.alloc(512));
  const disks = [{ path: disk }, { path }].map((one) => ({ ...one, image_type: 'Raw' }) as const);
  const vmm = await booted({}, { disks, watchdog: true, pvpanic: true });
  const panicSlot = () => vmm.info().device_tree?.__pvpanic?.pci_bdf;
  const panicBefore = panicSlot();
  expect(panicBefore).toBeDefined();
  const places = () => native.machines.at(-1)?.boot?.pci.functions.map(({ id, slot }) => [id, slot]);
  const before = places();
  expect(before).toContainEqual(['_disk0', 1]);
  await vmm.removeDevice('_disk0', { force: true });
  const { config: kept } = vmm.info();
  const others = before?.filter(([id]) => id !== '_disk0');
  await vmm.reboot();
  expect(places()).toEqual(others);
  expect(panicSlot()).toBe(panicBefore);
  await vmm.delete();
  await vmm.create(decode(vmConfig, kept));
  await vmm.boot();
  // For what is only switched on, a configuration has no place.
  const named = (list = places()) => list?.filter(([id]) => id !== '__watchdog');
  expect(named()).toEqual(named(others));
  await vmm.quit();
});

it('a removal whose waiting is called off uses no force', async () => {
  const vmm = await booted();
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  await vmm.removeDevice('a', { waitMs: 1, force: true, signal: AbortSignal.abort() });
  expect(vmm.info().device_tree?.a).toMatchObject({ pending_removal: true });
  await vmm.quit();
});

it('a name that looks like the PCI function of another device is its own', async () => {
  const vmm = await booted();
  const path = join(folder, 'other');
  writeFileSync(path, Buffer.alloc(512));
  await vmm.addDevice('disk', diskConfig({ id: 'a' }));
  await vmm.addDevice('disk', diskConfig({ id: '_virtio-pci-a', path }));
  await vmm.removeDevice('_virtio-pci-a');
  await eject(vmm, '_virtio-pci-a');
  expect(vmm.info().config.disks).toMatchObject([{ id: 'a' }]);
  await vmm.removeDevice('_virtio-pci-a', { force: true });
  expect(vmm.info().config.disks).toEqual([]);
  await vmm.quit();
});

it('a disk that its last user has only just left is waited for', async () => {
  const vmm = await booted();
  native.files.locked.set(disk, [{ fd: -1, exclusive: true }]);
  const adding = vmm.addDevice('disk', diskConfig());
  setTimeout(() => native.files.locked.clear(), 50);
  expect(await adding).toMatchObject({ id: '_disk0' });
  await vmm.quit();
});

it('nothing is left of a device that is refused', async () => {
  const vmm = await booted();
  const before = [...native.files.open];
  const refusals: [object, RegExp][] = [
    [diskConfig({ path: '/nonexistent' }), /nonexistent/],
    [diskConfig({ pci_device_id: 1 }), /PCI device number 1 is already taken/],
    [diskConfig({ num_queues: 8 }), /more queues/],
    [diskConfig({ image_type: 'FlatVmdk' }), /FlatVmdk/],
  ];
  for (const [device, text] of refusals) {
    expect(errorChain(await failure(vmm.addDevice('disk', device))).join(': ')).toMatch(text);
  }
  native.onPlug = () => {
    throw new Error('no interrupt is left');
  };
  expect(errorChain(await failure(vmm.addDevice('disk', diskConfig()))).at(-1)).toBe('no interrupt is left');
  native.onPlug = () => {};
  expect([...native.files.open]).toEqual(before);
  expect(vmm.info().config.disks).toBeUndefined();
  expect(await vmm.addDevice('disk', diskConfig())).toMatchObject({ bdf: '0000:00:02.0' });
  await vmm.quit();
});

it('there are 31 places', async () => {
  const vmm = await booted();
  for (let slot = 2; slot < 32; slot++) {
    const path = join(folder, `disk${slot}`);
    writeFileSync(path, Buffer.alloc(512));
    await vmm.addDevice('disk', diskConfig({ path }));
  }
  expect(errorChain(await failure(vmm.addDevice('disk', diskConfig()))).at(-1)).toBe(
    '32 PCI devices do not fit in 31 slots',
  );
  await vmm.removeDevice('_disk7', { force: true });
  // Its place is the guest's until that gives it up.
  expect(errorChain(await failure(vmm.addDevice('disk', diskConfig()))).at(-1)).toBe(
    'All 32 PCI device numbers are taken',
  );
  expect(vmm.info().device_tree?._disk7).toMatchObject({ pending_removal: true });
  const told = events.length;
  await eject(vmm, '_disk7');
  expect(events.length).toBe(told);
  expect(await vmm.addDevice('disk', diskConfig())).toEqual({ id: '_disk31', bdf: '0000:00:09.0' });
  await vmm.quit();
});

it('a vsock comes and goes with its socket', async () => {
  const vmm = await booted();
  const socket = join(folder, 'vsock');
  const [vsock] = [decode(vmConfig, { vsock: { cid: 3, socket } }).vsock as object];
  expect(await vmm.addDevice('vsock', vsock)).toEqual({ id: '_vsock0', bdf: '0000:00:02.0' });
  expect(existsSync(socket)).toBe(true);
  await vmm.removeDevice('_vsock0');
  await eject(vmm, '_vsock0');
  expect(existsSync(socket)).toBe(false);
  await vmm.quit();
});

it('some devices stay, and others cannot come', async () => {
  const vmm = await booted();
  const reasonOf = async (work: Promise<unknown>) => errorChain(await failure(work)).at(-1);
  expect(await reasonOf(vmm.removeDevice('__rng'))).toBe('The device __rng cannot be removed');
  expect(await reasonOf(vmm.removeDevice('nope'))).toBe('No device with id "nope" to remove');
  await vmm.quit();
});

it('a device with memory of its own has a BAR for it, which others get when it is gone', async () => {
  const vmm = await booted();
  const [pmem] = decode(vmConfig, { pmem: [{ file: disk }] }).pmem as object[];
  const add = () => vmm.addDevice('pmem', { ...pmem });
  const bars = () => vmm.info().device_tree?.['_virtio-pci-_pmem1']?.resources;
  writeFileSync(disk, Buffer.alloc(2 << 20));
  expect(await add()).toEqual({ id: '_pmem0', bdf: '0000:00:02.0' });
  const first = vmm.info().device_tree?.['_virtio-pci-_pmem0']?.resources;
  expect(first?.map(({ PciBar }) => PciBar.index)).toEqual([0, 2]);
  await vmm.removeDevice('_pmem0');
  await eject(vmm, '_pmem0');
  expect(await add()).toEqual({ id: '_pmem1', bdf: '0000:00:02.0' });
  expect(bars()).toEqual(first);
  await vmm.quit();
});
