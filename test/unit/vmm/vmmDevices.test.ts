import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { Descriptor } from '../../../src/boundary/cbor.ts';
import { decode } from '../../../src/config/decode.ts';
import { receiveMigrationData } from '../../../src/config/migration.ts';
import { restoreConfig } from '../../../src/config/restore.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { FileKind } from '../../../src/host/openFlags.ts';
import { describeError, errorChain } from '../../../src/vmm/errors.ts';

import { booted, config, events, failure, folder, native, newVmm, warnings } from './vmmFixture.ts';

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
    [{ id: '' }, 'invalid', ['Failed to validate config', 'An identifier must not be empty']],
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

  it('keep their descriptors from the end of the VM before, behind which they wait', async () => {
    const vmm = newVmm();
    await vmm.create(config());
    const fds = [native.openFile('/dev/null', 0, 0, FileKind.character)];
    const net = { ...decode(vmConfig, { net: [{ id: 'n' }] }).net?.[0], fds };
    await Promise.all([vmm.delete(), vmm.create(config()), vmm.addDevice('net', net, fds)]);
    expect([...native.files.open]).toEqual(fds);
    await vmm.quit();
    expect([...native.files.open]).toEqual([]);
  });

  it('have their descriptors closed when the VMM has ended', async () => {
    const vmm = newVmm();
    const fds = [native.openFile('/dev/null', 0, 0, FileKind.character)];
    const ended = vmm.quit();
    await failure(vmm.addDevice('net', { fds }, fds));
    await ended;
    expect([...native.files.open]).toEqual([]);
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

describe('disks', () => {
  const image = () => join(folder, 'disk');

  beforeEach(() => writeFileSync(image(), Buffer.alloc(4096)));

  it('are locked while used, and no longer', async () => {
    const vmm = newVmm();
    native.files.locked.set(image(), [{ fd: -1, exclusive: true }]);
    await vmm.create(config({ disks: [{ path: image() }] }));
    expect(describeError(await failure(vmm.boot()))).toContain(
      `Cannot lock the disk ${image()} for writing: another process, or another disk of this VM, uses it`,
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
    expect(describeError(vmm)).toContain('for reading: another process, or another disk of this VM, uses it');
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
  it('are opened at creation, and anew for each machine, but for pseudo terminals, which stay open', async () => {
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
    expect(vmm.info().config.console.file).toBe(join(folder, 'pty0'));
    // Begun once in the VM's life: what tells the reason for a reboot stays.
    expect(readFileSync(log, 'utf8')).toBe('from the guest');
    await vmm.shutdown();
    expect(existsSync(join(folder, 'serial'))).toBe(false);
    await vmm.boot();
    expect(existsSync(join(folder, 'serial'))).toBe(true);
    expect(vmm.info().config.console.file).toBe(join(folder, 'pty1'));
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
    const output = new Descriptor(6);
    const ttyOf = (input: number) => ({
      kind: 'tty',
      ...(input >= 0 && { input: new Descriptor(input) }),
      output,
    });
    expect(boot?.serial?.backend).toEqual(ttyOf(serial));
    expect(boot?.pci.functions[0]).toMatchObject({ backend: ttyOf(console) });
    expect(native.terminalCalls).toEqual(['raw 5']);
    await vmm.quit();
  });

  it('have logs beside them', async () => {
    const terminal = { input: 5, output: 6 };
    const log = join(folder, 'console.log');
    const vmm = await booted({ terminal }, { console: { mode: 'Tty', log } });
    expect(native.machines[0]?.boot?.pci.functions[0]).toMatchObject({
      backend: {
        kind: 'tty',
        input: new Descriptor(5),
        output: new Descriptor(6),
        log: expect.any(Descriptor),
      },
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
      backend: { kind: 'tty', input: new Descriptor(5), output: new Descriptor(6) },
      columns: 132,
      rows: 43,
    });
    await vmm.resizeConsole();
    expect(native.machines[0]?.calls).toEqual(['boot', 'resize 132x43']);
    vmm.abandon();
    expect(native.terminalCalls).toEqual(['raw 5', 'restore 5']);
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
