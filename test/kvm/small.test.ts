/** The small devices: balloon, persistent memory, clock, panic, VM generation. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { VirtualMachine } from '../../src/index.ts';
import type { NativeAddon } from '../../src/native.ts';
import {
  contextSwitches,
  PAYLOAD,
  ROOT,
  runGuest,
  settles,
  sleep,
  startGuest,
  temporaryFolder,
  until,
} from './support.ts';

const MIB = 1 << 20;

/** Memory that is no file's: the guest's for the most part. */
function residentKiB(pid: number): number {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  const [anonymous, shared] = ['RssAnon', 'RssShmem'].map((name) =>
    Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]),
  );
  return (anonymous ?? Number.NaN) + (shared ?? Number.NaN);
}

test.each([
  ['anonymous memory', '128M'],
  ['shared memory', '128M,shared=on'],
  ['mergeable memory', '128M,mergeable=on'],
  ['small pages', '128M,thp=off'],
])('a balloon gives %s back', async (_what, memory) => {
  const api = path.join(temporaryFolder(), 'api');
  const vmm = startGuest({
    cmdline: 'run=balloon pages=16384 then=idle',
    memory,
    args: ['--balloon', 'size=0,free_page_reporting=on', '--api-socket', api],
  });
  await vmm.ready();
  // The core keeps the answer to a request that comes again, and knows the balloon of each moment.
  const memorySizes = new Set<number>();
  const look = async () => memorySizes.add((await vmm.api('GET', 'vm.info')).json.memory_actual_size);
  while (!vmm.stdout.includes('ok balloon-deflate') && !vmm.stdout.includes('done ')) await look();
  await vmm.waitFor('ok balloon-deflate');
  expect(Math.max(...memorySizes)).toBe(128 * MIB);
  expect(vmm.stdout).not.toContain('not ok');
  // 64 MiB were written before they went into the balloon.
  expect(residentKiB(vmm.pid)).toBeLessThan(32 << 10);
  expect((await vmm.api('GET', 'vm.info')).json.memory_actual_size).toBe(64 * MIB);
  const { __balloon: counters } = (await vmm.api('GET', 'vm.counters')).json;
  expect(counters).toMatchObject({
    target_bytes: 0,
    actual_bytes: 64 * MIB,
    inflated_bytes: 64 * MIB,
    deflated_bytes: MIB,
    reported_bytes: 4096,
    free_bytes: 0x0706_0504_0302_01,
  });
  expect((await vmm.api('PUT', 'vm.resize', { desired_balloon: 32 * MIB })).status).toBe(204);
  expect((await vmm.api('GET', 'vm.counters')).json.__balloon.target_bytes).toBe(32 * MIB);
  expect((await vmm.api('PUT', 'vm.resize', { desired_balloon: 128 * MIB })).status).toBe(500);
  for (const change of ['vm.pause', 'vm.resume']) {
    expect((await vmm.api('PUT', change)).status).toBe(204);
    expect((await vmm.api('GET', 'vm.info')).json.memory_actual_size).toBe(64 * MIB);
  }
  // Nothing of all this makes an idle machine wake.
  await vmm.waitFor('done ');
  const switches = () =>
    Object.entries(contextSwitches(vmm.pid)).filter(([thread]) => thread.includes('serial-manager'));
  await settles(async () => {
    const before = switches();
    await sleep(1500);
    expect(switches()).toEqual(before);
  });
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  await vmm.exit();
});

test('page numbers from nowhere do no harm', async () => {
  await runGuest({ cmdline: 'run=hostile-balloon-numbers,serial', args: ['--balloon', 'size=0'] });
});

test.each(['hostile-balloon', 'hostile-pmem', 'hostile-rtc'])('%s', async (program) => {
  const file = path.join(temporaryFolder(), 'pmem');
  fs.writeFileSync(file, '');
  fs.truncateSync(file, 2 * MIB);
  const args = ['--balloon', 'size=0,free_page_reporting=on', '--rtc', '--pmem', `file=${file}`];
  await runGuest({ cmdline: `run=${program},balloon,rtc,pmem`, args, hostile: true });
});

test('persistent memory is its file, and follows its BAR', async () => {
  const file = path.join(temporaryFolder(), 'pmem');
  fs.writeFileSync(file, Buffer.alloc(6 * MIB, 0x11));
  const output = await runGuest({ cmdline: 'run=pmem', args: ['--pmem', `file=${file}`] });
  expect(output).toContain(`pmem size ${6 * MIB} first 0x1111111111111111`);
  const bytes = fs.readFileSync(file);
  expect(bytes.readUInt32LE(0)).toBe(1);
  for (let at = 4096; at < bytes.length; at += 4096) {
    expect(bytes.readBigUInt64LE(at)).toBe(BigInt(at ^ 0x1234));
  }
});

test('persistent memory leaves a file alone that is not to change', async () => {
  const file = path.join(temporaryFolder(), 'pmem');
  fs.writeFileSync(file, Buffer.alloc(2 * MIB, 0x11));
  fs.chmodSync(file, 0o400);
  await runGuest({ cmdline: 'run=pmem', args: ['--pmem', `file=${file},discard_writes=on`] });
  expect(fs.readFileSync(file).equals(Buffer.alloc(2 * MIB, 0x11))).toBe(true);
});

/** A folder with little room, or undefined where this user cannot mount one. */
function smallFileSystem(kib: number): string | undefined {
  const folder = temporaryFolder();
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${kib}k`, 'none', folder], {
    encoding: 'utf8',
  });
  if (status === 0) return folder;
  console.log(`skipped: no small file system can be mounted here: ${stderr.trim()}`);
  return undefined;
}

test('persistent memory on a full file system stops, and its guest lives on', async (context) => {
  const native = createRequire(import.meta.url)(path.join(ROOT, 'dist/tsvmm.node')) as NativeAddon;
  if (!native.hostInfo().hardwareVirtualization) {
    console.log(
      "skipped: this KVM's emulator does not say which of a guest's accesses the host could not make",
    );
    return context.skip();
  }
  const folder = smallFileSystem(256);
  if (folder === undefined) return context.skip();
  try {
    const file = path.join(folder, 'pmem');
    fs.writeFileSync(file, '');
    fs.truncateSync(file, 2 * MIB);
    const vmm = startGuest({ cmdline: 'run=pmem,serial', args: ['--pmem', `file=${file}`] });
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(vmm.stdout).toContain('ok pmem-memory');
    expect(vmm.stdout).toContain('not ok pmem-flush');
    expect(vmm.stderr).toContain('its file system is full');
    expect(vmm.stderr).toContain('stopped: persistent memory without its file');
  } finally {
    spawnSync('umount', ['-l', folder]);
  }
});

test('a paused machine with persistent memory can be deleted', async () => {
  const folder = temporaryFolder();
  const vmm = startGuest({
    cmdline: 'run=serial then=idle',
    args: ['--pmem', `file=${folder},size=2M`, '--api-socket', path.join(folder, 'api')],
  });
  await vmm.waitFor('done ');
  await vmm.ready();
  expect((await vmm.api('PUT', 'vm.pause')).status).toBe(204);
  expect((await vmm.api('PUT', 'vm.delete')).status).toBe(204);
  vmm.kill('SIGTERM');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('the clock tells the time', async () => {
  const before = BigInt(Date.now()) * 1_000_000n;
  const output = await runGuest({ cmdline: 'run=rtc', args: ['--rtc'] });
  const [, clocks, utc] = /clocks (\d+) utc (\d+)/.exec(output) ?? [];
  expect(Number(clocks)).toBeGreaterThanOrEqual(2);
  expect(BigInt(utc ?? 0)).toBeGreaterThanOrEqual(before - 1_000_000n);
  expect(BigInt(utc ?? 0)).toBeLessThanOrEqual(BigInt(Date.now() + 1) * 1_000_000n);
});

test('a panic is told once', async () => {
  const events = path.join(temporaryFolder(), 'events');
  await runGuest({
    cmdline: 'run=pvpanic',
    args: ['--pvpanic', '--event-monitor', `path=${events}`],
    stderr:
      /^.*warning: The guest's kernel failed and goes on with its crash kernel\r?\n.*warning: The guest's kernel panicked\r?\n$/,
  });
  const told = fs
    .readFileSync(events, 'utf8')
    .split('\n\n')
    .filter((text) => text !== '')
    .map((text) => JSON.parse(text))
    .filter(({ source }) => source === 'guest');
  expect(told.map(({ event, properties }) => [event, properties])).toEqual([
    ['panic', { event: 'crash_loaded' }],
    ['panic', { event: 'panic' }],
    ['power-off', null],
  ]);
});

test('a library program hears of a panic', async () => {
  const vm = await VirtualMachine.create({
    kernel: PAYLOAD,
    cmdline: 'run=pvpanic',
    memory: '128M',
    pvpanic: true,
  });
  onTestFinished(() => vm.close());
  const panics: string[] = [];
  vm.on('panic', (event) => panics.push(event));
  await vm.boot();
  await vm.exited;
  expect(panics).toEqual(['crash_loaded', 'panic']);
});

test('the VM generation id stays over a reboot and changes when it is renewed', async () => {
  const vm = await VirtualMachine.create({
    kernel: PAYLOAD,
    cmdline: 'run=generation then=idle',
    memory: '128M',
    serial: 'stream',
  });
  onTestFinished(() => vm.close());
  let text = '';
  vm.serial.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  const generations = () => [...text.matchAll(/generation ([0-9a-f]{32})\r?\n/g)].map(([, id]) => id);
  const told = (count: number) =>
    until(
      () => generations().length >= count,
      () => text,
    );
  await vm.boot();
  await told(1);
  await vm.reboot();
  await told(2);
  // The guest needs a moment to be ready for the interrupt.
  await sleep(100);
  await vm.renewGeneration();
  await told(3);
  const [first, second, third] = generations();
  expect(first).toBe(second);
  expect(third).not.toBe(second);
  expect(first).not.toBe('0'.repeat(32));
  expect(text).toContain('ok generation');
});
