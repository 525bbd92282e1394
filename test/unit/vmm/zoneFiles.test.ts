import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

const MIB = 1 << 20;

let folder: string;
let native: FakeNative;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  native = fakeNative(folder);
  writeFileSync(join(folder, 'kernel'), makeElf());
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

async function bootedWith(file: string): Promise<Vmm> {
  const vmm = new Vmm({ native });
  const zones = [
    { id: 'plain', size: 64 * MIB },
    { id: 'filed', size: 64 * MIB, file, shared: true, hotplug_size: 128 * MIB },
  ];
  const memory = { size: 0, hotplug_method: 'VirtioMem', zones } as const;
  const payload = { kernel: join(folder, 'kernel') };
  await vmm.create(decode(vmConfig, { payload, memory, console: { mode: 'Off' } }));
  await vmm.boot();
  return vmm;
}

test('a zone has the file of its name, and each of its machines opens it', async () => {
  const file = join(folder, 'memory');
  writeFileSync(file, '');
  const vmm = await bootedWith(file);
  const { zones } = native.machines[0]?.spec.memory ?? { zones: [] };
  expect(zones[0]?.file).toBeUndefined();
  expect(zones[1]?.file).toBeDefined();
  await vmm.reboot();
  expect(native.machines[1]?.spec.memory.zones[1]?.file).toBeDefined();
  await vmm.quit();
});

test('a file that is not there is an error that names it, with no machine begun', async () => {
  const failure = await bootedWith(join(folder, 'none')).catch(describeError);
  expect(failure).toMatch(
    /^The VM could not boot: Cannot open file .*none of the memory zone filed: .*ENOENT/,
  );
  expect(native.machines).toEqual([]);
});

test('a file that somebody writes to as a disk is none for memory', async () => {
  const file = join(folder, 'disk');
  writeFileSync(file, '');
  const disk = native.openFile(file, 2, 0, 1);
  expect(native.lockRange(disk, true, 0, 0)).toBe(true);
  const failure = await bootedWith(file).catch(describeError);
  expect(failure).toMatch(
    /^The VM could not boot: Cannot open file .*disk of the memory zone filed: Another process/,
  );
  expect(native.machines).toEqual([]);
  // Somebody who is killed may keep it for a moment.
  setTimeout(() => native.unlockRange(disk, 0, 0), 50);
  const vmm = await bootedWith(file);
  await vmm.quit();
  native.closeFile(disk);
});
