import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { sendMigrationData } from '../../../src/config/migration.ts';
import { restoreConfig } from '../../../src/config/restore.ts';
import { describeError, errorChain, wasCalledOff } from '../../../src/vmm/errors.ts';
import type { VmmEvent } from '../../../src/vmm/events.ts';
import type { Vmm } from '../../../src/vmm/vmm.ts';
import { makeElf } from '../platform/support.ts';

import { booted, config, events, failure, folder, guest, native, newVmm } from './vmmFixture.ts';

describe('a running VM', () => {
  it.each([
    ['a zone', (vmm: Vmm) => vmm.resizeZone('z', 4096), 'There is no memory zone with id "z"'],
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

describe('a machine in the place of another one', () => {
  it('is made in two turns, between which the thread sleeps', async () => {
    const vmm = await booted();
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const rebooted = vmm.reboot();
    while (vi.getTimerCount() === 0) await new Promise(setImmediate);
    expect(native.machines).toHaveLength(2);
    expect(native.machines[1]?.calls).toEqual([]);
    vi.runAllTimers();
    await rebooted;
    expect(native.machines[1]?.calls).toEqual(['boot']);
    await vmm.quit();
  });
});

describe('a watcher of vm.info', () => {
  it('is told once of what a command changes in one go', async () => {
    const vmm = await booted();
    let told = 0;
    vmm.watchInfo(() => told++);
    await vmm.pause();
    // Before the machine ceases to answer, and when it is paused and answers again.
    expect(told).toBe(2);
    await vmm.resume();
    expect(told).toBe(4);
    // And when the machine is gone, and the next one's files are open.
    await vmm.reboot();
    expect(told).toBe(8);
    await vmm.quit();
  });

  const shown = (vmm: Vmm) => (vmm.state === 'none' ? 'none' : JSON.stringify(vmm.info()));

  it('is told of every change before a listener gets the event: clients of it ask at once', async () => {
    let known = 'none';
    const stale: string[] = [];
    const onEvent = ({ event }: VmmEvent) => {
      if (shown(vmm) !== known) stale.push(event);
    };
    const vmm = newVmm({ onEvent, stayOnPowerOff: true });
    vmm.watchInfo(() => {
      known = shown(vmm);
    });
    await vmm.create(config());
    await vmm.boot();
    await vmm.pause();
    await vmm.resume();
    await vmm.reboot();
    guest({ type: 'reset', cause: 'i8042' });
    await vmm.resizeConsole();
    guest({ type: 'power-off' });
    await vmm.resizeConsole();
    await vmm.boot();
    await vmm.shutdown();
    await vmm.delete();
    await vmm.quit();
    expect(stale).toEqual([]);
  });

  it('is told of every change, before anything else happens', async () => {
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

  it('tells of a reboot in its turn, and of none that is refused', async () => {
    const vmm = newVmm();
    await vmm.create(config());
    await expect(vmm.reboot()).rejects.toThrow();
    await vmm.boot();
    await Promise.all([vmm.pause(), vmm.reboot()]);
    expect(events).toEqual([
      ...['vm booting', 'vm booted', 'vm pausing', 'vm paused', 'vm rebooting', 'vm rebooted'],
    ]);
    await vmm.quit();
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

  it('calls off a machine that is only made after that, when the one before has gone', async () => {
    const vmm = await booted();
    let calledOff = false;
    native.onCallOff = ({ calls }) => {
      calledOff = calls.length === 0;
    };
    native.onBoot = () => {
      if (calledOff) throw Object.assign(new Error('called off'), { code: 'ECANCELED' });
    };
    let gone: () => void = () => {};
    native.onDestroy = () =>
      new Promise((resolve) => {
        gone = resolve;
      });
    const reboot = failure(vmm.reboot());
    await expect.poll(() => native.machines[0]?.calls).toContain('destroy');
    const quit = vmm.quit();
    native.onDestroy = () => {};
    gone();
    expect(wasCalledOff(await reboot)).toBe(true);
    await quit;
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
      'VM config is missing',
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
    await Promise.all([expect(boot).rejects.toSatisfy(wasCalledOff), vmm.quit()]);
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

describe('failing to boot', () => {
  it.each([
    ['a missing kernel', { payload: { kernel: '/no/kernel' } }, 'Cannot open kernel file /no/kernel'],
    [
      'a missing firmware',
      { payload: { firmware: '/no/firmware' } },
      'Cannot open firmware file /no/firmware',
    ],
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
