import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
import { loadedBytes, makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

let folder: string;
let native: FakeNative;
let randomness: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  native = fakeNative(folder);
  randomness = 0;
  native.randomBytes = (length) => new Uint8Array(length).fill(++randomness);
  writeFileSync(join(folder, 'kernel'), makeElf());
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

/** The generation id that the latest machine was booted with. */
function bootedWith(): Uint8Array {
  const boot = native.machines.at(-1)?.boot;
  if (boot === undefined) throw new Error('nothing was booted');
  return loadedBytes(boot, boot.vmGeneration.address);
}

it('the VM generation id belongs to the VM, over reboots, until it is renewed', async () => {
  const vmm = new Vmm({ native });
  const config = { payload: { kernel: join(folder, 'kernel') }, console: { mode: 'Off' } };
  await vmm.create(decode(vmConfig, config));
  await vmm.boot();
  expect(bootedWith()).toEqual(new Uint8Array(16).fill(1));
  await vmm.reboot();
  expect(bootedWith()).toEqual(new Uint8Array(16).fill(1));
  let told: Uint8Array | undefined;
  native.machineSetVmGeneration = async (_machine, id) => {
    told = id;
  };
  await vmm.renewGeneration();
  expect(told).toEqual(new Uint8Array(16).fill(2));
  await vmm.reboot();
  expect(bootedWith()).toEqual(new Uint8Array(16).fill(2));
  await vmm.delete();
  await vmm.create(decode(vmConfig, config));
  await vmm.boot();
  expect(bootedWith()).toEqual(new Uint8Array(16).fill(3));
  await vmm.quit();
});
