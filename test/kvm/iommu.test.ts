/**
 * Guests that break the rules of a virtual IOMMU, and of the disk behind it; other devices and the API do not notice.
 */
import path from 'node:path';
import { expect, test } from 'vitest';
import {
  calmsDown,
  diskImage,
  expectAllOk,
  expectOnlyDeviceWarnings,
  nativeThreads,
  openDescriptors,
  privateAnonymousKiB,
  runGuest,
  settles,
  sleep,
  startGuest,
  type Tsvmm,
  temporaryFolder,
} from './support.ts';

const GUEST_KIB = 128 << 10;
/** What a guest can take of the host by mappings, and by all the rest. */
const MAPPINGS_KIB = 256 << 10;
const MEMORY_GROWTH_KIB = 16 << 10;
/** A pause waits ten seconds at most; one that has to wait for requests of a guest's is far from that. */
const LONGEST_PAUSE_MS = 8_000;

interface Options {
  readonly cmdline: string;
  readonly disk?: string;
  readonly args?: readonly string[];
}

/** A VM with a disk behind its IOMMU, and one that is not. */
function start({ cmdline, disk = '', args = [] }: Options): { vmm: Tsvmm; folder: string } {
  const folder = temporaryFolder();
  const disks = [
    `path=${diskImage(folder, 'behind.img')},image_type=raw,id=behind,iommu=on${disk}`,
    `path=${diskImage(folder, 'beside.img')},image_type=raw,id=beside`,
  ];
  const words = ['--disk', ...disks, '--api-socket', path.join(folder, 'api'), ...args];
  return { vmm: startGuest({ cmdline, args: words }), folder };
}

async function put(vmm: Tsvmm, endpoint: string, body?: unknown): Promise<void> {
  const { status, text } = await vmm.api('PUT', endpoint, body);
  expect([200, 204], `${endpoint} ${JSON.stringify(body)}: ${text}`).toContain(status);
}

async function end(vmm: Tsvmm): Promise<void> {
  expectOnlyDeviceWarnings(vmm.stderr);
  await put(vmm, 'vmm.shutdown');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
}

test('malformed requests are refused, and good ones are carried out', async () => {
  const image = diskImage(temporaryFolder(), 'disk.img');
  const args = ['--disk', `path=${image},image_type=raw,iommu=on`];
  await runGuest({ cmdline: 'run=hostile-iommu', args, hostile: true });
});

test('mappings are bounded, and so is the memory that they take', async () => {
  const { vmm } = start({ cmdline: 'run=idle' });
  await vmm.waitFor('idle');
  const before = privateAnonymousKiB(vmm.pid, GUEST_KIB);
  await end(vmm);
  const attacked = start({ cmdline: 'run=hostile-iommu-storm then=idle' });
  await attacked.vmm.ready();
  let most = 0;
  while (!attacked.vmm.stdout.includes('done ')) {
    most = Math.max(most, privateAnonymousKiB(attacked.vmm.pid, GUEST_KIB));
    expect((await attacked.vmm.api('GET', 'vm.counters')).status).toBe(200);
    await sleep(100);
  }
  expectAllOk(attacked.vmm.stdout);
  expect(most).toBeGreaterThan(before + (64 << 10));
  expect(most).toBeLessThan(before + MAPPINGS_KIB);
  await end(attacked.vmm);
});

test('requests that wait for chains in flight keep nobody else waiting', async () => {
  const { vmm } = start({
    cmdline: 'run=hostile-iommu-waits then=idle',
    disk: ',ops_size=1,ops_refill_time=60000',
  });
  await vmm.waitFor('iommu waits');
  for (let round = 0; round < 3; round++) {
    const begin = Date.now();
    await put(vmm, 'vm.pause');
    expect(Date.now() - begin).toBeLessThan(LONGEST_PAUSE_MS);
    expect((await vmm.api('GET', 'vm.counters')).status).toBe(200);
    await put(vmm, 'vm.resume');
  }
  // What the requests wait for goes with the disk.
  await put(vmm, 'vm.remove-device', { id: 'behind', force: true });
  await vmm.waitFor('ok iommu-waits');
  await end(vmm);
});

test('four vCPUs attack it and the disk behind it while disks come and go', async () => {
  const { vmm, folder } = start({
    cmdline: 'run=hostile-iommu-smp,segments',
    args: ['--cpus', 'boot=4', '--platform', 'num_pci_segments=2,iommu_segments=[1]'],
  });
  const file = diskImage(folder, 'third.img');
  const comeAndGo = async (id: string, options: object) => {
    await put(vmm, 'vm.add-disk', { path: file, image_type: 'Raw', id, iommu: true, pci_segment: 1 });
    await put(vmm, 'vm.remove-device', { id, ...options });
  };
  const usage = () => ({ threads: nativeThreads(vmm.pid), descriptors: openDescriptors(vmm.pid) });
  await vmm.waitFor('ok iommu-others');
  const memory = privateAnonymousKiB(vmm.pid, GUEST_KIB);
  let worked = 0;
  let requests = 0;
  for (let round = 0; round < 20; round++) {
    await put(vmm, 'vm.pause');
    await put(vmm, 'vm.resume');
    const { json } = await vmm.api('GET', 'vm.counters');
    worked = Math.max(worked, json.behind.read_ops);
    requests = json.__iommu.requests;
    expect(privateAnonymousKiB(vmm.pid, GUEST_KIB)).toBeLessThan(memory + MEMORY_GROWTH_KIB);
    await comeAndGo(`disk${round}`, { force: true });
    await sleep(50);
  }
  expect(worked, 'the disk behind it is at work meanwhile').toBeGreaterThan(0);
  expect(requests).toBeGreaterThan(100);
  await put(vmm, 'vm.nmi');
  await vmm.waitFor('2 segments ready');
  expect(vmm.stdout).not.toContain('not ok');
  expect(vmm.stdout).toContain('ok iommu-fight');
  // Devices that come and go now leave nothing.
  await comeAndGo('more', { wait_ms: 60_000 });
  const before = usage();
  for (let round = 0; round < 5; round++) await comeAndGo('more', { wait_ms: 60_000 });
  await calmsDown(vmm.pid);
  await settles(() => {
    expect(usage().threads).toEqual(before.threads);
    expect(usage().descriptors).toBeLessThanOrEqual(before.descriptors);
  });
  await end(vmm);
});
