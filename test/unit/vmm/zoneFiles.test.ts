import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { describeError } from '../../../src/vmm/errors.ts';
import type { Vmm } from '../../../src/vmm/vmm.ts';
import { booted, folder, native } from './vmmFixture.ts';

const MIB = 1 << 20;

function bootedWith(file: string): Promise<Vmm> {
  const zones = [
    { id: 'plain', size: 64 * MIB },
    { id: 'filed', size: 64 * MIB, file, shared: true, hotplug_size: 128 * MIB },
  ];
  return booted({}, { memory: { size: 0, hotplug_method: 'VirtioMem', zones } });
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

test('a file that cannot be locked is named, and nothing is left open', async () => {
  const file = join(folder, 'memory');
  writeFileSync(file, '');
  native.lockRange = () => {
    throw Object.assign(new Error('ENOLCK: no locks available'), { code: 'ENOLCK' });
  };
  const failure = await bootedWith(file).catch(describeError);
  expect(failure).toMatch(/Cannot open file .*memory of the memory zone filed: ENOLCK/);
  expect(native.files.open.size).toBe(0);
});
