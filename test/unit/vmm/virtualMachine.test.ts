import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Descriptor } from '../../../src/boundary/cbor.ts';
import { configFromOptions } from '../../../src/config/libraryOptions.ts';
import { ConfigError, VirtualMachine, VmmError } from '../../../src/index.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
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
    expect(vm.info()).toMatchObject({ state: 'running', memory_actual_size: 64 * 2 ** 20 });
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

  it.each([undefined, null, '/k', []])('is not made of %j', async (options) => {
    const wrong = { name: 'ConfigError', message: 'The options of a VM are an object' };
    await expect(VirtualMachine.create(options as never, { native })).rejects.toMatchObject(wrong);
  });

  it('takes devices and gives them up while it runs', async () => {
    const disk = join(folder, 'disk');
    writeFileSync(disk, Buffer.alloc(512));
    const vm = await VirtualMachine.create({ kernel }, { native });
    await vm.boot();
    expect(await vm.addDisk(disk)).toEqual({ id: '_disk0', bdf: '0000:00:02.0' });
    expect(await vm.addVsock({ cid: 3, socket: join(folder, 'vsock') })).toMatchObject({ id: '_vsock1' });
    const pmem = join(folder, 'pmem');
    writeFileSync(pmem, Buffer.alloc(2 << 20));
    expect(await vm.addPmem(pmem)).toMatchObject({ id: '_pmem2' });
    await expect(vm.addDisk({ path: disk, readOnly: true } as never)).rejects.toThrow(/readOnly.*readonly/);
    const wrong = { name: 'ConfigError', code: 'ERR_TSVMM_CONFIG' };
    await expect(vm.addDisk(undefined as never)).rejects.toMatchObject(wrong);
    await expect(vm.addNetwork('host' as never)).rejects.toMatchObject(wrong);
    await expect(vm.addVsock(5 as never)).rejects.toMatchObject(wrong);
    await expect(vm.addPmem(5 as never)).rejects.toMatchObject(wrong);
    await expect(vm.removeDevice(5 as never)).rejects.toMatchObject(wrong);
    await expect(vm.resizeDisk('_disk0', 'big' as never)).rejects.toMatchObject(wrong);
    await expect(vm.resize(undefined as never)).rejects.toMatchObject(wrong);
    await expect(vm.removeDevice('_disk0', { waitMs: 1 })).rejects.toThrow('within 1 ms');
    native.machines[0]?.emit({ type: 'device-ejected', id: '_disk0' });
    await vm.removeDevice('_vsock1', { force: true });
    expect(vm.info().device_tree).not.toHaveProperty('_disk0');
    const gone = AbortSignal.abort(new Error('not now'));
    await expect(vm.addDisk(disk, { signal: gone })).rejects.toThrow('not now');
    expect(vm.info().config.disks).toEqual([]);
    await vm.close();
  });

  it('has another number of vCPUs when the guest has', async () => {
    const vm = await VirtualMachine.create({ kernel, cpus: { boot_vcpus: 1, max_vcpus: 4 } }, { native });
    await vm.boot();
    let started = false;
    native.onPlugVcpus = () => {
      setTimeout(() => {
        started = true;
        native.machines[0]?.emit({ type: 'vcpu-started', vcpu: 1 });
      }, 20);
    };
    await vm.resize({ vcpus: 2 });
    expect(started).toBe(true);
    await vm.resize({ desired_vcpus: 1 });
    const busy = { kind: 'busy', code: 'ERR_TSVMM_BUSY' };
    await expect(vm.resize({ vcpus: 3 })).rejects.toMatchObject(busy);
    await expect(vm.resize({ vcpus: 1 }, { waitMs: 1 })).rejects.toMatchObject({ code: 'ERR_TSVMM_TIMEOUT' });
    const signal = AbortSignal.timeout(1);
    await expect(vm.resize({ vcpus: 1 }, { signal })).rejects.toMatchObject({ name: 'TimeoutError' });
    await expect(vm.resize({ vcpus: 'two' } as never)).rejects.toMatchObject({ code: 'ERR_TSVMM_CONFIG' });
    await vm.close();
  });

  it('has another size of memory when the guest has plugged it in', async () => {
    const MIB = 1 << 20;
    const late = { code: 'ERR_TSVMM_TIMEOUT' };
    const growing = { hotplug_method: 'VirtioMem', hotplug_size: 256 * MIB } as const;
    let plugged = 0;
    let device = 'mem0';
    native.machineStatus = () => ({ [device]: { plugged } });
    const vm = await VirtualMachine.create({ kernel, memory: { size: 128 * MIB, ...growing } }, { native });
    await vm.boot();
    const grown = vm.resize({ memory: '192M' });
    setTimeout(() => {
      plugged = 64 * MIB;
    }, 20);
    await grown;
    expect(plugged).toBe(64 * MIB);
    await expect(vm.resize({ memory: '128M' }, { waitMs: 1 })).rejects.toMatchObject(late);
    // Of the REST API's fields it means that the guest was asked.
    await vm.resize({ desired_ram: 256 * MIB });
    expect(vm.info()).toMatchObject({ memory_actual_size: 192 * MIB, memory_requested_size: 256 * MIB });
    await vm.close();
    device = 'a';
    const zones = [{ id: device, size: 128 * MIB, hotplug_size: 256 * MIB }];
    const memory = { size: 0, hotplug_method: 'VirtioMem', zones } as const;
    const zoned = await VirtualMachine.create({ kernel, memory }, { native });
    await zoned.boot();
    await zoned.resizeZone('a', '192M');
    await expect(zoned.resizeZone('a', '128M', { waitMs: 1 })).rejects.toMatchObject(late);
    await zoned.close();
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
    expect(native.machines[0]?.boot?.serial?.backend).toEqual({ kind: 'tty', output: new Descriptor(9) });
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
      message: expect.stringMatching(/^The VM could not boot: Cannot open kernel file \/no\/kernel: /),
      title: 'The VM could not boot',
      code: 'ENOENT',
      cause: { title: 'Cannot open kernel file /no/kernel' },
    });
    await expect(
      VirtualMachine.create({ kernel, disks: [{ path: '/d', readOnly: true } as object] }, { native }),
    ).rejects.toMatchObject({
      message: 'disks[0]: unknown field "readOnly"; did you mean "readonly"?',
      code: 'ERR_TSVMM_CONFIG',
    });
    await vm.close();
  });
});

describe('a warning', () => {
  it('goes to those who listen, else to process.emitWarning', async () => {
    const disk = join(folder, 'disk');
    writeFileSync(disk, Buffer.alloc(4096));
    const emitted: unknown[] = [];
    const spy = vi.spyOn(process, 'emitWarning').mockImplementation((...args: unknown[]) => {
      emitted.push(args);
    });
    const heard: string[] = [];
    for (const listen of [false, true]) {
      const vm = await VirtualMachine.create({ kernel, disks: [{ path: disk }] }, { native });
      if (listen) vm.on('warning', (message) => heard.push(message));
      await vm.boot();
      await vm.close();
    }
    spy.mockRestore();
    const text = expect.stringMatching(/disk was detected as raw: its guest cannot write to sector 0/);
    expect([emitted, heard]).toEqual([[[text, 'TsvmmWarning']], [text]]);
  });
});

describe('what a developer expects', () => {
  const vmWith = (options = {}) => VirtualMachine.create({ kernel, memory: '64M', ...options }, { native });

  it('stops: by the power button, and by force where the guest does not listen', async () => {
    const obedient = await vmWith();
    await obedient.boot();
    const { machinePowerButton } = native;
    native.machinePowerButton = async (handle) => {
      await machinePowerButton(handle);
      native.machines[0]?.emit({ type: 'power-off' });
    };
    await obedient.pause();
    expect(await obedient.stop()).toEqual({ reason: 'power-off', code: 0 });
    expect(native.machines[0]?.calls).toEqual(['boot', 'pause', 'resume', 'power-button', 'destroy']);
    native.machinePowerButton = machinePowerButton;

    const deaf = await vmWith();
    await deaf.boot();
    const abort = new AbortController();
    const stopping = deaf.stop({ signal: abort.signal });
    setTimeout(() => abort.abort(new Error('not now')), 20);
    await expect(stopping).rejects.toThrow('not now');
    expect(deaf.state).toBe('running');
    expect(await deaf.stop({ timeoutMs: 20 })).toEqual({ reason: 'request', code: 0 });
    expect(await deaf.stop()).toEqual({ reason: 'request', code: 0 });
    expect(await (await vmWith()).stop()).toEqual({ reason: 'request', code: 0 });
  });

  it('stops without force for as long as it is told to wait, which may be for ever', async () => {
    const vm = await vmWith();
    await vm.boot();
    await expect(vm.stop({ timeoutMs: Number.NaN })).rejects.toThrow(RangeError);
    const stopping = vm.stop({ timeoutMs: Number.POSITIVE_INFINITY });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(vm.state).toBe('running');
    native.machines[0]?.emit({ type: 'power-off' });
    expect(await stopping).toEqual({ reason: 'power-off', code: 0 });
  });

  it('aborts: the waiting, and all of a boot', async () => {
    const vm = await vmWith();
    const abort = new AbortController();
    native.onBoot = () => abort.abort(new Error('enough'));
    await expect(vm.boot({ signal: abort.signal })).rejects.toThrow('enough');
    await expect.poll(() => vm.state).toBe('created');
    await expect.poll(() => native.machines[0]?.calls).toEqual(['boot', 'destroy']);
    native.onBoot = () => {};
    await expect(vm.boot({ signal: abort.signal })).rejects.toThrow('enough');
    expect(native.machines).toHaveLength(1);
    await vm.boot({ signal: new AbortController().signal });
    await expect(vm.pause({ signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
    expect(vm.state).toBe('running');
    await vm.close();
  });

  it('keeps the process alive or not', async () => {
    const vm = (await vmWith()).unref();
    await vm.boot();
    await vm.reboot();
    vm.ref();
    await vm.close();
    expect(native.machines.map(({ calls }) => calls)).toEqual([
      ['boot', 'unref', 'destroy'],
      ['boot', 'unref', 'ref', 'destroy'],
    ]);
  });

  it('prints, and counts in numbers', async () => {
    const vm = await vmWith({ cpus: 2 });
    await vm.boot();
    expect(inspect(vm, { breakLength: Number.POSITIVE_INFINITY })).toBe(
      `VirtualMachine { state: 'running', kernel: '${kernel}', cpus: 2, memoryBytes: 67108864, disks: [], networks: 0 }`,
    );
    const { vcpu0, ...devices } = vm.counters();
    expect(JSON.stringify(devices)).toBe('{"_disk0":{"read_ops":1}}');
    expect(vcpu0).toMatchObject({ exits_port: 7, exits_mmio: 2, kvm_halt_exits: 3 });
    expect(vcpu0?.run_ns).toBeGreaterThan(0);
    expect(vcpu0?.steal_ns).toBeGreaterThanOrEqual(0);
    await vm.close();
    expect(inspect(vm)).toBe("VirtualMachine { state: 'none' }");
  });

  it.each([-1, 1.5, 2 ** 32 - 1, Number.NaN, '1\nCONNECT 2'])('refuses %s as a vsock port', async (port) => {
    const vm = await vmWith({ vsock: { cid: 3, socket: join(folder, 'vsock') } });
    await expect(vm.connectVsock(port as number)).rejects.toThrow(RangeError);
    await vm.close();
  });
});

describe('streams of the process', () => {
  it('are handed to each machine, and asked to take what an ending one has left', async () => {
    const calls: string[] = [];
    const streams = (['serial', 'console'] as const).map((name) => [
      name,
      {
        adopt: (fd: number) => calls.push(`${name} adopts ${fd >= 0}`),
        drain: () => calls.push(`${name} drains`),
      },
    ]);
    const vmm = new Vmm({ native, streams: Object.fromEntries(streams) });
    const options = { kernel, serial: 'stream', console: 'stream' } as const;
    await vmm.create(configFromOptions(options));
    await vmm.boot();
    const { boot } = native.machines[0] ?? {};
    const console = boot?.pci.functions.find((device) => device.kind === 'console');
    expect([boot?.serial?.backend, console?.backend]).toEqual([
      { kind: 'tty', input: expect.any(Descriptor), output: expect.any(Descriptor) },
      { kind: 'tty', input: expect.any(Descriptor), output: expect.any(Descriptor) },
    ]);
    await vmm.reboot();
    await vmm.shutdown();
    await vmm.quit();
    const adopted = ['serial adopts true', 'console adopts true'];
    const drained = ['serial drains', 'console drains'];
    expect(calls).toEqual([...adopted, ...drained, ...adopted, ...drained, ...drained]);
  });

  it('are there only if the VM was created with them', async () => {
    const vm = await VirtualMachine.create({ kernel }, { native });
    expect(() => vm.serial).toThrow("serial: 'stream'");
    expect(() => vm.console).toThrow("console: 'stream'");
    await vm.close();
  });
});
