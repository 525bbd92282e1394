import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { receiveMigrationData, sendMigrationData } from '../../../src/config/migration.ts';
import { restoreConfig } from '../../../src/config/restore.ts';
import { type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import { FileKind } from '../../../src/host/openFlags.ts';
import type { MachineEvent } from '../../../src/native.ts';
import { describeError, errorChain, type VmmError } from '../../../src/vmm/errors.ts';
import { Vmm, type VmmOptions } from '../../../src/vmm/vmm.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

let folder: string;
let native: FakeNative;
let events: string[];
let warnings: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  native = fakeNative(folder);
  events = [];
  warnings = [];
  writeFileSync(join(folder, 'kernel'), makeElf());
});

afterEach(() => {
  expect([...native.files.open]).toEqual([]);
  rmSync(folder, { recursive: true });
});

function newVmm(options: Partial<VmmOptions> = {}): Vmm {
  return new Vmm({
    native,
    onEvent: ({ source, event, properties }) =>
      events.push(`${source} ${event}${properties ? ` ${Object.values(properties).join(' ')}` : ''}`),
    onWarning: (message) => warnings.push(message),
    ...options,
  });
}

function config(extra: VmConfigInput = {}) {
  return decode(vmConfig, {
    payload: { kernel: join(folder, 'kernel') },
    console: { mode: 'Off' },
    ...extra,
  });
}

async function booted(options?: Partial<VmmOptions>, extra?: VmConfigInput): Promise<Vmm> {
  const vmm = newVmm(options);
  await vmm.create(config(extra));
  await vmm.boot();
  return vmm;
}

async function failure(promise: Promise<unknown>): Promise<VmmError> {
  return promise.then(
    () => {
      throw new Error('succeeded');
    },
    (error) => error,
  );
}

/** What the core reports of the latest machine. */
function guest(event: MachineEvent): void {
  native.machines.at(-1)?.emit(event);
}

const VCPU_ERROR = {
  type: 'vcpu-error',
  vcpu: 1,
  reason: 'internal-error',
  code: 1,
  detail: 'rip=0x100',
} as const;

describe('devices of a VM that was only configured', () => {
  const disk = (extra: object = {}) =>
    decode(vmConfig, { disks: [{ path: '/d', image_type: 'Raw', ...extra }] }).disks?.[0] as object;

  it('are added and removed', async () => {
    const vmm = newVmm();
    await vmm.create(config());
    await vmm.addDevice('disk', disk({ id: 'a' }));
    await vmm.addDevice('disk', disk({ id: 'b' }));
    const [net] = decode(vmConfig, { net: [{ id: 'n', tap: 't' }] }).net ?? [];
    await vmm.addDevice('net', net as object);
    await vmm.addDevice('vsock', { id: 'v', cid: 3, socket: '/s' });
    const shown = () => {
      const { disks, net: nets, vsock } = vmm.info().config;
      return [disks?.map(({ id }) => id), nets?.map(({ id }) => id), vsock?.id];
    };
    expect(shown()).toEqual([['a', 'b'], ['n'], 'v']);
    expect(vmm.info().config.net?.[0]?.mac).toMatch(/^2e:/);
    await vmm.removeDevice('a');
    await vmm.removeDevice('n');
    await vmm.removeDevice('v');
    expect(shown()).toEqual([['b'], [], undefined]);
    await vmm.quit();
  });

  it.each([
    [{ id: 'a' }, 'conflict', ['Failed to validate config', 'Identifier a is not unique']],
    [{ id: '__a' }, 'invalid', ['Failed to validate config', 'Identifier __a must not start with __']],
  ] as const)('are refused where the whole is not valid: %j', async (extra, kind, causes) => {
    const vmm = newVmm();
    await vmm.create(config());
    await vmm.addDevice('disk', disk({ id: 'a' }));
    const before = vmm.info().config;
    const error = await failure(vmm.addDevice('disk', disk(extra)));
    expect([error.kind, errorChain(error)]).toEqual([
      kind,
      ['The disk could not be added to the VM', ...causes],
    ]);
    expect(vmm.info().config).toEqual(before);
    await vmm.quit();
  });

  it('need a payload beside them, and a VM', async () => {
    const vmm = newVmm();
    const missing = await failure(vmm.addDevice('pmem', { file: '/p' }));
    expect([missing.kind, errorChain(missing)]).toEqual([
      'missing',
      ['The pmem device could not be added to the VM', 'VM is not created'],
    ]);
    await vmm.create(decode(vmConfig, { console: { mode: 'Off' } }));
    const error = await failure(vmm.addDevice('disk', disk()));
    expect([error.kind, errorChain(error).at(-1)]).toEqual([
      'invalid',
      'No bootitem provided: neither firmware nor kernel',
    ]);
    await vmm.quit();
  });

  it('are one vsock at most, and one user device for a socket', async () => {
    const vmm = newVmm();
    await vmm.create(config({ memory: { size: 1 << 29, shared: true } }));
    await vmm.addDevice('vsock', { cid: 3, socket: '/s' });
    const second = await failure(vmm.addDevice('vsock', { cid: 4, socket: '/t' }));
    expect([second.kind, errorChain(second)]).toEqual([
      'failed',
      ['The vsock device could not be added to the VM', 'Too many virtio-vsock devices'],
    ]);
    await vmm.addDevice('user-device', { socket: '/u' });
    const same = await failure(vmm.addDevice('user-device', { socket: '/u' }));
    expect([same.kind, errorChain(same).at(-1)]).toEqual([
      'failed',
      'The socket /u is used by another user device',
    ]);
    await vmm.quit();
  });

  it('that are not there cannot be removed', async () => {
    const vmm = newVmm();
    await vmm.create(config());
    const error = await failure(vmm.removeDevice('nope'));
    expect([error.kind, errorChain(error)]).toEqual([
      'missing',
      ['The device could not be removed from the VM', 'No device with id "nope" to remove'],
    ]);
    await vmm.quit();
  });

  it('have their descriptors closed once: refused, removed, deleted', async () => {
    const vmm = newVmm();
    const open = () => native.openFile('/dev/null', 0, 0, FileKind.character);
    const net = (id: string, fds: number[], more: object = {}) =>
      ({
        ...decode(vmConfig, { net: [{ id, num_queues: 2 * fds.length, ...more }] }).net?.[0],
        fds,
      }) as object;
    const refused = [open()];
    await failure(vmm.addDevice('net', net('n', refused), refused));
    expect([...native.files.open]).toEqual([]);
    await vmm.create(config({ cpus: { boot_vcpus: 2, max_vcpus: 2 } }));
    const pair = [open(), open()];
    await vmm.addDevice('net', net('n', pair), pair);
    const wrong = [open()];
    await failure(vmm.addDevice('net', net('m', wrong, { num_queues: 8 }), wrong));
    expect([...native.files.open]).toEqual(pair);
    const removed = [open()];
    await vmm.addDevice('net', net('r', removed), removed);
    await vmm.removeDevice('r');
    expect([...native.files.open]).toEqual(pair);
    await vmm.delete();
    expect([...native.files.open]).toEqual([]);
    await vmm.quit();
  });
});

describe('a running VM', () => {
  it.each([
    [
      'a disk',
      (vmm: Vmm) => vmm.addDevice('disk', { path: '/d', num_queues: 1, queue_size: 128 }),
      'Adding a device to a running VM is not supported yet',
    ],
    [
      'its disk',
      (vmm: Vmm) => vmm.removeDevice('_disk0'),
      'Removing a device from a running VM is not supported yet',
    ],
    [
      'its disk by the other name',
      (vmm: Vmm) => vmm.removeDevice('_virtio-pci-_disk0'),
      'Removing a device from a running VM is not supported yet',
    ],
    ['its entropy device', (vmm: Vmm) => vmm.removeDevice('__rng'), 'The device __rng cannot be removed'],
    ['nothing', (vmm: Vmm) => vmm.removeDevice('x'), 'No device with id "x" to remove'],
    [
      'a zone',
      (vmm: Vmm) => vmm.resizeZone('z', 4096),
      "Changing a running VM's memory is not supported yet",
    ],
    ['a core dump', (vmm: Vmm) => vmm.coredump('file:///c'), 'Writing a core dump is not supported yet'],
    [
      'a core dump elsewhere',
      (vmm: Vmm) => vmm.coredump('/c'),
      'The core dump destination "/c" does not begin with file://',
    ],
    ['a snapshot', (vmm: Vmm) => vmm.snapshot('file:///s'), 'Trying to snapshot while VM is running'],
    [
      'a restore',
      (vmm: Vmm) => vmm.restore(decode(restoreConfig, { source_url: 'file:///s' })),
      'VM is already created',
    ],
    [
      'a migration',
      (vmm: Vmm) => vmm.sendMigration(decode(sendMigrationData, { destination_url: 'tcp:h:1' })),
      'Migrating a VM is not supported yet',
    ],
    [
      'a migration to nowhere',
      (vmm: Vmm) => vmm.sendMigration(decode(sendMigrationData, { destination_url: 'h:1' })),
      'The migration URL "h:1" is not like tcp:host:port or unix:/path',
    ],
  ])('refuses %s, and goes on', async (_, ask, reason) => {
    writeFileSync(join(folder, 'disk'), Buffer.alloc(1 << 20));
    const vmm = await booted({}, { disks: [{ path: join(folder, 'disk'), image_type: 'Raw' }] });
    expect(errorChain(await failure(ask(vmm))).at(-1)).toBe(reason);
    expect(vmm.state).toBe('running');
    await vmm.quit();
  });
});

describe('what no VM does yet', () => {
  const restore = (more: object = {}) => decode(restoreConfig, { source_url: 'file:///s', ...more });

  it.each([
    [restore(), 'failed', ['Restoring a snapshot is not supported yet']],
    [
      restore({ source_url: '/s' }),
      'failed',
      ['Invalid restore source URL', '"/s" does not begin with file://'],
    ],
    [
      restore({ prefault: true, memory_restore_mode: 'OnDemand' }),
      'invalid',
      ['Failed to validate config', 'prefault contradicts memory_restore_mode OnDemand'],
    ],
    [
      restore({ zone_updates: [{ id: 'z' }, { id: 'z' }] }),
      'invalid',
      ['Failed to validate config', 'The memory zone z is updated twice'],
    ],
  ] as const)('restoring %j', async (given, kind, causes) => {
    const vmm = newVmm();
    const error = await failure(vmm.restore(given));
    expect([error.kind, errorChain(error)]).toEqual([kind, ['The VM could not be restored', ...causes]]);
    expect(vmm.state).toBe('none');
    await vmm.quit();
  });

  it('receiving a migration, and a snapshot of a paused VM', async () => {
    const vmm = newVmm();
    const data = decode(receiveMigrationData, { receiver_url: 'unix:/m' });
    expect(errorChain(await failure(vmm.receiveMigration(data)))).toEqual([
      'Error receiving migration',
      'Migrating a VM is not supported yet',
    ]);
    await vmm.create(config());
    await vmm.boot();
    await vmm.pause();
    expect(errorChain(await failure(vmm.snapshot('file:///s')))).toEqual([
      'The VM could not be snapshotted',
      'Taking a snapshot is not supported yet',
    ]);
    await vmm.quit();
  });

  it('resizing the zone of a configuration', async () => {
    const vmm = newVmm();
    await vmm.create(config({ memory: { size: 0, zones: [{ id: 'z', size: 1 << 29 }] } }));
    await vmm.resizeZone('z', 1 << 30);
    expect(vmm.info().config.memory.zones?.[0]?.size).toBe(1 << 30);
    expect(errorChain(await failure(vmm.resizeZone('y', 1 << 30)))).toEqual([
      'The memory zone could not be resized',
      'Failed resizing a memory zone',
      'There is no memory zone with id "y"',
    ]);
    await vmm.quit();
  });
});

describe('whoever watches vm.info', () => {
  const shown = (vmm: Vmm) => (vmm.state === 'none' ? 'none' : JSON.stringify(vmm.info()));

  it('hears of every change, before anything else happens', async () => {
    const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
    native.onBoot = turn;
    const vmm = newVmm({ stayOnPowerOff: true });
    let known = shown(vmm);
    vmm.watchInfo(() => {
      known = shown(vmm);
    });
    let done = false;
    const watching = (async () => {
      while (!done) {
        expect(shown(vmm)).toBe(known);
        await turn();
      }
    })();
    const disks = [{ path: join(folder, 'kernel'), image_type: 'Raw' as const }];
    await vmm.create(config({ disks, serial: { mode: 'Pty' }, balloon: { size: 4096 } }));
    await vmm.resize({ desired_balloon: 8192, desired_ram: 1 << 30 });
    await vmm.boot();
    await vmm.pause();
    await vmm.resume();
    await vmm.resize({ desired_balloon: 0 });
    await vmm.reboot();
    await vmm.shutdown();
    await vmm.boot();
    guest({ type: 'reset', cause: 'i8042' });
    await vmm.resizeConsole();
    expect(shown(vmm)).toBe(known);
    guest({ type: 'power-off' });
    await vmm.resizeConsole();
    expect(shown(vmm)).toBe(known);
    expect(vmm.state).toBe('created');
    await vmm.delete();
    await vmm.create(config());
    await vmm.quit();
    expect(known).toBe('none');
    done = true;
    await watching;
  });
});

describe('a life', () => {
  it('from creation to deletion', async () => {
    const vmm = newVmm();
    expect(() => vmm.info()).toThrow('The VM info is not available');
    await vmm.create(config());
    expect(vmm.info()).toMatchObject({ state: 'Created', memory_actual_size: 2 ** 29 });
    expect(vmm.info().device_tree).toBeUndefined();
    await vmm.boot();
    expect(vmm.info().state).toBe('Running');
    await vmm.pause();
    expect(vmm.info().state).toBe('Paused');
    await vmm.powerButton();
    await vmm.nmi();
    await vmm.resume();
    expect(vmm.counters()).toEqual({ _disk0: { read_ops: 1n } });
    await vmm.shutdown();
    expect(vmm.info().state).toBe('Created');
    await vmm.delete();
    await vmm.delete();
    expect(vmm.state).toBe('none');
    expect(native.machines).toHaveLength(1);
    expect(native.machines[0]?.calls).toEqual(['boot', 'pause', 'power-button', 'nmi', 'resume', 'destroy']);
    expect(events).toEqual([
      ...['vm booting', 'vm booted', 'vm pausing', 'vm paused', 'vm power-button', 'vm resuming'],
      ...['vm resumed', 'vm shutdown', 'vm deleted'],
    ]);
  });

  it('tells why its guest ended a machine, and what devices come and go', async () => {
    const vmm = newVmm({ stayOnPowerOff: true });
    await vmm.create(config());
    await vmm.addDevice('pmem', { file: '/p', id: 'one' });
    await vmm.removeDevice('one');
    await vmm.boot();
    native.machines[0]?.emit({ type: 'reset', cause: 'watchdog' });
    await expect.poll(() => events.at(-1)).toBe('vm rebooted');
    native.machines[1]?.emit({ type: 'power-off' });
    await expect.poll(() => events.at(-1)).toBe('vm shutdown');
    expect(events).toEqual([
      ...['vm device-added pmem one', 'vm device-removed one', 'vm booting', 'vm booted'],
      ...['guest reset watchdog', 'vm rebooting', 'vm rebooted', 'guest power-off', 'vm shutdown'],
    ]);
    await vmm.boot();
    const failure = { vcpu: 1, reason: 'internal-error', code: 1, detail: 'rip=0x0' } as const;
    native.machines[2]?.emit({ type: 'vcpu-error', ...failure });
    await vmm.exited;
    expect(events).toContain('vm vcpu-error 1 internal-error 1 rip=0x0');
  });

  it('starts a guest anew that powers off because a restart was asked for, and only then', async () => {
    const vmm = await booted();
    await vmm.restart();
    native.machines[0]?.emit({ type: 'power-off' });
    await vmm.resizeConsole();
    expect(vmm.state).toBe('running');
    expect(events).toEqual(expect.arrayContaining(['vm rebooting', 'vm rebooted']));
    await vmm.restart();
    await vmm.powerButton();
    native.machines[1]?.emit({ type: 'power-off' });
    expect(await vmm.exited).toEqual({ reason: 'power-off', code: 0 });
  });

  it('may have several machines', async () => {
    const vmm = await booted();
    await vmm.shutdown();
    await vmm.boot();
    await vmm.reboot();
    expect(native.machines.map(({ calls }) => calls)).toEqual([
      ['boot', 'destroy'],
      ['boot', 'destroy'],
      ['boot'],
    ]);
    await vmm.delete();
    await vmm.create(config());
    await vmm.quit();
    await expect(vmm.exited).resolves.toEqual({ reason: 'request', code: 0 });
    expect(events.slice(-3)).toEqual(['vm deleted', 'vm deleted', 'vmm shutdown']);
  });

  it('names what does not come to its end, and can go on', async () => {
    const vmm = await booted();
    native.onDestroy = () => {
      throw new Error('_disk0: the disk does not answer');
    };
    expect(describeError(await failure(vmm.quit()))).toContain('_disk0: the disk does not answer');
    const exit = await vmm.exited;
    expect(exit).toMatchObject({ reason: 'request', code: 1, incomplete: true });
    expect(exit.message).toContain('The VM could not be ended in order: _disk0: the disk does not answer');
    expect(vmm.state).toBe('none');
    await vmm.quit();
    native.onDestroy = () => {};
    await (await booted()).quit();
  });

  it.each(['shutdown', 'delete', 'reboot'] as const)('is gone after a %s that fails', async (command) => {
    const vmm = await booted();
    native.onDestroy = () => {
      throw new Error('_disk0: the disk does not answer');
    };
    expect(describeError(await failure(vmm[command]()))).toContain('_disk0: the disk does not answer');
    expect(vmm.state).toBe(command === 'delete' ? 'none' : 'created');
    expect([...native.files.open]).toEqual([]);
    native.onDestroy = () => {};
    if (command === 'delete') await vmm.create(config());
    await vmm.boot();
    await vmm.quit();
    expect(await vmm.exited).toEqual({ reason: 'request', code: 0 });
  });

  it('calls off what is in progress when it quits', async () => {
    const vmm = newVmm();
    await vmm.create(config());
    let callOff: (() => void) | undefined;
    native.onCallOff = () => callOff?.();
    native.onBoot = () =>
      new Promise((_, reject) => {
        callOff = () => reject(new Error('called off'));
      });
    const boot = failure(vmm.boot());
    await expect.poll(() => callOff).toBeDefined();
    await vmm.quit();
    expect(describeError(await boot)).toContain('called off');
    expect(await vmm.exited).toEqual({ reason: 'request', code: 0 });
  });

  it('does not wait for ever for what cannot be called off', async () => {
    const vmm = newVmm();
    await vmm.create(config());
    let answer: (() => void) | undefined;
    native.onBoot = () =>
      new Promise((resolve) => {
        answer = resolve;
      });
    const boot = vmm.boot();
    await expect.poll(() => answer).toBeDefined();
    expect(describeError(await failure(vmm.quit(0)))).toBe(
      'The VM could not be ended: boot is in progress, and waits for a file or a disk that does not answer',
    );
    answer?.();
    await boot;
    expect((await vmm.exited).code).toBe(0);
  });

  it('keeps its disks open, and so their locks, over a reboot', async () => {
    writeFileSync(join(folder, 'disk'), Buffer.alloc(4096));
    const vmm = await booted({}, { disks: [{ path: join(folder, 'disk'), image_type: 'Raw' }] });
    const open = new Set(native.files.open.keys());
    expect(open.size).toBe(1);
    const seen: unknown[] = [];
    native.onDestroy = () => void seen.push([...native.files.open.keys()]);
    native.onBoot = () => void seen.push([...native.files.open.keys()].filter((fd) => open.has(fd)));
    guest({ type: 'reset', cause: 'i8042' });
    await expect.poll(() => events.at(-1)).toBe('vm rebooted');
    expect(seen).toEqual([[...open], [...open]]);
    await vmm.shutdown();
    expect([...native.files.open.keys()]).toEqual([]);
    await vmm.quit();
  });

  it('takes commands in the order in which they came', async () => {
    const vmm = newVmm();
    const outcomes = await Promise.allSettled([
      vmm.pause(),
      vmm.create(config()),
      vmm.boot(),
      vmm.create(config()),
      vmm.pause(),
      vmm.pause(),
      vmm.resume(),
      vmm.reboot(),
      vmm.delete(),
      vmm.boot(),
      vmm.quit(),
      vmm.create(config()),
    ]);
    expect(
      outcomes.map((outcome) => (outcome.status === 'fulfilled' ? 'ok' : errorChain(outcome.reason).at(-1))),
    ).toEqual([
      'VM is not running',
      'ok',
      'ok',
      'VM is already created',
      'ok',
      'Invalid transition: InvalidStateTransition(Paused, Paused)',
      'ok',
      'ok',
      'ok',
      'VM is not created',
      'ok',
      'The VMM has come to its end',
    ]);
  });

  it('ends while a machine is being started, however long that would take', async () => {
    const vmm = newVmm();
    let begun: () => void = () => {};
    const booting = new Promise<void>((resolve) => {
      begun = resolve;
    });
    // As the core: a boot goes on until it is called off.
    let calledOff = false;
    native.onCallOff = () => {
      calledOff = true;
    };
    native.onBoot = async () => {
      begun();
      while (!calledOff) await new Promise((resolve) => setImmediate(resolve));
      throw Object.assign(new Error('it was called off'), { code: 'ECANCELED' });
    };
    await vmm.create(config());
    const boot = vmm.boot();
    await booting;
    await Promise.all([expect(boot).rejects.toThrow('could not boot'), vmm.quit()]);
    await expect(vmm.exited).resolves.toEqual({ reason: 'request', code: 0 });
  });

  it('shows where devices are', async () => {
    writeFileSync(join(folder, 'disk'), Buffer.alloc(4096));
    const vmm = await booted({}, { disks: [{ path: join(folder, 'disk') }], watchdog: true });
    const { config: shown, device_tree: tree } = vmm.info();
    expect(shown.disks?.[0]?.id).toBe('_disk0');
    expect(tree?._disk0).toEqual({ id: '_disk0', resources: [], parent: '_virtio-pci-_disk0', children: [] });
    expect(tree?.['_virtio-pci-_disk0']).toMatchObject({
      children: ['_disk0'],
      pci_bdf: '0000:00:01.0',
      resources: [{ PciBar: { index: 0, type_: 'Mmio32', prefetchable: false } }],
    });
    expect(Object.keys(tree ?? {})).toEqual(
      expect.arrayContaining(['__serial', '__ioapic', '__rng', '__watchdog', '_virtio-pci-__rng']),
    );
    await vmm.quit();
  });
});

describe('what the guest does', () => {
  it('power-off ends everything with code 0', async () => {
    const vmm = await booted();
    guest({ type: 'power-off' });
    await expect(vmm.exited).resolves.toEqual({ reason: 'power-off', code: 0 });
    expect([vmm.state, native.machines[0]?.calls]).toEqual(['none', ['boot', 'destroy']]);
    expect(events.slice(-3)).toEqual(['vm shutdown', 'vm deleted', 'vmm shutdown']);
  });

  it('power-off may leave the VM', async () => {
    const vmm = await booted({ stayOnPowerOff: true });
    guest({ type: 'power-off' });
    await expect.poll(() => vmm.info().state).toBe('Created');
    await vmm.boot();
    expect(native.machines).toHaveLength(2);
    await vmm.quit();
  });

  it('power-off before booting has been answered', async () => {
    native.onBoot = (machine) => machine.emit({ type: 'power-off' });
    const vmm = await booted();
    await expect(vmm.exited).resolves.toEqual({ reason: 'power-off', code: 0 });
    expect(events.slice(0, 2)).toEqual(['vm booting', 'vm booted']);
  });

  it('reset builds everything anew', async () => {
    const vmm = await booted();
    guest({ type: 'reset', cause: 'triple-fault' });
    guest({ type: 'reset', cause: 'acpi' });
    await expect.poll(() => events.at(-1)).toBe('vm rebooted');
    expect(vmm.state).toBe('running');
    expect(native.machines.map(({ calls }) => calls)).toEqual([['boot', 'destroy'], ['boot']]);
    guest({ type: 'reset', cause: 'i8042' });
    await expect.poll(() => native.machines.length).toBe(3);
    await vmm.quit();
  });

  it('reset while paused runs again', async () => {
    const vmm = await booted();
    await vmm.pause();
    guest({ type: 'reset', cause: 'watchdog' });
    await expect.poll(() => vmm.state).toBe('running');
    await vmm.quit();
  });

  it.each(['shutdown', 'delete', 'reboot', 'quit'] as const)(
    'reset that races %s is harmless',
    async (command) => {
      const vmm = await booted();
      const machine = native.machines[0];
      const done = vmm[command]();
      machine?.emit({ type: 'reset', cause: 'acpi' });
      await done;
      machine?.emit({ type: 'power-off' });
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(native.machines).toHaveLength(command === 'reboot' ? 2 : 1);
      expect(vmm.state).toBe(
        { shutdown: 'created', delete: 'none', reboot: 'running', quit: 'none' }[command],
      );
      await vmm.quit();
    },
  );

  it('reset that cannot be carried out ends with code 1', async () => {
    const vmm = await booted();
    rmSync(join(folder, 'kernel'));
    guest({ type: 'reset', cause: 'acpi' });
    const exit = await vmm.exited;
    expect(exit).toMatchObject({ reason: 'reboot-failed', code: 1 });
    expect(exit.message).toMatch(/^The VM could not reboot: Cannot open kernel file .*\/kernel: ENOENT/);
  });

  it('a person at its terminal can end it', async () => {
    const vmm = await booted();
    guest({ type: 'terminal-escape' });
    await expect(vmm.exited).resolves.toEqual({ reason: 'request', code: 0 });
  });

  it('a failing vCPU ends it, saying which', async () => {
    const vmm = await booted();
    guest(VCPU_ERROR);
    await expect(vmm.exited).resolves.toEqual({
      reason: 'vcpu-error',
      code: 1,
      message: 'vCPU 1 stopped with internal-error (1): rip=0x100',
    });
  });

  it('a failing vCPU on a host that emulates is explained', async () => {
    native.host = { ...native.host, hardwareVirtualization: false };
    const vmm = await booted();
    expect(warnings).toEqual([]);
    guest(VCPU_ERROR);
    expect((await vmm.exited).message).toMatch(
      /^vCPU 1 stopped .* no hardware virtualization .* do not survive$/,
    );
  });

  it('Linux on a host that emulates is warned of', async () => {
    native.host = { ...native.host, hardwareVirtualization: false };
    const image = Buffer.from(makeElf({ fileSize: 1024 }));
    image.write('HdrS', 0x202);
    writeFileSync(join(folder, 'kernel'), image);
    const vmm = await booted();
    expect(warnings).toEqual([
      expect.stringMatching(/^The guest will probably fail: .* no hardware virtualization/),
    ]);
    await vmm.quit();
  });

  it('a file that does not take what the guest prints is told of by its path', async () => {
    const log = join(folder, 'guest.log');
    const vmm = await booted(undefined, {
      serial: { mode: 'File', file: join(folder, 'serial') },
      console: { mode: 'Tty', log },
    });
    guest({ type: 'output-failed', id: '__serial', file: 'output', reason: 'No space left on device' });
    guest({ type: 'output-failed', id: '__console', file: 'log', reason: 'Input/output error' });
    guest({ type: 'output-failed', id: '__debug_console', file: 'output', reason: 'Disk quota exceeded' });
    await expect.poll(() => warnings.length).toBe(3);
    const rest = 'What the guest prints meanwhile is lost there';
    expect(warnings).toEqual([
      `Cannot write the serial port's output to ${folder}/serial: No space left on device. ${rest}`,
      `Cannot write the console's log to ${log}: Input/output error. ${rest}`,
      `Cannot write the debug console's output: Disk quota exceeded. ${rest}`,
    ]);
    expect(events).toContain('vm output-failed __serial output No space left on device');
    await vmm.quit();
  });

  it('what devices report is passed on', async () => {
    const vmm = await booted();
    guest({ type: 'device-activated', id: '__rng' });
    guest({ type: 'device-reset', id: '__rng' });
    guest({ type: 'device-failed', id: '__rng', reason: 'the ring is bad' });
    guest({ type: 'guest-panic', event: 'crash_loaded' });
    guest({ type: 'guest-panic', event: 'panic' });
    guest({ type: 'firmware-log', line: 'hello' });
    guest({ type: 'device-warning', id: '_disk0', text: 'it fails' });
    expect(events.slice(2)).toEqual([
      'virtio-device activated __rng',
      'virtio-device reset __rng',
      'virtio-device failed __rng the ring is bad',
      'guest panic crash_loaded',
      'guest panic panic',
      'firmware log hello',
      'virtio-device warning _disk0 it fails',
    ]);
    expect(warnings).toEqual([
      'The device __rng stopped: the ring is bad',
      "The guest's kernel failed and goes on with its crash kernel",
      "The guest's kernel panicked",
      'The device _disk0: it fails',
    ]);
    await vmm.quit();
    guest({ type: 'device-activated', id: '__rng' });
    expect(events.at(-1)).toBe('vmm shutdown');
  });
});

describe('failing to boot', () => {
  it.each([
    ['a missing kernel', { payload: { kernel: '/no/kernel' } }, 'Cannot open kernel file /no/kernel'],
    [
      'a folder for a kernel',
      { payload: { kernel: '/' } },
      'Cannot open kernel file /: / is no regular file',
    ],
    [
      'no payload',
      { payload: {} },
      'Failed to validate config: No bootitem provided: neither firmware nor kernel',
    ],
    ['a missing disk', { disks: [{ path: '/no/disk' }] }, 'Cannot open disk path /no/disk'],
    [
      'a folder for a disk',
      { disks: [{ path: '/', readonly: true }] },
      'Cannot open disk path /: / is no regular file',
    ],
    ['a missing source', { rng: { src: '/no/random' } }, 'Cannot open the source of random bytes /no/random'],
  ])('%s', async (_name, extra, message) => {
    const vmm = newVmm();
    await vmm.create(config(extra));
    expect(describeError(await failure(vmm.boot()))).toContain(`The VM could not boot: ${message}`);
    expect(vmm.info().state).toBe('Created');
    expect(native.machines.map(({ calls }) => calls)).toEqual(native.machines.length ? [['destroy']] : []);
    expect(events).toEqual(['vm booting']);
    await vmm.delete();
  });

  it('a missing initramfs', async () => {
    const vmm = newVmm();
    await vmm.create(config({ payload: { kernel: join(folder, 'kernel'), initramfs: '/no/initramfs' } }));
    expect(describeError(await failure(vmm.boot()))).toContain('Cannot open initramfs file /no/initramfs');
    await vmm.delete();
  });

  it('may be tried again', async () => {
    const vmm = newVmm();
    await vmm.create(config());
    truncateSync(join(folder, 'kernel'), 10);
    expect((await failure(vmm.boot())).kind).toBe('failed');
    writeFileSync(join(folder, 'kernel'), makeElf());
    await vmm.boot();
    expect(vmm.state).toBe('running');
    await vmm.quit();
  });

  it('in the core', async () => {
    native.onBoot = () => {
      throw new Error('no memory');
    };
    const vmm = newVmm();
    await vmm.create(config());
    expect(describeError(await failure(vmm.boot()))).toBe('The VM could not boot: no memory');
    expect(native.machines[0]?.calls).toEqual(['boot', 'destroy']);
    await vmm.quit();
  });

  it.each([
    ['ENOENT', 'This host has no /dev/kvm'],
    ['EACCES', 'No permission to open /dev/kvm'],
    ['ENODEV', "Cannot use the host's KVM: from the core"],
  ])('without KVM (%s)', async (code, message) => {
    native.hostInfo = () => {
      throw Object.assign(new Error('from the core'), { code });
    };
    const vmm = newVmm();
    await vmm.create(config());
    expect(describeError(await failure(vmm.boot()))).toContain(`The VM could not boot: ${message}`);
    await vmm.quit();
  });

  it('is a mistake of the request where the configuration is', async () => {
    const vmm = newVmm();
    await vmm.create(
      config({
        disks: [
          { path: '/a', id: 'd' },
          { path: '/b', id: 'd' },
        ],
      }),
    );
    expect((await failure(vmm.boot())).kind).toBe('conflict');
    await vmm.delete();
    await vmm.create(config({ memory: { size: 0 } }));
    expect((await failure(vmm.boot())).kind).toBe('invalid');
    await vmm.quit();
  });
});

describe('counters', () => {
  it.each([
    ['pause', 'machinePause'],
    ['reboot', 'machineDestroy'],
    ['reboot', 'machineBoot'],
  ] as const)('are what they were while %s is in %s', async (command, step) => {
    const vmm = await booted();
    const original = native[step] as (...args: unknown[]) => Promise<void>;
    let entered = () => {};
    let release = () => {};
    const inStep = new Promise<void>((resolve) => {
      entered = resolve;
    });
    native[step] = async (...args: unknown[]) => {
      entered();
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      await original(...args);
    };
    const count = native.machineCounters;
    native.machineCounters = () => ({ _disk0: { read_ops: 2n ** 64n - 1n } });
    const done = vmm[command]();
    await inStep;
    native.machineCounters = () => {
      throw Object.assign(new Error('the machine is being changed'), { code: 'EBUSY' });
    };
    expect(vmm.counters()).toEqual({ _disk0: { read_ops: 2n ** 64n - 1n } });
    native.machineCounters = count;
    native[step] = original;
    release();
    await done;
    expect(vmm.counters()).toEqual({ _disk0: { read_ops: 1n } });
    await vmm.quit();
  });
});

describe('disks', () => {
  const image = () => join(folder, 'disk');

  beforeEach(() => writeFileSync(image(), Buffer.alloc(4096)));

  it('are locked while used, and no longer', async () => {
    const vmm = newVmm();
    native.files.locked.set(image(), [{ fd: -1, exclusive: true }]);
    await vmm.create(config({ disks: [{ path: image() }] }));
    expect(describeError(await failure(vmm.boot()))).toContain(
      `Cannot lock the disk ${image()} for writing: another process uses it`,
    );
    native.files.locked.clear();
    await vmm.boot();
    await vmm.quit();
  });

  it('are waited for a little, as their last user may only just have been killed', async () => {
    const vmm = newVmm();
    native.files.locked.set(image(), [{ fd: -1, exclusive: true }]);
    await vmm.create(config({ disks: [{ path: image() }] }));
    const booting = vmm.boot();
    setTimeout(() => native.files.locked.clear(), 50);
    await booting;
    expect(vmm.state).toBe('running');
    await vmm.quit();
    expect(native.files.open.size).toBe(0);
  });

  it('of a type that was guessed are guarded', async () => {
    const vmm = await booted(
      {},
      { disks: [{ path: image() }, { path: image(), readonly: true, image_type: 'Raw' }] },
    ).catch((error) => error);
    // One file cannot be locked twice, whatever for.
    expect(describeError(vmm)).toContain('for reading: another process uses it');
  });

  it('get another size', async () => {
    const vmm = newVmm();
    expect((await failure(vmm.resizeDisk('_disk0', 512))).kind).toBe('missing');
    await vmm.create(config({ disks: [{ path: image(), image_type: 'Raw' }] }));
    expect((await failure(vmm.resizeDisk('_disk0', 512))).kind).toBe('failed');
    await vmm.boot();
    const before = vmm.info();
    await vmm.resizeDisk('_disk0', 1024);
    await vmm.pause();
    await vmm.resizeDisk('_disk0', 2048);
    expect(native.machines[0]?.calls).toEqual(['boot', 'resize _disk0 1024', 'pause', 'resize _disk0 2048']);
    expect(vmm.info()).toEqual({ ...before, state: 'Paused' });
    await vmm.quit();
  });

  it.each<[string, number, string, string]>([
    ['_disk1', 512, 'missing', 'There is no disk with id "_disk1"'],
    ['__rng', 512, 'missing', 'There is no disk with id "__rng"'],
    ['_disk0', 0, 'failed', 'The size 0 is not a positive multiple of 512 bytes'],
    ['_disk0', 513, 'failed', 'The size 513 is not a positive multiple of 512 bytes'],
    ['_disk0', 1024, 'failed', 'no room'],
  ])('%s of %i bytes is refused', async (id, bytes, kind, message) => {
    const vmm = await booted({}, { disks: [{ path: image(), image_type: 'Raw' }] });
    native.onResizeDisk = () => {
      throw new Error('no room');
    };
    const error = await failure(vmm.resizeDisk(id, bytes));
    expect([error.kind, ...errorChain(error)]).toEqual([
      kind,
      'The disk could not be resized',
      'Failed resizing a disk image',
      message,
    ]);
    expect(vmm.state).toBe('running');
    await vmm.quit();
  });

  it('keep the format that was guessed first, whatever their guest makes of them', async () => {
    const vmm = await booted({}, { disks: [{ path: image() }] });
    expect(warnings).toEqual([
      expect.stringContaining('was detected as raw: its guest cannot write to sector 0'),
    ]);
    writeFileSync(image(), 'vhdxfile'.padEnd(4096, '\0'));
    await vmm.reboot();
    await vmm.shutdown();
    await vmm.boot();
    for (const { boot } of native.machines) {
      const disk = boot?.pci.functions.find(({ kind }) => kind === 'block');
      expect(disk).toMatchObject({ layers: [{ format: 'raw' }], protectSector0: true });
    }
    expect(native.machines).toHaveLength(3);
    expect(warnings).toHaveLength(1);
    await vmm.delete();
    await vmm.create(config({ disks: [{ path: image() }] }));
    await vmm.boot();
    const disk = native.machines[3]?.boot?.pci.functions.find(({ kind }) => kind === 'block');
    expect(disk).toMatchObject({ layers: [{ format: 'vhdx' }], protectSector0: false });
    await vmm.quit();
  });

  it('reach the core as the configuration says', async () => {
    const vmm = await booted({}, { disks: [{ path: image(), serial: 's1', queue_size: 64 }] });
    const disk = native.machines[0]?.boot?.pci.functions.find(({ kind }) => kind === 'block');
    expect(disk).toMatchObject({
      id: '_disk0',
      readonly: false,
      serial: 's1',
      queueSize: 64,
      protectSector0: true,
    });
    await vmm.quit();
  });
});

describe('consoles', () => {
  it('are opened at creation, and anew for each machine', async () => {
    const vmm = newVmm();
    const log = join(folder, 'log');
    writeFileSync(log, 'old');
    await vmm.create(
      config({
        serial: { mode: 'Socket', socket: join(folder, 'serial') },
        console: { mode: 'Pty' },
        debug_console: { mode: 'File', file: log },
      }),
    );
    expect(vmm.info().config.console.file).toBe(join(folder, 'pty0'));
    expect(readFileSync(log, 'utf8')).toBe('');
    expect(existsSync(join(folder, 'serial'))).toBe(true);
    writeFileSync(log, 'from the guest');
    await vmm.boot();
    expect(readFileSync(log, 'utf8')).toBe('from the guest');
    expect(native.machines[0]?.boot?.serial?.backend.kind).toBe('socket');
    await vmm.reboot();
    expect(vmm.info().config.console.file).toBe(join(folder, 'pty1'));
    // Begun once in the VM's life: what tells the reason for a reboot stays.
    expect(readFileSync(log, 'utf8')).toBe('from the guest');
    await vmm.shutdown();
    expect(existsSync(join(folder, 'serial'))).toBe(false);
    await vmm.boot();
    expect(existsSync(join(folder, 'serial'))).toBe(true);
    await vmm.quit();
    expect(existsSync(join(folder, 'serial'))).toBe(false);
  });

  it.each([
    ['console=ttyS0', 5, -1],
    ['console=hvc0 console=tty0 console=ttyS0,115200', 5, -1],
    ['console=ttyS0 console=hvc0', -1, 5],
    ['quiet', -1, 5],
  ])('share a terminal: with %s its keys go to one of them', async (cmdline, serial, console) => {
    const tty = { mode: 'Tty' } as const;
    const vmm = newVmm({ terminal: { input: 5, output: 6 } });
    await vmm.create(
      config({ payload: { kernel: join(folder, 'kernel'), cmdline }, serial: tty, console: tty }),
    );
    await vmm.boot();
    const { boot } = native.machines[0] ?? {};
    expect(boot?.serial?.backend).toMatchObject({ input: serial, output: 6 });
    expect(boot?.pci.functions[0]).toMatchObject({ backend: { input: console, output: 6 } });
    expect(native.terminalCalls).toEqual(['raw 5']);
    await vmm.quit();
  });

  it('have logs beside them', async () => {
    const terminal = { input: 5, output: 6 };
    const log = join(folder, 'console.log');
    const vmm = await booted({ terminal }, { console: { mode: 'Tty', log } });
    expect(native.machines[0]?.boot?.pci.functions[0]).toMatchObject({
      backend: { kind: 'tty', input: 5, output: 6, log: expect.any(Number) },
    });
    expect(existsSync(log)).toBe(true);
    await vmm.quit();
    await expect(booted({}, { console: { mode: 'Tty', log: '/no/folder/log' } })).rejects.toThrow(
      "Cannot open the console's log",
    );
  });

  it('off are no devices', async () => {
    const vmm = await booted({}, { serial: { mode: 'Off' }, debug_console: { mode: 'Off' } });
    const boot = native.machines[0]?.boot;
    expect([boot?.serial, boot?.debugConsole]).toEqual([undefined, undefined]);
    expect(boot?.pci.functions.map(({ kind }) => kind)).toEqual(['rng']);
    await vmm.quit();
  });

  it('put the terminal into raw mode, and back', async () => {
    const terminal = { input: 5, output: 6 };
    const vmm = await booted({ terminal }, { console: { mode: 'Tty' } });
    expect(native.terminalCalls).toEqual(['raw 5']);
    expect(native.machines[0]?.boot?.pci.functions[0]).toMatchObject({
      backend: { kind: 'tty', input: 5, output: 6 },
      columns: 132,
      rows: 43,
    });
    await vmm.resizeConsole();
    expect(native.machines[0]?.calls).toEqual(['boot', 'resize 132x43']);
    vmm.abandon();
    expect(native.terminalCalls).toEqual(['raw 5', 'restore 5 5']);
    await vmm.quit();
    expect(native.terminalCalls).toHaveLength(2);
    await vmm.resizeConsole();
  });

  it('have the size that they are given, also after a reboot', async () => {
    const vmm = await booted({}, { console: { mode: 'Null' } });
    await vmm.resizeConsole();
    expect(native.machines[0]?.calls).toEqual(['boot']);
    await vmm.resizeConsole({ columns: 100, rows: 30 });
    expect(native.machines[0]?.calls).toEqual(['boot', 'resize 100x30']);
    await vmm.reboot();
    expect(native.machines[1]?.boot?.pci.functions[0]).toMatchObject({ columns: 100, rows: 30 });
    await vmm.quit();
  });

  it('are resized in turn, not while the machine is being changed', async () => {
    const vmm = await booted({ terminal: { input: -1, output: 6 } }, { console: { mode: 'Tty' } });
    const pausing = vmm.pause();
    const resizing = vmm.resizeConsole();
    expect(native.machines[0]?.calls).not.toContain('resize 132x43');
    await Promise.all([pausing, resizing]);
    expect(native.machines[0]?.calls).toEqual(['boot', 'pause', 'resize 132x43']);
    await vmm.quit();
  });

  it('leave the terminal alone without an input, and for the debug console', async () => {
    const terminal = { input: -1, output: 6 };
    await (await booted({ terminal }, { console: { mode: 'Tty' } })).quit();
    await (await booted({}, { debug_console: { mode: 'Tty' } })).quit();
    expect(native.terminalCalls).toEqual([]);
  });

  it.each([
    [{ serial: { mode: 'File' } }, 'serial in mode File needs a file'],
    [{ serial: { mode: 'Socket' } }, 'serial in mode Socket needs a socket'],
    [{ debug_console: { mode: 'File' } }, 'debug_console in mode File needs a file'],
    [{ serial: { mode: 'File', file: '/no/file' } }, "Cannot open the serial's file: ENOENT"],
    [
      { serial: { mode: 'Pty' }, console: { mode: 'File', file: '/no/file' } },
      "Cannot open the console's file: ENOENT",
    ],
  ] as const)('that cannot be opened leave nothing (%j)', async (extra, message) => {
    const vmm = newVmm();
    const error = await failure(vmm.create(config(extra)));
    expect(describeError(error)).toContain(`The VM could not be created: ${message}`);
    expect(error.kind).toBe(message.includes('needs') ? 'invalid' : 'failed');
    expect(vmm.state).toBe('none');
    expect(readdirSync(folder).filter((name) => name.startsWith('serial'))).toEqual([]);
    await vmm.create(config());
    await vmm.quit();
  });
});

it('boots paused: the guest begins when it is resumed', async () => {
  const vmm = newVmm();
  await vmm.create(config());
  await vmm.boot(true);
  expect(vmm.state).toBe('paused');
  await vmm.resume();
  expect(vmm.state).toBe('running');
  expect(native.machines[0]?.calls).toEqual(['boot paused', 'resume']);
  expect(events).toEqual(['vm booting', 'vm paused', 'vm resuming', 'vm resumed']);
});
