/** `tsvmmd` and the commands that talk to it, with payload guests. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { listeningInodes, listens } from '../../scripts/lib/listeningSockets.mjs';
import { vmhostProcessesOf } from '../../scripts/lib/vmhostProcesses.mjs';
import { VmhostClient } from '../../src/index.ts';
import { Daemon } from './daemon.ts';
import { rawClient } from './rawClient.ts';
import {
  diskImage,
  PAYLOAD,
  ROOT,
  RUNTIMES,
  request,
  settles,
  Tsvmm,
  temporaryFolder,
  until,
} from './support.ts';

test('the list shows what VMs have now', async () => {
  const daemon = new Daemon();
  await daemon.start();
  const sizes = ['--cpus', 'boot=1,max=4', '--memory', 'size=128M,hotplug_size=256M'];
  await daemon.tsvmm('run', '-d', '--name', 'one', '--kernel', PAYLOAD, '--cmdline', 'run=idle', ...sizes);
  expect(await daemon.tsvmm('ps')).toMatch(/^one +running +\d+s +1 +128 MiB /m);
  await daemon.tsvmm('ctl', 'one', 'resize', '--cpus', '3', '--memory', '256M');
  expect(await daemon.tsvmm('ps')).toMatch(/^one +running +\d+s +3 +256 MiB /m);
  await daemon.tsvmm('stop', '--force', 'one');
  expect(await daemon.tsvmm('ps', '-a')).toMatch(/^one +stopped +- +1 +128 MiB /m);
});

test.each(RUNTIMES)('a VM from its definition to its end, by hand (%s)', async (runtime) => {
  const daemon = new Daemon(runtime);
  await daemon.start(['--pool', '1']);
  expect(await daemon.vm('one', 'run=power-button')).toBe('one\n');
  await expect.poll(() => daemon.tsvmm('logs', 'one')).toContain('waiting, event register');
  expect(await daemon.tsvmm('ps')).toMatch(
    /^NAME +STATE +UP +VCPUS +MEMORY +PID +KERNEL\none +running +\d+s +1 +128 MiB +\d+ +\//,
  );
  expect(await daemon.tsvmm('stats', 'one')).toMatch(/one +running +\d+\.\d\d s +\d+/);
  const looks = await daemon.tsvmm('top', '--interval', '0.2', '--count', '2', '--json');
  expect(
    looks
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual([
    [expect.not.objectContaining({ cpus: expect.anything() })],
    [expect.objectContaining({ name: 'one', state: 'running', cpus: expect.any(Number) })],
  ]);
  expect(await daemon.tsvmm('top', '--count', '1')).toMatch(/^1 VMs use .*\nNAME .*CPU.*\none +running /);
  expect(JSON.parse(await daemon.tsvmm('inspect', 'one'))).toMatchObject({
    state: 'running',
    info: { state: 'Running' },
  });
  expect((await daemon.run('rm', 'one')).stderr).toMatch(/The VM one is running: stop it first/);
  expect(await daemon.tsvmm('stop', '-t', '100', 'one')).toBe('one\n');
  expect(await daemon.list()).toEqual({ one: 'stopped' });
  expect(await daemon.tsvmm('logs', '--process', 'one')).toContain('stop: pressed the ACPI power button');
  expect(await daemon.tsvmm('start', 'one')).toBe('one\n');
  expect(await daemon.tsvmm('rm', '-f', 'one')).toBe('one\n');
  expect(await daemon.list()).toEqual({});
  expect(fs.readdirSync(path.join(daemon.dir, 'vms'))).toEqual([]);
  expect(await daemon.kill('SIGTERM')).toBe(0);
  await expect.poll(() => daemon.processes()).toEqual([]);
  expect(fs.readdirSync(daemon.dir).sort()).toEqual(['autostarted', 'run-ids', 'vms']);
});

test('without -d the log is shown until the guest ends', async () => {
  const daemon = new Daemon();
  await daemon.start();
  const machine = ['--kernel', PAYLOAD, '--cmdline', 'run=hello,off', '--memory', 'size=128M'];
  const { code, stdout } = await daemon.run('run', '--rm', ...machine);
  expect(stdout).toContain('no such program');
  expect(code).toBe(0);
  expect(await daemon.list()).toEqual({});
});

test('a VM that is to be removed is, also if it could not start, and if nobody waits for its end', async () => {
  const daemon = new Daemon();
  await daemon.start();
  const failed = await daemon.run('run', '--rm', '--name', 'one', '--kernel', '/nowhere');
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('opening /nowhere') });
  expect(await daemon.list()).toEqual({});
  await daemon.vm('one', 'run=idle', '--rm');
  expect(await daemon.list()).toEqual({ one: 'running' });
  await daemon.tsvmm('stop', '-f', 'one');
  expect(await daemon.list()).toEqual({});
  expect(fs.readdirSync(path.join(daemon.dir, 'vms'))).toEqual([]);
});

test("the log has every run of a VM, as who follows sees it; who follows is told of the supervisor's end", async () => {
  const daemon = new Daemon();
  await daemon.start();
  const machine = ['--kernel', PAYLOAD, '--cmdline', 'run=off', '--memory', 'size=128M'];
  const once = 'ok power-off\ndone 1\n';
  expect(await daemon.tsvmm('run', '--name', 'one', '--restart', 'always:1', ...machine)).toBe(
    once.repeat(2),
  );
  await daemon.tsvmm('start', 'one');
  await expect.poll(() => daemon.tsvmm('logs', 'one')).toContain(once.repeat(3));

  await daemon.vm('two', 'run=idle');
  const follower = new Tsvmm(['logs', '--dir', daemon.dir, '--follow', 'two']);
  await follower.waitFor('idle');
  await daemon.kill('SIGKILL');
  expect(await follower.exit()).toEqual({ code: 1, signal: null });
  expect(follower.stderr).toContain('tsvmmd.sock has gone: its VMs live on');
});

test('logs --follow ends for a guest that has ended before, or is stopped', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('short', 'run=off');
  await expect.poll(() => daemon.list()).toEqual({ short: 'stopped' });
  expect(await daemon.tsvmm('logs', '-f', 'short')).toContain('ok power-off');
});

test('a log of megabytes is shown whole', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('one', 'run=idle');
  const line = `${'x'.repeat(99)}\n`;
  fs.appendFileSync(path.join(daemon.dir, 'vms/one/serial.log'), line.repeat(60_000));
  const shown = await daemon.tsvmm('logs', '-n', '60000', 'one');
  expect(shown.length).toBeGreaterThan(1 << 20);
  const all = new Tsvmm(['logs', '--dir', daemon.dir, '--follow', '--tail', 'all', 'one']);
  await until(
    () => all.stdout.length >= 6_000_000,
    () => `${all.stdout.length} bytes\n${all.stderr}`,
  );
  await daemon.tsvmm('stop', '--force', 'one');
  expect((await all.exit()).code).toBe(0);
});

test.each(['0', '1'])(
  'a VM that starts paused runs nothing before it is resumed (pool of %s)',
  async (pool) => {
    const daemon = new Daemon();
    await daemon.start(['--pool', pool]);
    const machine = ['--kernel', PAYLOAD, '--cmdline', 'run=off', '--memory', 'size=128M'];
    await daemon.tsvmm('create', '--name', 'one', ...machine);
    await daemon.tsvmm('start', '--paused', 'one');
    expect(await daemon.tsvmm('ps')).toMatch(/^one +paused /m);
    await daemon.kill('SIGKILL');
    await daemon.start(['--pool', pool]);
    expect(JSON.parse(await daemon.tsvmm('inspect', 'one'))).toMatchObject({
      state: 'running',
      paused: true,
      info: { state: 'Paused' },
    });
    expect(await daemon.tsvmm('logs', 'one')).toBe('');
    const socket = path.join(daemon.dir, 'tsvmmd.sock');
    const resumed = await request(socket, 'PUT', '../../v1/vms/one/api/api/v1/vm.resume');
    expect(resumed.status).toBe(204);
    await expect.poll(() => daemon.list()).toEqual({ one: 'stopped' });
    expect(await daemon.tsvmm('logs', 'one')).toContain('ok power-off');
  },
);

test('a stop right behind a start asks the guest first', async () => {
  const daemon = new Daemon();
  await daemon.start(['--pool', '2']);
  await daemon.tsvmm(
    'create',
    '--name',
    'one',
    '--kernel',
    PAYLOAD,
    '--cmdline',
    'run=idle',
    '--memory',
    'size=128M',
  );
  const call = (endpoint: string, body?: object) =>
    request(path.join(daemon.dir, 'tsvmmd.sock'), 'POST', `../../v1/vms/one/${endpoint}`, body);
  for (let round = 0; round < 5; round++) {
    expect((await call('start')).status).toBe(204);
    expect((await call('stop', { timeout_seconds: 1 })).status).toBe(204);
  }
  const log = await daemon.tsvmm('logs', '--process', 'one');
  expect(log.match(/stop: pressed the ACPI power button/g)).toHaveLength(5);
});

test('paths begin where they were typed, and options of a process of its own are refused', async () => {
  const daemon = new Daemon();
  await daemon.start();
  const folder = temporaryFolder();
  const options = ['--kernel', PAYLOAD, '--cmdline', 'run=idle', '--memory', 'size=128M'];
  const vmm = new Tsvmm(
    ['run', '--dir', daemon.dir, '-d', '--name', 'one', ...options, '--serial', 'tty,log=out.log'],
    { prefix: ['env', '-C', folder] },
  );
  expect((await vmm.exit()).code, vmm.stderr).toBe(0);
  expect(fs.existsSync(path.join(folder, 'out.log'))).toBe(true);
  for (const flag of [['--api-socket', '/tmp/x'], ['--log-file', '/tmp/x'], ['-v'], ['--no-shutdown']]) {
    expect(await daemon.run('run', '-d', ...options, ...flag)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/is not for a VM of a supervisor/),
    });
  }
  expect(Object.keys(await daemon.list())).toEqual(['one']);
  await daemon.tsvmm('rm', '-f', 'one');
});

test('what is wrong is said by name, and ends with a code', async () => {
  const daemon = new Daemon();
  expect(await daemon.run('ps')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/No supervisor serves .*tsvmmd/),
  });
  await daemon.start();
  expect(await daemon.run('start', 'gone')).toMatchObject({
    code: 1,
    stderr: 'tsvmm: There is no VM "gone"\n',
  });
  expect(await daemon.run('start')).toMatchObject({ code: 2, stderr: expect.stringMatching(/needs a name/) });
  expect(await daemon.run('run', '--name', 'x')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/needs --kernel/),
  });
  expect(await daemon.run('run', '--name', 'a/b', '--kernel', '/k')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/is no name of a VM/),
  });
  expect(await daemon.run('run', '-d', '--name', 'x', '--kernel', '/gone')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/The VM x could not start: .*\/gone/s),
  });
  expect(await daemon.list()).toEqual({ x: 'failed' });
  const second = new Tsvmm(['supervisor', '--dir', daemon.dir]);
  expect((await second.exit()).code).toBe(1);
  expect(second.stderr).toMatch(/Another tsvmmd looks after /);
  expect(await daemon.list()).toEqual({ x: 'failed' });
});

test('a killed supervisor loses no VM: the next one finds them, also those that ended meanwhile', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await Promise.all([
    daemon.vm('stays', 'run=idle'),
    daemon.vm('ends', 'run=idle'),
    daemon.vm('again', 'run=idle', '--restart', 'always'),
  ]);
  await daemon.kill('SIGKILL');
  const pidOf = (name: string) =>
    Number(fs.readFileSync(path.join(daemon.dir, 'vms', name, 'vmhost.pid'), 'utf8'));
  const stays = pidOf('stays');
  for (const name of ['ends', 'again']) process.kill(pidOf(name), 'SIGKILL');
  await daemon.start();
  await expect.poll(() => daemon.list()).toEqual({ stays: 'running', ends: 'failed', again: 'running' });
  expect(pidOf('stays')).toBe(stays);
  await daemon.tsvmm('stop', '--force', 'stays', 'again');
  expect(daemon.processes()).toEqual([]);
});

test('a VM that powered off while no supervisor ran is not started again, and the uptime of others goes on', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('off', 'run=power-button', '--restart', 'on-failure');
  await daemon.vm('on', 'run=idle', '--restart', 'on-failure');
  await expect.poll(() => daemon.tsvmm('logs', 'off')).toContain('waiting, event register');
  const upOf = async (name: string) => JSON.parse(await daemon.tsvmm('inspect', name)).uptime_seconds;
  await settles(async () => expect(await upOf('on')).toBeGreaterThanOrEqual(2));
  await daemon.kill('SIGKILL');
  const client = new VmhostClient(path.join(daemon.dir, 'vms/off/vmhost.sock'));
  await client.stop(60);
  await settles(async () => expect(await client.isAlive()).toBe(false));
  await daemon.start();
  expect(await daemon.list()).toEqual({ off: 'stopped', on: 'running' });
  expect(JSON.parse(await daemon.tsvmm('inspect', 'off')).last_exit).toEqual({
    reason: 'power-off',
    code: 0,
  });
  expect(await upOf('on')).toBeGreaterThanOrEqual(2);
  await daemon.tsvmm('rm', '-f', 'on');
});

test('SIGTERM leaves VMs alone; with --stop-vms it ends them; those with autostart come back', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('one', 'run=idle', '--stop-timeout', '1');
  await daemon.vm('auto', 'run=idle', '--stop-timeout', '1', '--autostart');
  expect(await daemon.kill('SIGTERM')).toBe(0);
  expect(daemon.processes()).toHaveLength(2);
  await daemon.start(['--stop-vms', '--pool', '0']);
  expect(await daemon.list()).toEqual({ one: 'running', auto: 'running' });
  expect(await daemon.kill('SIGTERM')).toBe(0);
  expect(daemon.processes()).toEqual([]);
  await daemon.start();
  await expect.poll(() => daemon.list()).toEqual({ one: 'stopped', auto: 'running' });
  await daemon.tsvmm('stop', '-t', '1', 'auto');
});

test('the REST API of each VM, events and metrics are below the one socket', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('one', 'run=idle');
  const socket = path.join(daemon.dir, 'tsvmmd.sock');
  const events = new Tsvmm(['events', '--dir', daemon.dir]);
  const call = (method: string, endpoint: string) => request(socket, method, `../../v1/${endpoint}`);
  const listener = rawClient(net.connect(socket));
  listener.socket.write('GET /v1/vms/one/api/api/v1/vm.events?after=0 HTTP/1.1\r\nHost: h\r\n\r\n');
  // The command has to be connected before something happens.
  await expect
    .poll(async () => {
      await call('PUT', 'vms/one/api/api/v1/vm.pause');
      await call('PUT', 'vms/one/api/api/v1/vm.resume');
      return events.stdout;
    })
    .toContain('one vm resumed');
  await settles(() =>
    expect(listener.text()).toMatch(/^HTTP\/1\.1 200 .*"event":"booted".*"event":"resumed"/s),
  );
  expect((await call('GET', 'vms/one/api/api/v1/vm.info')).json.state).toBe('Running');
  const metrics = await new Promise<string>((resolve, reject) => {
    const sent = http.get({ socketPath: socket, path: '/metrics', agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      answer.on('end', () => resolve(text));
    });
    sent.on('error', reject);
  });
  expect(metrics).toMatch(/^tsvmm_vm_state\{vm="one",state="running"\} 1$/m);
  await daemon.tsvmm('stop', '--force', 'one');
  expect((await call('GET', 'vms/one/api/api/v1/vm.info')).status).toBe(409);
  expect((await call('GET', 'vms/none')).status).toBe(404);
});

test('integers of 64 bits are the same from a definition to the VM that runs', async () => {
  const daemon = new Daemon();
  await daemon.start();
  const most = String(2n ** 64n - 1n);
  const disk = `path=${diskImage(temporaryFolder(), 'disk.img')},image_type=raw,bw_size=${most},bw_refill_time=1000`;
  const machine = ['--kernel', PAYLOAD, '--cmdline', 'run=idle', '--memory', 'size=128M', '--disk', disk];
  await daemon.tsvmm('create', '--name', 'vast', ...machine);
  await daemon.kill('SIGKILL');
  await daemon.start();
  await daemon.tsvmm('start', 'vast');
  const shown = await daemon.tsvmm('inspect', 'vast');
  expect(shown.match(/"size": \d{11,}/g)).toEqual(Array(2).fill(`"size": ${most}`));
  await daemon.tsvmm('rm', '-f', 'vast');
});

test('VMs are defined, started, stopped and removed while the supervisor is killed again and again', async () => {
  const daemon = new Daemon();
  await daemon.start(['--pool', '2']);
  const acknowledged = new Set<string>();
  for (let round = 0; round < 12; round++) {
    const name = `v${round}`;
    const killed = round % 3 === 2;
    const work = daemon.run(
      'run',
      '-d',
      '--name',
      name,
      '--kernel',
      PAYLOAD,
      '--cmdline',
      'run=idle',
      '--memory',
      'size=128M',
    );
    if (killed) {
      await new Promise((resolve) => setTimeout(resolve, 20 * round));
      await daemon.kill('SIGKILL');
    }
    if ((await work).code === 0) acknowledged.add(name);
    if (killed) await daemon.start(['--pool', '2']);
    if (round % 2 === 1 && acknowledged.delete(`v${round - 1}`))
      await daemon.tsvmm('rm', '-f', `v${round - 1}`);
  }
  const states = await daemon.list();
  for (const name of acknowledged) expect(states[name], name).toBe('running');
  await daemon.tsvmm('rm', '-f', ...Object.keys(states));
  expect(await daemon.list()).toEqual({});
  await daemon.kill('SIGTERM');
  await expect.poll(() => daemon.processes()).toEqual([]);
  expect(fs.readdirSync(path.join(daemon.dir, 'vms'))).toEqual([]);
});

test.each(RUNTIMES)(
  'sockets that a service manager listens on start it, are used, and stay (%s)',
  async (runtime) => {
    const dir = temporaryFolder();
    const names = ['tsvmmd.sock', 'virttsvmmd-sock', 'virttsvmmd-sock-ro'];
    const sockets = names.map((name) => path.join(dir, 'run', name));
    fs.mkdirSync(path.join(dir, 'run'));
    const words = [`--fdname=${names.join(':')}`, ...sockets.map((socket) => `--listen=${socket}`)];
    const environment = runtime === 'node' ? ['--setenv=TSVMM_RUNTIME=node'] : [];
    const command = [path.join(ROOT, 'bin/tsvmmd'), '--dir', dir, '--pool', '0'];
    const activated = spawn('systemd-socket-activate', [...words, ...environment, ...command], {
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => activated.once('exit', resolve));
    const pid = activated.pid as number;
    onTestFinished(async () => {
      activated.kill('SIGKILL');
      await ended;
      for (const process of vmhostProcessesOf(dir)) killNow(process);
    });
    await settles(() => expect(sockets.filter(listens)).toEqual(sockets));
    const [api = '', libvirt = ''] = sockets;
    const call = (method: string, endpoint: string, body?: object) =>
      request(api, method, `../../v1/${endpoint}`, body);
    expect((await call('GET', 'ping')).json.pid).toBe(pid);
    const config = { payload: { kernel: PAYLOAD, cmdline: 'run=idle' }, memory: { size: 128 << 20 } };
    expect((await call('POST', 'vms', { name: 'one', config })).status).toBe(201);
    expect((await call('POST', 'vms/one/start')).status).toBe(204);
    // A frame that is no call: whoever serves libvirt's clients ends the connection.
    const answered = new Promise((resolve) =>
      net.connect(libvirt).once('close', resolve).end(Buffer.alloc(28)),
    );
    await answered;
    expect(fs.readdirSync(dir).sort()).toEqual([
      'autostarted',
      'children.sock',
      'children.sock.lock',
      'run',
      'run-ids',
      'vms',
    ]);
    expect(fs.readdirSync(path.join(dir, 'run')).sort()).toEqual(names);
    expect(networkSockets([pid, ...vmhostProcessesOf(dir)])).toEqual([]);
    const [child = 0] = vmhostProcessesOf(dir);
    const listening = listeningInodes(sockets);
    expect(listening).toHaveLength(3);
    expect(socketInodes(child).filter((inode) => listening.includes(inode))).toEqual([]);
    activated.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(fs.readdirSync(path.join(dir, 'run')).sort()).toEqual(names);
    expect(vmhostProcessesOf(dir)).toEqual([child]);
  },
);

test.each(RUNTIMES)(
  'its sockets, and those of its VMs, listen when they get their paths (%s)',
  async (runtime) => {
    const daemon = new Daemon(runtime);
    const at = (name: string) => path.join(daemon.dir, name);
    const own = ['tsvmmd.sock', 'virttsvmmd-sock', 'virttsvmmd-sock-ro', 'children.sock'].map(at);
    // A client that tries all the time, and takes no for an answer only while there is no file.
    const clients = own.map((socket) => connectWhenThere(socket));
    await daemon.start();
    await Promise.all(clients);
    await daemon.vm('one', 'run=idle');
    const all = [...own, at('vms/one/vmhost.sock'), at('vms/one/api.sock')];
    expect(all.filter((socket) => !listens(`${socket}.bound`))).toEqual([]);
    expect(all.map((socket) => fs.statSync(socket).mode & 0o777)).toEqual(all.map(() => 0o600));
    expect(fs.readdirSync(daemon.dir, { recursive: true, encoding: 'utf8' }).join(' ')).not.toContain(
      '.bound',
    );
  },
);

test.each(RUNTIMES)(
  'sockets of a supervisor that was killed are replaced, those in use are not (%s)',
  async (runtime) => {
    const daemon = new Daemon(runtime);
    await daemon.start();
    await daemon.kill('SIGKILL');
    await daemon.start();
    expect(await daemon.list()).toEqual({});
    await daemon.kill('SIGTERM');
    const foreign = net.createServer().listen(path.join(daemon.dir, 'virttsvmmd-sock'));
    onTestFinished(() => void foreign.close());
    await daemon.start();
    expect(await daemon.exited).toBe(1);
    expect(daemon.stderr).toMatch(/Cannot listen on .*virttsvmmd-sock: .*Address already in use/);
  },
);

test('nothing of it is reached by a network', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('one', 'run=idle');
  expect(networkSockets([daemon.pid, ...daemon.processes()])).toEqual([]);
});

/** @throws Error of the first attempt that met a file and failed */
async function connectWhenThere(socket: string): Promise<void> {
  const end = Date.now() + 20_000;
  while (Date.now() < end) {
    const client = net.connect(socket);
    const [error] = await new Promise<[NodeJS.ErrnoException?]>((resolve) => {
      client.once('connect', () => resolve([])).once('error', (error) => resolve([error]));
    });
    client.destroy();
    if (error === undefined) return;
    if (error.code !== 'ENOENT') throw error;
  }
  throw new Error(`${socket} does not come`);
}

function socketInodes(pid: number): string[] {
  return fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(fs.readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
    } catch {
      return []; // Closed meanwhile.
    }
  });
}

/** Those of TCP and UDP that these processes have. */
function networkSockets(pids: readonly number[]): string[] {
  const ours = new Set(pids.flatMap(socketInodes));
  const all = ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((kind) =>
    fs
      .readFileSync(`/proc/net/${kind}`, 'utf8')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/ +/)[9] ?? ''),
  );
  return all.filter((inode) => ours.has(inode));
}

function killNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended meanwhile.
  }
}
