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

  it('shows what the guest is asked to have beside what it has', async () => {
    const vmm = await booted(plain, { balloon: { size: 0 } });
    expect(vmm.info().memory_requested_size).toBe(512 * MIB);
    await vmm.resize({ desired_ram: 768 * MIB, desired_balloon: 100 * MIB });
    native.machineStatus = () => ({ mem0: { plugged: 64 * MIB } });
    expect(vmm.info()).toMatchObject({
      memory_actual_size: 576 * MIB,
      memory_requested_size: 668 * MIB,
    });
    await vmm.shutdown();
    expect(vmm.info()).not.toHaveProperty('memory_requested_size');
    await vmm.quit();
    const fixed = await booted({ size: 512 * MIB });
    expect(fixed.info()).not.toHaveProperty('memory_requested_size');
    await fixed.quit();
  });

  it('is waited for: both ways, of zones, and as long as was asked for', async () => {
    const vmm = await booted(plain, { balloon: { size: 0 } });
    const guest = { plugged: 0, ballooned: 0 };
    let asked = 0;
    native.machineStatus = () => {
      // While a command changes the machine it does not answer.
      if (asked++ === 1) throw Object.assign(new Error('busy'), { code: 'EBUSY' });
      return { mem0: { plugged: guest.plugged }, __balloon: { ballooned: guest.ballooned } };
    };
    const more = vmm.resize({ desired_ram: 640 * MIB, wait_ms: 60_000 });
    setTimeout(() => {
      guest.plugged = 64 * MIB;
    }, 30);
    setTimeout(() => {
      guest.plugged = 128 * MIB;
    }, 60);
    await more;
    expect(guest.plugged).toBe(128 * MIB);
    await expect(vmm.resize({ desired_ram: 512 * MIB, wait_ms: 30 })).rejects.toMatchObject({
      code: 'ERR_TSVMM_TIMEOUT',
      message:
        'The VM could not be resized: The guest has not brought its memory to 536870912 bytes (671088640 so far) ' +
        'within 30 ms',
    });
    // What was not asked for now is not waited for, nor is part of a balloon's page.
    await vmm.resize({ desired_vcpus: 1, wait_ms: 60_000 });
    await vmm.resize({ desired_balloon: 4095, wait_ms: 60_000 });
    expect(await refused(vmm.resize({ desired_balloon: 4096, wait_ms: 1 }))).toContain(
      'not brought its balloon to 4096 bytes (0 so far) within 1 ms',
    );
    await expect(vmm.resizeZone('mem0', 1, -1)).rejects.toThrow(RangeError);
    const vain = refused(vmm.resize({ desired_ram: 640 * MIB, wait_ms: 60_000 }));
    guest.plugged = 0;
    await vmm.shutdown();
    expect(await vain).toBe('The VM could not be resized: VM is not running');
    await vmm.resize({ desired_ram: 640 * MIB, wait_ms: 60_000 });
    await vmm.quit();
  });

  it('is waited for over a reboot, and of one zone alone', async () => {
    const vmm = await booted(zones);
    let plugged = 0;
    native.machineStatus = () => ({ a: { plugged: 0 }, b: { plugged } });
    const more = vmm.resizeZone('b', 512 * MIB, 60_000);
    await vmm.reboot();
    plugged = 256 * MIB;
    await more;
    expect(await refused(vmm.resizeZone('a', 256 * MIB, 1))).not.toContain('has not');
    expect(await refused(vmm.resizeZone('a', 512 * MIB, 1))).toBe(
      'The memory zone could not be resized: The guest has not brought its memory zone a to 536870912 bytes ' +
        '(268435456 so far) within 1 ms',
    );
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
