/** The library in a process of ours: several VMs, their streams, their end. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { VirtualMachine, type VirtualMachineOptions } from '../../src/index.ts';
import {
  diskImage,
  expectAllOk,
  nativeThreads,
  openDescriptors,
  PAYLOAD,
  ROOT,
  sleep,
  temporaryFolder,
  until,
} from './support.ts';

/** A VM with the payload, closed when the test ends. */
async function create(cmdline: string, options: VirtualMachineOptions = {}): Promise<VirtualMachine> {
  const vm = await VirtualMachine.create({ kernel: PAYLOAD, cmdline, memory: '128M', ...options });
  onTestFinished(() => vm.close());
  return vm;
}

/** Collects what the guest writes. */
function collect(vm: VirtualMachine): { readonly text: string } {
  const collected = { text: '' };
  vm.serial.on('data', (chunk: Buffer) => {
    collected.text += chunk.toString('latin1');
  });
  return collected;
}

const contains = (collected: { readonly text: string }, wanted: string): Promise<void> =>
  until(
    () => collected.text.includes(wanted),
    () => `no ${wanted} in ${collected.text}`,
  );

test('runs a guest to its end', async () => {
  const vm = await create('run=serial', { serial: 'stream' });
  const output = collect(vm);
  expect(vm.state).toBe('created');
  const started = new Promise<string>((resolve) => vm.once('booted', () => resolve(vm.state)));
  await vm.boot();
  // Looked at when it is told: this guest may have ended by the time that boot's answer is heard.
  expect(await started).toBe('running');
  expect(await vm.exited).toEqual({ reason: 'power-off', code: 0 });
  expect(vm.state).toBe('none');
  expectAllOk(output.text);
});

test('talks to the guest', async () => {
  const vm = await create('run=serial-echo', { serial: 'stream' });
  await vm.boot();
  await vm.serial.waitFor('ready');
  vm.serial.write('library!');
  await vm.serial.waitFor(/LIB[A-Z]+!/, { timeoutMs: 60_000 });
  await vm.exited;
});

/** What the guest's serial-flood writes (test/guest/programs/serial.c). */
function flood(size: number): string {
  let text = '';
  for (let line = 0; line < size / 64; line++) {
    for (let i = 0; i < 63; i++) text += String.fromCharCode('0'.charCodeAt(0) + ((line + i) % 64));
    text += '\n';
  }
  return text;
}

test('a slow reader gets every byte, also of a guest that is gone by then', async () => {
  const size = 320 * 1024;
  const vm = await create(`run=serial-flood size=${size}`, { serial: 'stream' });
  await vm.boot();
  let text = '';
  for await (const chunk of vm.serial) {
    text += chunk;
    // Leaving the loop leaves the stream.
    if (text.length > size / 2) break;
    await sleep(1);
  }
  await vm.exited;
  for await (const chunk of vm.serial) {
    text += chunk;
    await sleep(20);
  }
  expect(text.startsWith(flood(size))).toBe(true);
  expect(text.slice(size)).toBe('ok serial-flood\ndone 1\n');
});

test('the virtio console is a stream, too', async () => {
  const vm = await create('run=console-echo', { serial: 'stream', console: 'stream' });
  const output = collect(vm);
  await vm.boot();
  let text = '';
  for await (const chunk of vm.console) {
    text += chunk;
    if (text === 'ready\n') vm.console.write('hello, console!');
  }
  expect(text).toBe('ready\nHELLO, CONSOLE!');
  expect((await vm.exited).reason).toBe('power-off');
  expectAllOk(output.text);
});

test('pause, resume, reboot, shutdown and boot again', async () => {
  const vm = await create('run=spin every=10000', { serial: 'stream' });
  const seen: string[] = [];
  for (const name of ['booted', 'paused', 'resumed', 'rebooted', 'shutdown'] as const) {
    vm.on(name, () => seen.push(name));
  }
  const output = collect(vm);
  await vm.boot();
  await contains(output, '...');
  await vm.pause();
  expect(vm.state).toBe('paused');
  await sleep(50);
  const paused = output.text;
  await sleep(100);
  expect(output.text).toBe(paused);
  await vm.resume();
  await contains(output, `${paused}..`);
  await vm.reboot();
  await until(
    () => output.text.match(/spinning/g)?.length === 2,
    () => 'no second start',
  );
  await vm.shutdown();
  expect(vm.state).toBe('created');
  await vm.boot();
  await vm.close();
  expect(await vm.exited).toEqual({ reason: 'request', code: 0 });
  expect(seen).toEqual(['booted', 'paused', 'resumed', 'rebooted', 'shutdown', 'booted', 'shutdown']);
});

test('power button and NMI', async () => {
  const vm = await create('run=nmi,power-button', { serial: 'stream' });
  const output = collect(vm);
  await vm.boot();
  await contains(output, 'waiting\n');
  await vm.nmi();
  await contains(output, 'event register');
  await sleep(20);
  await vm.powerButton();
  await vm.exited;
  expectAllOk(output.text);
});

test('many machines in one process, at once, each with its own disk', async () => {
  const folder = temporaryFolder();
  const vms = await Promise.all(
    Array.from({ length: 12 }, async (_, i) => {
      const disk = diskImage(folder, `${i}.img`);
      const vm = await create(`run=blk-rw,blk-verify seed=${i + 1}`, { serial: 'stream', disks: [disk] });
      return { vm, output: collect(vm) };
    }),
  );
  await Promise.all(vms.map(({ vm }) => vm.boot()));
  for (const { vm, output } of vms) {
    expect(await vm.exited).toEqual({ reason: 'power-off', code: 0 });
    expectAllOk(output.text);
  }
  expect(nativeThreads(process.pid)).toEqual([]);
});

test('two hundred machines one after another leave nothing behind', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const run = async () => {
    const vm = await VirtualMachine.create({
      kernel: PAYLOAD,
      cmdline: 'run=blk-info',
      memory: '128M',
      disks: [disk],
      serial: 'null',
    });
    await vm.boot();
    expect((await vm.exited).reason).toBe('power-off');
  };
  for (let i = 0; i < 20; i++) await run();
  const before = openDescriptors(process.pid);
  for (let i = 0; i < 180; i++) await run();
  expect(openDescriptors(process.pid)).toBeLessThanOrEqual(before + 2);
  expect(nativeThreads(process.pid)).toEqual([]);
});

test('one machine ends while another in the process works', async () => {
  const steady = await create('run=spin every=10000', { serial: 'stream' });
  const output = collect(steady);
  await steady.boot();
  for (let i = 0; i < 5; i++) {
    const short = await create('run=serial');
    await short.boot();
    await short.exited;
  }
  const before = output.text.length;
  await sleep(200);
  expect(output.text.length).toBeGreaterThan(before);
});

test('errors say what and why, and leave the VM usable', async () => {
  await expect(create('', { memory: 'much' })).rejects.toThrow(/"much"/);
  const vm = await create('run=serial', { kernel: '/nonexistent/kernel' });
  const error = await vm.boot().catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(Error);
  expect((error as Error).message).toMatch(
    /^The VM could not boot: Cannot open kernel file \/nonexistent\/kernel: .*No such file or directory$/,
  );
  expect(vm.state).toBe('created');
  await expect(vm.pause()).rejects.toThrow('The VM could not be paused');
  await vm.close();
  await vm.close();
});

test('a guest that breaks its device is reported', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const vm = await create('run=hostile-cycles', { serial: 'stream', disks: [disk] });
  const failed: string[] = [];
  vm.on('event', ({ source, event, properties }) => {
    if (source === 'virtio-device' && event === 'failed') failed.push(properties?.reason ?? '');
  });
  const output = collect(vm);
  await vm.boot();
  await vm.exited;
  expectAllOk(output.text);
  expect(failed).toContain('descriptor chain is longer than the queue');
});

test('closing while starting, and twice at once', async () => {
  for (let i = 0; i < 20; i++) {
    const vm = await create('run=spin', { disks: [diskImage(temporaryFolder(), 'disk.img')] });
    const boot = vm.boot().catch(() => {});
    if (i % 2 === 1) await sleep(i / 4);
    await Promise.all([boot, vm.close(), vm.close()]);
    expect(vm.state).toBe('none');
  }
});

describe("a user's program", () => {
  const program = path.join(ROOT, 'test/kvm/libraryProgram.mjs');
  const bun = path.join(ROOT, 'node_modules/.bin/bun');
  test.each([
    ['Node.js', process.execPath, 'index.js'],
    ['Node.js, CommonJS', process.execPath, 'index.cjs'],
    ['Bun', bun, 'index.js'],
  ])('%s', (_name, runtime, library) => {
    expect(fs.existsSync(path.join(ROOT, 'dist/js', library))).toBe(true);
    const output = execFileSync(runtime, [program, path.join(ROOT, 'dist/js', library), PAYLOAD], {
      encoding: 'utf8',
      timeout: 120_000,
    });
    expect(JSON.parse(output)).toEqual({
      text: expect.stringMatching(
        /^hello from ring 3\nok serial\nvsock ready.*\nok vsock-serve\nrefused 1\ndone 2\n$/,
      ),
      reason: 'power-off',
      echoed: 'there and back',
      refused: 'ECONNREFUSED',
    });
  });
});
