/** PCI segments on real KVM: devices that are there at boot, that come, and that leave. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import {
  diskImage,
  expectOnlyDeviceWarnings,
  openDescriptors,
  patternSector,
  settles,
  startGuest,
  type Tsvmm,
  temporaryFolder,
} from './support.ts';

const WAIT_MS = 60_000;
const ATTACK_MS = 5000;
const LEAST_ROUNDS = 4;
/** What the guest (test/guest/programs/segments.c) writes to a disk in that slot of that segment. */
const seedOf = (segment: number, slot: number) => BigInt(segment * 32 + slot + 1);

function start(cmdline: string, folder: string, args: readonly string[]): Tsvmm {
  const api = ['--api-socket', path.join(folder, 'api')];
  return startGuest({ cmdline, args: ['--platform', 'num_pci_segments=16', ...args, ...api] });
}

function sectorOf(file: string, sector: number): Buffer {
  return fs.readFileSync(file).subarray(sector * 512, (sector + 1) * 512);
}

test('a disk of segment 1 works, and others come to segments, work and leave, also over a reboot', async () => {
  const folder = temporaryFolder();
  const [boot, late, last] = ['boot', 'late', 'last'].map((name) => diskImage(folder, name)) as [
    string,
    string,
    string,
  ];
  const disk = `path=${boot},image_type=raw,pci_segment=1`;
  const vmm = start('run=segments', folder, ['--disk', disk]);
  const put = async (endpoint: string, body?: object) => {
    const { status, text } = await vmm.api('PUT', endpoint, body);
    return [status, text];
  };
  const add = async (id: string, file: string, pci_segment: number) =>
    await put('vm.add-disk', { id, path: file, image_type: 'Raw', pci_segment });
  const remove = (id: string) => put('vm.remove-device', { id, wait_ms: WAIT_MS });

  await vmm.waitFor('16 segments ready');
  expect(vmm.stdout).toContain('disk 1:0 works');
  expect(sectorOf(boot, 8).equals(patternSector(8, seedOf(1, 0)))).toBe(true);
  expect(await add('late', late, 1)).toEqual([200, '{"id":"late","bdf":"0001:00:01.0"}']);
  await vmm.waitFor('disk 1:1 works');
  expect(sectorOf(late, 8).equals(patternSector(8, seedOf(1, 1)))).toBe(true);
  expect(await add('last', last, 15)).toEqual([200, '{"id":"last","bdf":"000f:00:00.0"}']);
  await vmm.waitFor('disk 15:0 works');
  expect(sectorOf(last, 8).equals(patternSector(8, seedOf(15, 0)))).toBe(true);
  expect(await add('none', boot, 16)).toEqual([
    400,
    JSON.stringify([
      'Error from API',
      'The disk could not be added to the VM',
      'Failed to validate config',
      'PCI segment 16 does not exist: platform.num_pci_segments is 16',
    ]),
  ]);
  for (let round = 2; round <= 20; round++) {
    expect((await remove('late'))[0]).toBe(204);
    expect((await add('late', late, 1))[0]).toBe(200);
    await vmm.waitFor(new RegExp(`(disk 1:1 works[\\s\\S]*){${round}}`));
  }

  const begin = vmm.stdout.length;
  const afterReboot = () => vmm.stdout.slice(begin);
  expect(await put('vm.reboot')).toEqual([204, '']);
  await vmm.waitFor('16 segments ready', afterReboot);
  for (const place of ['1:0', '1:1', '15:0']) expect(afterReboot()).toContain(`disk ${place} works`);
  const { device_tree: tree } = (await vmm.api('GET', 'vm.info')).json;
  const places = ['late', 'last'].map((id) => tree[`_virtio-pci-${id}`].pci_bdf);
  expect(places).toEqual(['0001:00:01.0', '000f:00:00.0']);
  for (const id of ['last', 'late']) expect((await remove(id))[0]).toBe(204);
  await vmm.waitFor(/disk 15:0 left[\s\S]*disk 1:1 left/, afterReboot);
  expect(await add('last', last, 15)).toEqual([200, '{"id":"last","bdf":"000f:00:00.0"}']);
  await vmm.waitFor(/(disk 15:0 works[\s\S]*){2}/, afterReboot);
  expect(vmm.stdout).not.toMatch(/not ok|does nothing/);
  expect(await put('vmm.shutdown')).toEqual([200, '']);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('four vCPUs attack segments while devices come to them and leave', async () => {
  const folder = temporaryFolder();
  const [boot, first, last] = ['boot', 'first', 'last'].map((name) => diskImage(folder, name)) as [
    string,
    string,
    string,
  ];
  const args = ['--disk', `path=${boot},image_type=raw`, '--cpus', 'boot=4'];
  const vmm = start('run=hostile-pci-segments,segments', folder, args);
  const put = async (endpoint: string, body?: object, ...allowed: number[]) => {
    const { status, text } = await vmm.api('PUT', endpoint, body);
    expect([200, 204, ...allowed], `${endpoint} ${JSON.stringify(body)}: ${text}`).toContain(status);
  };
  const addAll = async () => {
    await put('vm.add-disk', { id: 'first', path: first, image_type: 'Raw', pci_segment: 1 });
    await put('vm.add-disk', { id: 'last', path: last, image_type: 'Raw', pci_segment: 15 });
  };
  const pending = async () => {
    const { device_tree: tree } = (await vmm.api('GET', 'vm.info')).json;
    return Object.keys(tree).filter((id) => tree[id].pending_removal);
  };
  await vmm.waitFor('ok segments-others');
  const before = openDescriptors(vmm.pid);
  let rounds = 0;
  for (const end = Date.now() + ATTACK_MS; Date.now() < end || rounds < LEAST_ROUNDS; rounds++) {
    await addAll();
    if (rounds % 2 === 0) for (const id of ['first', 'last']) await put('vm.remove-device', { id });
    // The guest may have given it up meanwhile.
    for (const id of ['last', 'first']) await put('vm.remove-device', { id, wait_ms: 20, force: true }, 404);
    // Names and places are free when the guest has given them up.
    await settles(async () => expect(await pending()).toEqual([]));
  }
  await put('vm.nmi');

  // Who does as it is asked has a machine that works.
  await vmm.waitFor('16 segments ready');
  expect(vmm.stdout).toContain('ok segments-witness');
  await settles(async () => expect(await pending()).toEqual([]));
  const begin = vmm.stdout.length;
  const since = () => vmm.stdout.slice(begin);
  await addAll();
  for (const place of ['1:0', '15:0']) await vmm.waitFor(`disk ${place} works`, since);
  for (const id of ['first', 'last']) await put('vm.remove-device', { id, wait_ms: WAIT_MS });
  expect(since()).not.toMatch(/not ok|does nothing/);
  expectOnlyDeviceWarnings(vmm.stderr);
  // The runtime opens standard error anew for its first message.
  await settles(() => expect(openDescriptors(vmm.pid)).toBeLessThanOrEqual(before + 1));
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});
