import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
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

async function created(extra: VmConfigInput): Promise<Vmm> {
  const vmm = new Vmm({ native, onEvent: ({ event }) => events.push(event) });
  const payload = { kernel: join(folder, 'kernel') };
  await vmm.create(decode(vmConfig, { payload, console: { mode: 'Off' }, ...extra }));
  return vmm;
}

const calls = () => native.machines.at(-1)?.calls;

async function refused(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'not refused',
    (error: unknown) => describeError(error),
  );
}

describe('vm.resize', () => {
  it('wishes for a balloon of another size, which a reboot keeps', async () => {
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
    expect(await refused(vmm.resize({ desired_vcpus: 2 }))).toContain('is not supported yet');
    expect(await refused(vmm.resize({ desired_ram: MIB }))).toContain('is not supported yet');
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
    expect(await refused(vmm.resize({ desired_ram: most }))).toContain('is not supported yet');
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
