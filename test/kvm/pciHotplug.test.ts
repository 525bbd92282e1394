/**
 * PCI devices that come to a machine that runs, and leave it, on real KVM: with a guest that does as it is asked, and
 * with one that attacks the controller, the slots, and what is in them.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import {
  type ApiAnswer,
  calmsDown,
  diskImage,
  expectOnlyDeviceWarnings,
  guestArgs,
  nativeThreads,
  openDescriptors,
  privateAnonymousKiB,
  settles,
  Tsvmm,
  temporaryFolder,
} from './support.ts';

const WAIT_MS = 60_000;
/** An answer that takes longer is none: a pause, or the end of a device, is given up after ten seconds. */
const LONGEST_ANSWER_MS = 20_000;
const GUEST_KIB = 128 << 10;
const MEMORY_GROWTH_KIB = 16 << 10;
/** Pieces that the runtime's own memory may be in more than before. */
const SOME_MAPS = 32;

const canMakeTaps = process.getuid?.() === 0 && fs.existsSync('/dev/net/tun');
if (!canMakeTaps) console.log('SKIPPED: networks that come and go: they need root and /dev/net/tun');

/** Words that run a command where it can make taps that are nobody else's. */
function tapPrefix(): string[] {
  if (!canMakeTaps) return [];
  const name = `tsvmm-slots-${process.pid}`;
  execFileSync('ip', ['netns', 'add', name]);
  onTestFinished(() => void execFileSync('ip', ['netns', 'del', name]));
  return ['ip', 'netns', 'exec', name];
}

/** A VM with a disk of its own, and devices for it. */
class Slots {
  readonly vmm: Tsvmm;
  longestMs = 0;
  private readonly folder = temporaryFolder();
  private readonly files: Record<string, string>;

  constructor(cmdline: string, args: readonly string[] = []) {
    const words = ['--disk', `path=${diskImage(this.folder, 'boot.img')},image_type=raw`];
    words.push('--api-socket', path.join(this.folder, 'api'), ...args);
    this.vmm = new Tsvmm(guestArgs({ cmdline, args: words }), { prefix: tapPrefix() });
    this.files = { disk: diskImage(this.folder, 'a.img'), pmem: diskImage(this.folder, 'p.img') };
  }

  /** Devices of all kinds that there can be, by what adds them. */
  get devices(): [endpoint: string, device: { id: string }][] {
    return [
      ['vm.add-disk', { path: this.files.disk, image_type: 'Raw', id: 'disk' }],
      ...(canMakeTaps ? [['vm.add-net', { id: 'net' }] satisfies [string, { id: string }]] : []),
      ['vm.add-pmem', { file: this.files.pmem, id: 'pmem' }],
      ['vm.add-vsock', { cid: 3, socket: path.join(this.folder, 'vsock'), id: 'vsock' }],
    ] as [string, { id: string }][];
  }

  async call(method: string, endpoint: string, body?: unknown): Promise<ApiAnswer> {
    const begin = Date.now();
    const answer = await this.vmm.api(method, endpoint, body);
    this.longestMs = Math.max(this.longestMs, Date.now() - begin);
    return answer;
  }

  async put(endpoint: string, body?: unknown, expected = [200, 204]): Promise<void> {
    const { status, text } = await this.call('PUT', endpoint, body);
    expect(expected, `${endpoint} ${JSON.stringify(body)}: ${text}`).toContain(status);
  }

  /** Devices that the guest was asked to give up and has not. */
  async pending(): Promise<string[]> {
    const { device_tree: tree } = (await this.call('GET', 'vm.info')).json;
    return Object.keys(tree).filter((id) => tree[id].pending_removal);
  }

  async addAll(): Promise<void> {
    for (const [endpoint, device] of this.devices) await this.put(endpoint, device);
  }

  /** @param gone the guest may have given some up already */
  async removeAll(options: object, gone = false): Promise<void> {
    const expected = gone ? [204, 404] : [204];
    for (const [, { id }] of this.devices) await this.put('vm.remove-device', { id, ...options }, expected);
  }

  /** Waits until an attacker has had the disk do something. */
  async attacked(): Promise<void> {
    await settles(async () => {
      const { disk } = (await this.call('GET', 'vm.counters')).json;
      expect(disk.read_ops + disk.write_ops).toBeGreaterThan(0);
    });
  }

  /** Waits until the guest has used so many devices. */
  async used(count: number, begin = 0): Promise<void> {
    await settles(() => expect(this.vmm.stdout.slice(begin).match(/ works/g)).toHaveLength(count));
  }

  /** What of the host the VM has. */
  usage() {
    const { pid } = this.vmm;
    const maps = fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n');
    return {
      threads: nativeThreads(pid),
      descriptors: openDescriptors(pid),
      files: maps.filter((line) => line.includes(this.folder)).length,
      maps: maps.length,
      memoryKiB: privateAnonymousKiB(pid, GUEST_KIB),
    };
  }

  /**
   * That it has no more than before.
   * @param removedMemory persistent memories that have left since: the address space of each is the machine's, because
   *   another device may have a ring there
   */
  async expectNothingLeft(before: ReturnType<Slots['usage']>, removedMemory: number): Promise<void> {
    await calmsDown(this.vmm.pid);
    await settles(() => {
      const now = this.usage();
      expect(now.threads).toEqual(before.threads);
      // The runtime opens standard error anew for its first message.
      expect(now.descriptors).toBeLessThanOrEqual(before.descriptors + 1);
      expect(now.files).toBe(before.files);
      expect(now.maps).toBeLessThan(before.maps + removedMemory + SOME_MAPS);
      expect(now.memoryKiB).toBeLessThan(before.memoryKiB + MEMORY_GROWTH_KIB);
    });
    const { config } = (await this.call('GET', 'vm.info')).json;
    expect(config.disks).toHaveLength(1);
    for (const kind of ['net', 'pmem', 'vsock']) expect(config[kind] ?? []).toEqual([]);
  }

  async end(): Promise<void> {
    await this.put('vmm.shutdown');
    expect(await this.vmm.exit()).toEqual({ code: 0, signal: null });
  }
}

test('devices of every kind come, are used, and leave with what they have in flight', async () => {
  const slots = new Slots('run=slots');
  const { vmm } = slots;
  await vmm.waitFor('slots ready');
  const count = slots.devices.length;
  // What is opened once, at the first time.
  await slots.addAll();
  await slots.used(count);
  await slots.removeAll({ wait_ms: WAIT_MS });
  const before = slots.usage();
  const rounds = 25;
  for (let round = 1; round <= rounds; round++) {
    await slots.addAll();
    await slots.used((round + 1) * count);
    await slots.removeAll({ wait_ms: WAIT_MS });
  }
  expect(vmm.stdout).not.toContain('does nothing');
  await slots.expectNothingLeft(before, rounds);
  await slots.end();
});

test('four vCPUs attack slots and controller while devices come and go', async () => {
  const slots = new Slots('run=hostile-pci,slots', ['--cpus', 'boot=4']);
  const { vmm } = slots;
  await vmm.waitFor('ok pci-others');
  // What is opened once, at the first time.
  await slots.addAll();
  await slots.removeAll({ force: true });
  await settles(async () => expect(await slots.pending()).toEqual([]));
  const before = slots.usage();
  const rounds = 9;
  for (let round = 0; round < rounds; round++) {
    await slots.addAll();
    if (round % 3 === 0) await slots.attacked();
    if (round % 3 === 1) {
      await slots.put('vm.pause');
      await slots.put('vm.resume');
    }
    const asked = round % 2 === 0;
    if (asked) await slots.removeAll({});
    await slots.removeAll({ wait_ms: round % 4 === 0 ? 0 : 20, force: true }, asked);
    // Names and places are free when the guest has given up its last.
    await settles(async () => expect(await slots.pending()).toEqual([]));
  }
  expect(slots.longestMs).toBeLessThan(LONGEST_ANSWER_MS);

  // Who does as it is asked has a machine that works.
  await slots.put('vm.nmi');
  await vmm.waitFor('slots ready');
  expect(vmm.stdout).toContain('ok pci-witness');
  expect(vmm.stdout).not.toContain('not ok');
  const begin = vmm.stdout.length;
  await slots.addAll();
  await slots.used(slots.devices.length, begin);
  await slots.removeAll({ wait_ms: WAIT_MS });
  expectOnlyDeviceWarnings(vmm.stderr);
  await slots.expectNothingLeft(before, rounds + 1);
  await slots.end();
});
