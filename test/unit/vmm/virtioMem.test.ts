import { describe, expect, it } from 'vitest';
import type { VmConfigInput } from '../../../src/config/vmConfig.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import type { Vmm } from '../../../src/vmm/vmm.ts';
import { booted as bootedVm, config, native, newVmm } from './vmmFixture.ts';

const MIB = 1 << 20;
const GIB = 1 << 30;

const booted = (memory: NonNullable<VmConfigInput['memory']>, more: VmConfigInput = {}): Promise<Vmm> =>
  bootedVm({}, { memory, ...more });

const calls = () => native.machines.at(-1)?.calls;
const memoryDevices = () => native.machines.at(-1)?.boot?.pci.functions.filter(({ kind }) => kind === 'mem');

async function refused(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'not refused',
    (error: unknown) => describeError(error),
  );
}

const plain = { size: 512 * MIB, hotplug_method: 'VirtioMem', hotplug_size: GIB } as const;
const zones = {
  size: 0,
  hotplug_method: 'VirtioMem',
  zones: [
    { id: 'a', size: 256 * MIB, hotplug_size: GIB, hotplugged_size: 64 * MIB },
    { id: 'fixed', size: 256 * MIB },
    { id: 'b', size: 256 * MIB, hotplug_size: GIB },
  ],
} as const;

describe('virtio-mem', () => {
  it('is a device for memory that can grow by it, and for nothing else', async () => {
    await (await booted(plain)).quit();
    expect(memoryDevices()).toEqual([
      expect.objectContaining({ id: 'mem0', zone: 'mem0', blockSize: 2 * MIB, requestedSize: 0 }),
    ]);
    await (await booted({ ...plain, hotplug_method: 'Acpi' })).quit();
    expect(memoryDevices()).toEqual([]);
    await (await booted({ size: 512 * MIB, hotplug_method: 'VirtioMem' })).quit();
    expect(memoryDevices()).toEqual([]);
  });

  it('is a device for each zone that can grow, with the zone’s name and node', async () => {
    const numa = [{ guest_numa_id: 7, memory_zones: ['fixed', 'b'], cpus: [0] }];
    const vmm = await booted(zones, { numa });
    expect(memoryDevices()).toEqual([
      expect.objectContaining({ id: 'a', zone: 'a', requestedSize: 64 * MIB }),
      expect.objectContaining({ id: 'b', zone: 'b', requestedSize: 0, node: 7 }),
    ]);
    expect(vmm.info().device_tree).toHaveProperty('_virtio-pci-b');
    await vmm.quit();
  });

  it('has blocks of no less than a huge page', async () => {
    const huge = { size: 2 * GIB, hugepages: true, hugepage_size: GIB, hotplug_size: GIB } as const;
    await (await booted({ ...huge, hotplug_method: 'VirtioMem' })).quit();
    expect(memoryDevices()).toEqual([expect.objectContaining({ blockSize: GIB })]);
  });

  it('asks for more or less of plain memory, which a reboot keeps', async () => {
    const vmm = await booted(plain);
    await vmm.resize({ desired_ram: 768 * MIB });
    expect(calls()).toContain(`resize mem0 ${256 * MIB}`);
    await vmm.resize({ desired_ram: 512 * MIB });
    expect(calls()).toContain('resize mem0 0');
    await vmm.resize({ desired_ram: 640 * MIB });
    expect(vmm.info().config.memory).toMatchObject({ size: 512 * MIB, hotplugged_size: 128 * MIB });
    await vmm.reboot();
    expect(memoryDevices()).toEqual([expect.objectContaining({ requestedSize: 128 * MIB })]);
    await vmm.quit();
  });

  it('asks for more or less of a zone', async () => {
    const vmm = await booted(zones);
    await vmm.resizeZone('b', GIB);
    expect(calls()).toContain(`resize b ${GIB - 256 * MIB}`);
    expect(vmm.info().config.memory.zones?.[2]).toMatchObject({ hotplugged_size: GIB - 256 * MIB });
    await vmm.quit();
  });

  it('takes the size that it has already, as often as it is asked for it', async () => {
    const vmm = await booted(plain);
    await vmm.resize({ desired_ram: 512 * MIB, desired_vcpus: 1 });
    await vmm.resize({ desired_ram: 640 * MIB });
    await vmm.resize({ desired_ram: 640 * MIB });
    expect(vmm.info().config.memory.hotplugged_size).toBe(128 * MIB);
    await vmm.quit();
  });

  it('has all that is asked for from its next boot on, where there is no machine', async () => {
    const vmm = await booted(plain);
    await vmm.resize({ desired_ram: 768 * MIB });
    await vmm.shutdown();
    await vmm.resize({ desired_ram: 640 * MIB });
    await vmm.boot();
    expect(vmm.info().memory_actual_size).toBe(640 * MIB);
    expect(memoryDevices()).toEqual([expect.objectContaining({ requestedSize: 0 })]);
    await vmm.quit();

    const zoned = await booted(zones);
    await zoned.shutdown();
    await zoned.resizeZone('a', 128 * MIB);
    expect(zoned.info().config.memory.zones?.[0]).not.toHaveProperty('hotplugged_size');
    expect(await refused(zoned.resize({ desired_ram: GIB }))).toContain('The memory is made of zones');
    await zoned.resize({ desired_ram: 640 * MIB });
    await zoned.boot();
    expect(memoryDevices()?.[0]).toMatchObject({ id: 'a', requestedSize: 0 });
    await zoned.quit();
  });

  it('refuses sizes that cannot be', async () => {
    const vmm = await booted(plain);
    const resize = (bytes: number | bigint) => refused(vmm.resize({ desired_ram: bytes }));
    expect(await resize(511 * MIB)).toContain('it has 536870912 from its start');
    expect(await resize(512 * MIB + GIB + 2 * MIB)).toContain('hotplug_size lets it have 1610612736');
    expect(await resize(2n ** 64n - 1n)).toContain('hotplug_size lets it have');
    expect(await resize(513 * MIB)).toContain('must be a multiple of 2097152');
    expect(calls()).toEqual(['boot']);
    expect(await refused(vmm.resizeZone('mem0', GIB))).toContain('There is no memory zone with id "mem0"');
    await vmm.quit();
    const zoned = await booted(zones);
    expect(await refused(zoned.resize({ desired_ram: GIB }))).toContain('The memory is made of zones');
    expect(await refused(zoned.resizeZone('none', GIB))).toContain('There is no memory zone with id "none"');
    expect(await refused(zoned.resizeZone('fixed', GIB))).toContain('cannot change');
    expect(await refused(zoned.resizeZone('a', 255 * MIB))).toContain('from its start');
    await expect(zoned.resizeZone('a', 2 * GIB)).rejects.toMatchObject({ kind: 'failed' });
    await zoned.quit();
  });

  it('cannot be removed', async () => {
    const vmm = await booted(plain);
    await expect(vmm.removeDevice('mem0')).rejects.toThrow('The device mem0 cannot be removed');
    await vmm.quit();
  });

  it('tells what is plugged as memory that the guest has', async () => {
    const vmm = await booted(plain, { balloon: { size: 0 } });
    native.machineStatus = () => ({ mem0: { plugged: 64 * MIB }, __balloon: { ballooned: 16 * MIB } });
    expect(vmm.info().memory_actual_size).toBe(560 * MIB);
    await vmm.quit();
  });

  it('has names that nothing else has', async () => {
    const vmm = newVmm();
    await vmm.create(config({ memory: plain, disks: [{ path: '/d', id: 'mem0' }] }));
    await expect(vmm.boot()).rejects.toMatchObject({ kind: 'conflict' });
    const added = { ...plain, hotplugged_size: MIB };
    await expect(booted(added)).rejects.toThrow('hotplugged_size (1048576) is not a multiple of 2097152');
  });
});
