/** What `tsvmmd` does where its host fails it: each a clear error, and nothing lost. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { VmhostClient } from '../../src/index.ts';
import { Daemon } from './daemon.ts';
import { PAYLOAD, ROOT, request, settles, Tsvmm, temporaryFolder } from './support.ts';
import { run } from './virsh.ts';

const MACHINE = ['--kernel', PAYLOAD, '--cmdline', 'run=idle', '--memory', 'size=128M'];

/** Mounts what a test wants to fail, for its time. */
function mount(target: string, ...args: string[]): void {
  execFileSync('mount', [...args, target], { stdio: 'pipe' });
  onTestFinished(() => void spawnSync('umount', ['--lazy', target]));
}

const mayMount = spawnSync('unshare', ['--mount', 'true']).status === 0;
/** Why not, where a test of that name says so. */
const needsMounts = test.skipIf(!mayMount);
if (!mayMount)
  console.warn(
    'full disks, read-only folders and a host without KVM are not tested: this user may not mount any',
  );

/** Once the processes of VMs are gone, so that nothing is busy. */
function endWithin(daemon: Daemon): void {
  onTestFinished(async () => {
    await daemon.kill('SIGKILL');
    for (const pid of daemon.processes()) process.kill(pid, 'SIGKILL');
  });
}

for (const pool of ['0', '1']) {
  needsMounts(
    `without permission to use KVM a start says so, and the VM's log (pool of ${pool})`,
    async () => {
      const daemon = new Daemon();
      // No devices there, for whom starts in it and below.
      const script =
        'mount --bind /dev/kvm /dev/kvm && mount -o remount,bind,nodev /dev/kvm && exec "$0" "$@"';
      await daemon.start(['--pool', pool], ['unshare', '--mount', 'sh', '-c', script]);
      const told = 'No permission to open /dev/kvm: this user is not allowed to use KVM';
      const started = await daemon.run('run', '-d', '--name', 'one', ...MACHINE);
      expect(started).toMatchObject({ code: 1, stderr: expect.stringContaining(told) });
      expect(await daemon.tsvmm('logs', '--process', 'one')).toContain(told);
      expect(await daemon.list()).toEqual({ one: 'failed' });
    },
  );
}

needsMounts(
  'a full disk: what cannot be kept is refused, what was kept stays, and how a VM ended is known',
  async () => {
    const daemon = new Daemon();
    mount(daemon.dir, '-t', 'tmpfs', '-o', 'size=512k', 'tmpfs');
    endWithin(daemon);
    await daemon.start();
    await daemon.vm('off', 'run=power-button', '--restart', 'on-failure');
    await daemon.tsvmm('create', '--name', 'kept', ...MACHINE);
    await settles(async () => expect(await daemon.tsvmm('logs', 'off')).toContain('waiting, event register'));
    const filler = path.join(daemon.dir, 'filler');
    expect(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20))).toThrow(/ENOSPC/);
    expect(await daemon.run('create', '--name', 'new', ...MACHINE)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/The definition of the VM new cannot be written: ENOSPC/),
    });
    const started = await daemon.run('start', 'kept');
    expect(started).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/kept could not start: .*no space/is),
    });
    expect(await daemon.list()).toEqual({ kept: 'failed', off: 'running' });
    // Also the next supervisor, which was not there when it ended.
    await daemon.kill('SIGKILL');
    await new VmhostClient(path.join(daemon.dir, 'vms/off/vmhost.sock')).stop(60);
    await settles(() => expect(daemon.processes()).toEqual([]));
    await daemon.start();
    expect(JSON.parse(await daemon.tsvmm('inspect', 'off'))).toMatchObject({
      state: 'stopped',
      last_exit: { reason: 'power-off' },
    });
    fs.rmSync(filler);
    await daemon.tsvmm('create', '--name', 'new', ...MACHINE);
    await daemon.tsvmm('start', 'kept');
    await daemon.tsvmm('rm', '-f', 'kept', 'new', 'off');
    expect(await daemon.list()).toEqual({});
  },
);

needsMounts(
  'a folder that becomes read-only: VMs run on and can be stopped, changes are refused',
  async () => {
    const daemon = new Daemon();
    endWithin(daemon);
    await daemon.start();
    await daemon.vm('one', 'run=idle');
    mount(daemon.dir, '--bind', daemon.dir);
    execFileSync('mount', ['-o', 'remount,bind,ro', daemon.dir]);
    expect(await daemon.run('create', '--name', 'new', ...MACHINE)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/The definition of the VM new cannot be written: EROFS/),
    });
    expect(await daemon.list()).toEqual({ one: 'running' });
    await daemon.tsvmm('stop', '--force', 'one');
    expect(await daemon.list()).toEqual({ one: 'stopped' });
    expect(await daemon.run('start', 'one')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/one could not start: .*(EROFS|read-only)/is),
    });
    expect(await daemon.run('rm', 'one')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/one cannot be removed: EROFS/),
    });
    await daemon.kill('SIGKILL');
    const next = new Tsvmm(['supervisor', '--dir', daemon.dir]);
    expect((await next.exit()).code).toBe(1);
    expect(next.stderr).toMatch(/^tsvmm: Cannot keep anything in .*: EROFS/);
  },
);

needsMounts(
  'a folder that cannot be removed as a whole is named, and goes when that is possible',
  async () => {
    const daemon = new Daemon();
    endWithin(daemon);
    await daemon.start();
    const vms = path.join(daemon.dir, 'vms');
    const leftovers = () => fs.readdirSync(vms);
    for (const round of [1, 2]) {
      await daemon.tsvmm('create', '--name', 'one', ...MACHINE);
      const inside = path.join(vms, 'one/inside');
      fs.mkdirSync(inside);
      mount(inside, '-t', 'tmpfs', 'tmpfs');
      expect(await daemon.run('rm', '-f', 'one')).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/The VM one is gone, but not all of its folder, which is .*: E/),
      });
      expect(await daemon.list()).toEqual({});
      expect(leftovers()).toHaveLength(round);
    }
    await daemon.kill('SIGKILL');
    for (const name of leftovers()) execFileSync('umount', [path.join(vms, name, 'inside')]);
    await daemon.start();
    expect(leftovers()).toEqual([]);
  },
);

test('a folder that cannot be made is named', async () => {
  const file = path.join(temporaryFolder(), 'file');
  fs.writeFileSync(file, '');
  const daemon = new Tsvmm(['supervisor', '--dir', `${file}/vms`]);
  expect((await daemon.exit()).code).toBe(1);
  expect(daemon.stderr).toMatch(/^tsvmm: Cannot keep anything in .*file\/vms: ENOTDIR/);
});

test('a running VM whose definition was broken is found, runs, is stopped and removed', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('one', 'run=idle', '--restart', 'always');
  await daemon.kill('SIGKILL');
  fs.writeFileSync(path.join(daemon.dir, 'vms/one/vm.json'), '{"payl');
  await daemon.start();
  expect(daemon.stderr).toMatch(/The definition of the VM one is broken: Cannot read .*vm.json/);
  const described = JSON.parse(await daemon.tsvmm('inspect', 'one'));
  expect(described).toMatchObject({ state: 'running', error: expect.stringMatching(/vm.json/) });
  expect(described).not.toHaveProperty('config');
  // What runs is asked how large it is.
  expect(await daemon.tsvmm('ps')).toMatch(/^one +running +\S+ +1 +128 MiB .*vm.json/m);
  expect(await daemon.run('restart', 'one')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/is broken/),
  });
  expect(await daemon.list()).toEqual({ one: 'running' });
  await daemon.tsvmm('stop', '--force', 'one');
  expect(await daemon.tsvmm('ps', '-a')).toMatch(/^one +broken +- +- +- +- +Cannot read .*vm.json/m);
  expect(await daemon.run('start', 'one')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/The definition of the VM one is broken/),
  });
  await daemon.tsvmm('rm', 'one');
  expect(await daemon.list()).toEqual({});
});

test('a running VM whose policy is broken is not stopped by what another policy would say', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('one', 'run=idle', '--restart', 'always', '--stop-timeout', '3600');
  await daemon.kill('SIGKILL');
  fs.writeFileSync(path.join(daemon.dir, 'vms/one/policy.json'), '');
  await daemon.start();
  expect(await daemon.run('stop', 'one')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /The definition of the VM one is broken: .*policy.json.*: say how many seconds/,
    ),
  });
  expect(await daemon.list()).toEqual({ one: 'running' });
  await daemon.tsvmm('stop', '--time', '1', 'one');
  expect(await daemon.list()).toEqual({ one: 'broken' });
});

test('a process that does not answer is shown as that, and found again when it does', {
  timeout: 90_000,
}, async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('one', 'run=idle');
  const [pid = 0] = daemon.processes();
  await daemon.kill('SIGKILL');
  process.kill(pid, 'SIGSTOP');
  await daemon.start();
  expect(await daemon.list()).toEqual({ one: 'unresponsive' });
  expect(JSON.parse(await daemon.tsvmm('inspect', 'one')).error).toMatch(/did not answer within 5 s/);
  process.kill(pid, 'SIGCONT');
  await settles(async () => expect(await daemon.list()).toEqual({ one: 'running' }));
});

test('what was acknowledged outlives a supervisor that is killed at any moment', {
  timeout: 300_000,
}, async () => {
  const soak = spawn(process.execPath, [path.join(ROOT, 'test/kvm/supervisorSoak.mjs'), '24'], {
    stdio: 'pipe',
  });
  let said = '';
  for (const stream of [soak.stdout, soak.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  }
  const code = await new Promise((resolve) => soak.once('close', resolve));
  expect(said).toMatch(/^24 cycles, \d+ kills, nothing lost and nothing left$/m);
  expect(code).toBe(0);
});

test.each(['tsvmmd.sock', 'virttsvmmd-sock', 'children.sock'])(
  'clients of %s that say nothing, however many, keep nobody waiting',
  async (name) => {
    const daemon = new Daemon();
    await daemon.start();
    const strangers = Array.from({ length: 2_000 }, () =>
      net.connect(path.join(daemon.dir, name)).on('error', () => {}),
    );
    onTestFinished(() => {
      for (const each of strangers) each.destroy();
    });
    await settles(() =>
      expect(daemon.stderr).toMatch(new RegExp(`${name} has \\d+ clients, those that ask for nothing`)),
    );
    expect(await daemon.list()).toEqual({});
    const uri = `tsvmm+unix:///system?socket=${daemon.dir}/virttsvmmd-sock`;
    expect(await run('virsh', ['-c', uri, 'list', '--all', '--name'])).toMatchObject({
      code: 0,
      stdout: '\n',
    });
    await daemon.vm('one', 'run=idle');
    expect(await daemon.list()).toEqual({ one: 'running' });
  },
);

test('the socket answers a client that speaks no HTTP, and others meanwhile', async () => {
  const daemon = new Daemon();
  await daemon.start();
  const socket = path.join(daemon.dir, 'tsvmmd.sock');
  const strange = net.connect(socket).on('error', () => {});
  strange.write(Buffer.alloc(100_000, 0xff));
  expect((await request(socket, 'GET', '../../v1/ping')).status).toBe(200);
  strange.destroy();
});
