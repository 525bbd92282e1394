import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ConfigError, VirtualMachine, VmmError } from '../../../src/index.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

let folder: string;
let kernel: string;
let native: FakeNative;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  kernel = join(folder, 'kernel');
  native = fakeNative(folder);
  writeFileSync(kernel, makeElf());
});

afterEach(() => {
  expect([...native.files.open]).toEqual([]);
  rmSync(folder, { recursive: true });
});

describe('a virtual machine', () => {
  it('lives and tells of it', async () => {
    const vm = await VirtualMachine.create({ kernel, cpus: 2, memory: '64M' }, { native });
    const told: string[] = [];
    for (const name of ['booted', 'paused', 'resumed', 'rebooted', 'shutdown'] as const) {
      vm.on(name, () => told.push(name));
    }
    const onExit = vi.fn();
    vm.on('exit', onExit);
    expect(vm.state).toBe('created');
    await vm.boot();
    await vm.pause();
    await vm.resume();
    await vm.reboot();
    await vm.powerButton();
    await vm.nmi();
    expect(vm.info()).toMatchObject({ state: 'Running', memory_actual_size: 64 * 2 ** 20 });
    expect(vm.counters()).toHaveProperty('_disk0');
    await vm.shutdown();
    await vm.boot();
    await vm.close();
    await vm.close();
    expect(told).toEqual(['booted', 'paused', 'resumed', 'rebooted', 'shutdown', 'booted', 'shutdown']);
    expect(onExit.mock.calls).toEqual([[{ reason: 'request', code: 0 }]]);
    expect(native.machines[0]?.spec.vcpus).toHaveLength(2);
    expect(native.machines[1]?.calls).toEqual(['boot', 'power-button', 'nmi', 'destroy']);
  });

  it('ends when its guest does', async () => {
    const vm = await VirtualMachine.create({ payload: { kernel }, console: { mode: 'Off' } }, { native });
    const events: string[] = [];
    vm.on('event', ({ event }) => events.push(event));
    vm.on('warning', (message) => events.push(message));
    await vm.boot();
    native.machines[0]?.emit({ type: 'device-failed', id: '__rng', reason: 'bad ring' });
    native.machines[0]?.emit({ type: 'power-off' });
    await expect(vm.exited).resolves.toEqual({ reason: 'power-off', code: 0 });
    expect(vm.state).toBe('none');
    expect(events).toContain('The device __rng stopped: bad ring');
    await expect(vm.boot()).rejects.toThrow('The VM could not boot');
  });

  it('is closed at the end of its scope', async () => {
    const dispose = async () => {
      const vm = await VirtualMachine.create({ kernel }, { native });
      await vm.boot();
      await vm[Symbol.asyncDispose]();
      return vm;
    };
    expect((await dispose()).state).toBe('none');
    expect(native.machines[0]?.calls.at(-1)).toBe('destroy');
  });

  it('are many, and know nothing of each other', async () => {
    const vms = await Promise.all(
      Array.from({ length: 8 }, () => VirtualMachine.create({ kernel }, { native: fakeNative(folder) })),
    );
    await Promise.all(vms.map((vm) => vm.boot()));
    await vms[3]?.close();
    expect(vms.map((vm) => vm.state)).toEqual(vms.map((_, i) => (i === 3 ? 'none' : 'running')));
    await Promise.all(vms.map((vm) => vm.close()));
  });

  it('leaves the process alone', async () => {
    const count = () => process.eventNames().map((name) => process.listenerCount(name));
    const before = count();
    const vm = await VirtualMachine.create({ kernel }, { native });
    await vm.boot();
    expect(count()).toEqual(before);
    expect(native.terminalCalls).toEqual([]);
    await vm.close();
  });

  it('uses the descriptors that it is given as a terminal', async () => {
    const vm = await VirtualMachine.create(
      { kernel, serial: 'inherit' },
      { native, terminal: { input: -1, output: 9 } },
    );
    await vm.boot();
    expect(native.machines[0]?.boot?.serial?.backend).toEqual({ kind: 'tty', input: -1, output: 9 });
    await vm.close();
  });

  it('says what is wrong with its options', async () => {
    await expect(VirtualMachine.create({ kernel, memory: 'much' }, { native })).rejects.toThrow(ConfigError);
    await expect(VirtualMachine.create({ kernel, serial: { file: '/no/file' } }, { native })).rejects.toThrow(
      VmmError,
    );
    const vm = await VirtualMachine.create({ kernel: '/no/kernel' }, { native });
    expect(() => vm.serial).toThrow("serial: 'stream'");
    await expect(vm.boot()).rejects.toMatchObject({
      message: 'The VM could not boot',
      cause: { message: 'Cannot open kernel file /no/kernel' },
    });
    await vm.close();
  });
});

describe('the serial stream', () => {
  let servers: Server[];
  let sockets: Socket[];
  let paths: string[];

  beforeEach(() => {
    servers = [];
    sockets = [];
    paths = [];
    // The device's side, as the core has it: a listener that goes away with its connections.
    native.listenUnix = (path) => {
      const server = createServer((socket) => {
        sockets.push(socket);
        socket.on('error', () => {});
      }).listen(path);
      servers.push(server);
      paths.push(path);
      return 1000 + servers.length - 1;
    };
    const { closeFile } = native;
    native.closeFile = (fd) => {
      if (fd < 1000) return closeFile(fd);
      servers[fd - 1000]?.close();
      for (const socket of sockets.splice(0)) socket.end();
    };
  });

  async function start(): Promise<VirtualMachine> {
    const vm = await VirtualMachine.create({ kernel, serial: 'stream' }, { native });
    await expect.poll(() => sockets.length).toBe(1);
    await vm.boot();
    return vm;
  }

  it('reads what the guest writes until the VM is gone', async () => {
    const vm = await start();
    sockets[0]?.write('hello ');
    sockets[0]?.write('world');
    await expect.poll(() => vm.serial.readableLength).toBe(11);
    native.machines[0]?.emit({ type: 'power-off' });
    let text = '';
    for await (const chunk of vm.serial) text += chunk;
    expect(text).toBe('hello world');
    await vm.exited;
    expect(existsSync(dirname(paths[0] as string))).toBe(false);
  });

  it('writes what the guest reads', async () => {
    const vm = await start();
    let received = '';
    sockets[0]?.on('data', (bytes) => {
      received += bytes;
    });
    vm.serial.write('ls\n');
    await expect.poll(() => received).toBe('ls\n');
    await vm.close();
  });

  it('goes on after a reboot, and after a pause between machines', async () => {
    const vm = await start();
    let text = '';
    vm.serial.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    sockets[0]?.write('one ');
    await vm.reboot();
    await expect.poll(() => sockets.length).toBe(1);
    sockets[0]?.write('two ');
    await expect.poll(() => text).toBe('one two ');
    await vm.shutdown();
    await vm.boot();
    await expect.poll(() => sockets.length).toBe(1);
    sockets[0]?.write('three');
    await expect.poll(() => text).toBe('one two three');
    await vm.close();
    expect(servers).toHaveLength(3);
  });

  it('holds the guest back when nobody reads', async () => {
    const vm = await start();
    const chunk = Buffer.alloc(64 * 1024, 'x');
    let written = 0;
    while (sockets[0]?.write(chunk)) written += chunk.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(vm.serial.readableLength).toBeLessThan(1024 * 1024);
    let read = 0;
    vm.serial.on('data', (bytes) => {
      read += bytes.length;
    });
    await expect.poll(() => read).toBe(written + chunk.length);
    await vm.close();
  });

  it('loses what is written to nobody, and goes on', async () => {
    const vm = await start();
    await vm.shutdown();
    await new Promise((resolve) => vm.serial.write('lost', resolve));
    await vm.boot();
    await expect.poll(() => sockets.length).toBe(1);
    let received = '';
    sockets[0]?.on('data', (bytes) => {
      received += bytes;
    });
    vm.serial.write('found');
    await expect.poll(() => received).toBe('found');
    await vm.close();
  });
});
