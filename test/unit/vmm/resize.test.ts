import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { type VmConfig, type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
import type { VmmOptions } from '../../../src/vmm/vmmOptions.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

const MIB = 1 << 20;

let folder: string;
let native: FakeNative;
let events: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  native = fakeNative(folder);
  events = [];
  writeFileSync(join(folder, 'kernel'), makeElf());
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

async function created(extra: VmConfigInput, options: Partial<VmmOptions> = {}): Promise<Vmm> {
  const vmm = new Vmm({ native, onEvent: ({ event }) => events.push(event), ...options });
  await vmm.create(config(extra));
  return vmm;
}

function config(extra: VmConfigInput): VmConfig {
  const payload = { kernel: join(folder, 'kernel') };
  return decode(vmConfig, { payload, console: { mode: 'Off' }, ...extra });
}

const calls = () => native.machines.at(-1)?.calls;

async function refused(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'not refused',
    (error: unknown) => describeError(error),
  );
}

describe('vm.resize', () => {
  it('is asked for a balloon of another size, which a reboot keeps', async () => {
    const vmm = await created({ balloon: { size: 0 } });
    await vmm.boot();
    await vmm.resize({ desired_balloon: 64 * MIB });
    expect(calls()).toContain(`resize-balloon ${64 * MIB}`);
    expect(events.slice(-2)).toEqual(['resizing', 'resized']);
    await vmm.reboot();
    expect(native.machines[1]?.boot?.pci.functions).toContainEqual(
      expect.objectContaining({ kind: 'balloon', size: 64 * MIB, id: '__balloon' }),
    );
    await vmm.quit();
  });

  it('takes what is so already', async () => {
    const vmm = await created({});
    await vmm.boot();
    await vmm.resize({});
    await vmm.resize({ desired_vcpus: 1, desired_ram: 512 * MIB });
    expect(calls()).toEqual(['boot']);
    await vmm.quit();
  });

  it('says what cannot be', async () => {
    const vmm = await created({});
    await vmm.boot();
    const start = 'The VM could not be resized: ';
    expect(await refused(vmm.resize({ desired_balloon: 0 }))).toBe(`${start}The VM has no balloon`);
    await expect(vmm.resize({ desired_balloon: 0 })).rejects.toMatchObject({
      kind: 'failed',
      code: 'ERR_TSVMM_MISSING',
    });
    expect(await refused(vmm.resize({ desired_vcpus: 2 }))).toContain('more than cpus.max_vcpus (1)');
    const zonesText = `${start}The memory is made of zones`;
    const zones = [{ id: 'a', size: 512 * MIB }];
    const zoned = await created({ memory: { size: 0, zones } });
    await zoned.boot();
    expect(await refused(zoned.resize({ desired_ram: 640 * MIB }))).toContain(zonesText);
    await zoned.quit();
    await vmm.quit();
    const other = await created({ balloon: { size: 0 } });
    await other.boot();
    expect(await refused(other.resize({ desired_balloon: 512 * MIB }))).toContain('would take all');
    expect(other.info().config.balloon?.size).toBe(0);
    await other.quit();
    expect(await refused(new Vmm({ native }).resize({}))).toBe(`${start}VM is not created`);
  });

  it('keeps sizes of 64 bits, which no machine has', async () => {
    const most = 2n ** 64n - 4096n;
    const vmm = await created({ balloon: { size: 0 } });
    await vmm.resize({ desired_ram: most, desired_balloon: most - 1n });
    expect(vmm.info()).toMatchObject({
      config: { memory: { size: most }, balloon: { size: most - 1n } },
      memory_actual_size: most,
    });
    expect(await refused(vmm.boot())).toBe(
      `The VM could not boot: Guest memory of ${most} bytes is more than any machine can have`,
    );
    expect(vmm.info().state).toBe('Created');
    await vmm.resize({ desired_ram: 512 * MIB, desired_balloon: 0 });
    await vmm.boot();
    expect(await refused(vmm.resize({ desired_balloon: most }))).toContain(`A balloon of ${most} bytes`);
    expect(await refused(vmm.resize({ desired_ram: most }))).toContain('any machine can have');
    await vmm.quit();
  });

  it('edits the configuration of a VM without a machine', async () => {
    const vmm = await created({ balloon: { size: 0 } });
    await vmm.resize({ desired_vcpus: 3, desired_ram: MIB, desired_balloon: 7 });
    const { config } = vmm.info();
    expect([config.cpus.boot_vcpus, config.memory.size, config.balloon?.size]).toEqual([3, MIB, 7]);
    expect(events).not.toContain('resizing');
    await vmm.quit();
  });
});

describe('memory of a machine', () => {
  const growing = (extra: VmConfigInput = {}) =>
    created({ memory: { size: 512 * MIB, hotplug_size: 1024 * MIB }, ...extra });
  const size = (vmm: Vmm) => [vmm.info().config.memory.size, vmm.info().memory_actual_size];

  it('grows by steps, which the next machine has from its boot on', async () => {
    const vmm = await growing();
    await vmm.boot();
    expect(native.machines[0]?.boot?.memoryHotplug).toEqual({ address: 0xfe00_0030, proximity: 0 });
    await vmm.resize({ desired_ram: 640 * MIB });
    await vmm.resize({ desired_ram: 1536 * MIB });
    expect(calls()).toEqual(['boot', `add-memory ${128 * MIB}`, `add-memory ${896 * MIB}`]);
    expect(size(vmm)).toEqual([1536 * MIB, 1536 * MIB]);
    await vmm.reboot();
    expect(native.machines[1]?.spec.memory).toMatchObject({
      zones: [{ regions: [{ address: 0, size: 1536 * MIB }] }],
      growth: { address: 4096 * MIB, size: 1024 * MIB },
    });
    await vmm.quit();
  });

  it('gets smaller, and then up to what the machine has, in the configuration only', async () => {
    const vmm = await growing();
    await vmm.boot();
    await vmm.resize({ desired_ram: 640 * MIB });
    await vmm.resize({ desired_ram: 256 * MIB });
    expect(size(vmm)).toEqual([256 * MIB, 640 * MIB]);
    await vmm.resize({ desired_ram: 640 * MIB });
    await vmm.resize({ desired_ram: 768 * MIB });
    expect(calls()).toEqual(['boot', `add-memory ${128 * MIB}`, `add-memory ${128 * MIB}`]);
    await vmm.resize({ desired_ram: 256 * MIB });
    await vmm.reboot();
    expect(size(vmm)).toEqual([256 * MIB, 256 * MIB]);
    await vmm.quit();
  });

  it('has its limits, and nothing is added beyond them', async () => {
    const vmm = await growing({ balloon: { size: 256 * MIB } });
    await vmm.boot();
    const text = (bytes: number) => refused(vmm.resize({ desired_ram: bytes }));
    expect(await text(513 * MIB)).toMatch(
      /^The VM could not be resized: Memory is added in multiples of 134217728/,
    );
    expect(await text(2048 * MIB)).toContain('more than the 1073741824 that are left of hotplug_size');
    expect(await text(0)).toContain('must not be 0');
    expect(await text(300 * MIB + 1)).toContain('not a multiple of 4096');
    expect(await text(128 * MIB)).toContain('balloon');
    expect(size(vmm)).toEqual([512 * MIB, 512 * MIB]);
    for (let step = 1; step <= 8; step++) await vmm.resize({ desired_ram: (512 + step * 128) * MIB });
    expect(await text(1664 * MIB)).toContain('more than the 0 that are left');
    await expect(vmm.resize({ desired_ram: 1664 * MIB })).rejects.toMatchObject({
      kind: 'failed',
      code: 'ERR_TSVMM_CONFIG',
    });
    await vmm.quit();
    const roomy = await created({ memory: { size: 512 * MIB, hotplug_size: 4096 * MIB } });
    await roomy.boot();
    for (let step = 1; step <= 8; step++) await roomy.resize({ desired_ram: (512 + step * 128) * MIB });
    expect(await refused(roomy.resize({ desired_ram: 1664 * MIB }))).toContain('was added 8 times');
    expect(size(roomy)[0]).toBe(1536 * MIB);
    await roomy.quit();
    const fixed = await created({});
    await fixed.boot();
    expect(await refused(fixed.resize({ desired_ram: 640 * MIB }))).toContain('without hotplug_size');
    await fixed.quit();
  });

  it('is not what the machine after a reset could not have', async () => {
    const vmm = await created({ memory: { size: 512 * MIB, hotplug_size: 2 ** 46 - 2 ** 33 } });
    await vmm.boot();
    expect(await refused(vmm.resize({ desired_ram: 4096 }))).toContain('is too small');
    expect(await refused(vmm.resize({ desired_ram: 2 ** 34 + 512 * MIB }))).toContain('does not fit');
    expect(calls()).toEqual(['boot']);
    await vmm.reboot();
    expect(vmm.info().state).toBe('Running');
    await vmm.quit();
  });

  it('is as it was if the core refuses', async () => {
    const vmm = await growing();
    await vmm.boot();
    const add = native.machineAddMemory;
    native.machineAddMemory = async () => {
      throw Object.assign(new Error('mapping guest memory: Cannot allocate memory'), { code: 'ENOMEM' });
    };
    expect(await refused(vmm.resize({ desired_ram: 640 * MIB }))).toContain('Cannot allocate memory');
    expect(size(vmm)).toEqual([512 * MIB, 512 * MIB]);
    native.machineAddMemory = add;
    await vmm.resize({ desired_ram: 640 * MIB });
    expect(calls()).toContain(`add-memory ${128 * MIB}`);
    await vmm.quit();
  });
});

function later() {
  let finish = () => {};
  const promise = new Promise<void>((resolve) => {
    finish = resolve;
  });
  return { promise, finish };
}

describe('memory that takes long to come', () => {
  const growing = { memory: { size: 512 * MIB, hotplug_size: 1024 * MIB, prefault: true } };

  /** Memory comes until it is called off. */
  async function beginsToGrow(vmm: Vmm) {
    let calledOff: (() => void) | undefined;
    native.machineAddMemory = () =>
      new Promise((_, reject) => {
        calledOff = () => reject(Object.assign(new Error('called off'), { code: 'ECANCELED' }));
      });
    native.onCallOff = () => calledOff?.();
    const grown = refused(vmm.resize({ desired_ram: 1024 * MIB }));
    await vi.waitFor(() => expect(calledOff).toBeDefined());
    return { grown };
  }

  it.each(['shutdown', 'delete', 'reboot'] as const)('is called off by vm.%s', async (command) => {
    const vmm = await created(growing);
    await vmm.boot();
    const { grown } = await beginsToGrow(vmm);
    // Meanwhile it is asked, and says what was so.
    expect(vmm.info().memory_actual_size).toBe(512 * MIB);
    await vmm[command]();
    expect(await grown).toBe('The VM could not be resized: called off');
    await vmm.quit();
  });

  it('is called off by an end that waits behind it', async () => {
    const vmm = await created(growing);
    await vmm.boot();
    const pausing = later();
    native.machinePause = () => pausing.promise;
    const callingOff = later();
    native.onCallOff = callingOff.finish;
    native.machineAddMemory = async () => {
      await callingOff.promise;
      throw Object.assign(new Error('called off'), { code: 'ECANCELED' });
    };
    const paused = vmm.pause();
    const grown = refused(vmm.resize({ desired_ram: 1024 * MIB }));
    const deleted = vmm.delete();
    pausing.finish();
    // What comes before it in its turn is not called off.
    await paused;
    expect(await grown).toBe('The VM could not be resized: called off');
    await deleted;
    // The next one's is nobody's business but its own.
    await vmm.create(config(growing));
    await vmm.boot();
    native.machineAddMemory = async () => {};
    native.onCallOff = () => {
      throw new Error('called off');
    };
    await vmm.resize({ desired_ram: 1024 * MIB });
    native.onCallOff = () => {};
    await vmm.quit();
  });

  it('is called off by a reset of the guest', async () => {
    const vmm = await created(growing);
    await vmm.boot();
    const { grown } = await beginsToGrow(vmm);
    native.machines[0]?.emit({ type: 'reset', cause: 'acpi' });
    expect(await grown).toBe('The VM could not be resized: called off');
    await vi.waitFor(() => expect(native.machines).toHaveLength(2));
    await vmm.quit();
  });

  it('is not called off by what leaves the machine alone', async () => {
    const vmm = await created(growing);
    await vmm.boot();
    native.onCallOff = () => {
      throw new Error('called off');
    };
    const grown = vmm.resize({ desired_ram: 1024 * MIB });
    await vmm.pause();
    await grown;
    await vmm.shutdown();
    await vmm.quit();
  });
});

it('says which fields of plain memory mean nothing beside zones', async () => {
  const zones = [{ id: 'a', size: 512 * MIB }];
  const warned: string[] = [];
  const memory = { size: 0, zones, shared: true, prefault: false, hotplug_size: 0x1000 };
  const vmm = await created({ memory }, { onWarning: (message) => warned.push(message) });
  await vmm.boot();
  await vmm.quit();
  expect(warned).toEqual([
    'memory.shared, memory.hotplug_size mean nothing, as there are memory zones: those of each zone count',
  ]);
});

describe('memory_actual_size', () => {
  it('is what the balloon leaves', async () => {
    const vmm = await created({ balloon: { size: 0 } });
    expect(vmm.info().memory_actual_size).toBe(512 * MIB);
    await vmm.boot();
    native.balloonSize = () => 100 * MIB;
    expect(vmm.info().memory_actual_size).toBe(412 * MIB);
    native.balloonSize = () => 2 ** 44;
    expect(vmm.info().memory_actual_size).toBe(0);
    native.balloonSize = () => {
      throw Object.assign(new Error('the machine is being changed'), { code: 'EBUSY' });
    };
    expect(vmm.info().memory_actual_size).toBe(0);
    await vmm.shutdown();
    expect(vmm.info().memory_actual_size).toBe(512 * MIB);
    await vmm.quit();
  });
});
