/** `tsvmm vmhost` as a supervisor starts it: a process of its own, found again by its folder. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { serveVmhost, VirtualMachine, VmhostClient } from '../../src/index.ts';
import { rawClient } from './rawClient.ts';
import {
  BIN,
  PAYLOAD,
  RUNTIMES,
  type Runtime,
  request,
  settles,
  Tsvmm,
  temporaryFolder,
  until,
} from './support.ts';

interface Child {
  readonly folder: string;
  readonly client: VmhostClient;
  readonly pid: number;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  log(): string;
}

/** A supervisor's folder with the VM `one`, whose guest runs `cmdline`. */
function makeVm(cmdline: string, more: object = {}): { configDir: string; folder: string } {
  const configDir = temporaryFolder();
  const folder = path.join(configDir, 'vms/one');
  fs.mkdirSync(folder, { recursive: true });
  const config = { payload: { kernel: PAYLOAD, cmdline }, memory: { size: 128 << 20 }, ...more };
  fs.writeFileSync(path.join(folder, 'vm.json'), JSON.stringify(config));
  return { configDir, folder };
}

function startChild(configDir: string, runtime: Runtime, args: readonly string[] = []): Child {
  const folder = path.join(configDir, 'vms/one');
  const words = ['vmhost', '--name', 'one', '--backend', 'tsvmm', '--config-dir', configDir, ...args];
  const env = { ...process.env, ...(runtime === 'node' ? { TSVMM_RUNTIME: 'node' } : {}) };
  // As the daemon does: a session of its own, and no streams.
  const child = spawn(BIN, words, { env, stdio: 'ignore', detached: true });
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal }));
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  const log = () => {
    const file = path.join(folder, 'vmhost.log');
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  };
  return {
    folder,
    client: new VmhostClient(path.join(folder, 'vmhost.sock')),
    pid: child.pid as number,
    exited,
    log,
  };
}

/** As the daemon does. */
async function ready(child: Child): Promise<void> {
  for (;;) {
    if (await child.client.isAlive()) return;
    const ended = await Promise.race([
      child.exited,
      new Promise((resolve) => setTimeout(resolve, 20, undefined)),
    ]);
    if (ended) throw new Error(`the child ended: ${JSON.stringify(ended)}\n${child.log()}`);
  }
}

/**
 * What a process leaves in its VM's folder, but for the log. The lock of one that was killed may be anybody's, and
 * stays.
 */
const left = (folder: string) => fs.readdirSync(folder).filter((name) => /^vmhost\.(sock|pid)$/.test(name));

const serialSays = (child: Child, text: string) =>
  until(
    () => fs.readFileSync(path.join(child.folder, 'serial.log'), 'utf8').includes(text),
    () => `no "${text}" in serial.log\n${child.log()}`,
  );

test.each(RUNTIMES)(
  'a VM is found by its folder, asked, stopped, and leaves nothing behind (%s)',
  async (runtime) => {
    const { configDir, folder } = makeVm('run=power-button');
    const child = startChild(configDir, runtime);
    await ready(child);
    expect(fs.readFileSync(path.join(folder, 'vmhost.pid'), 'utf8')).toBe(String(child.pid));
    expect(fs.statSync(path.join(folder, 'vmhost.pid')).mode & 0o777).toBe(0o644);
    expect(fs.statSync(path.join(folder, 'vmhost.sock')).mode & 0o077).toBe(0);
    expect(await child.client.info()).toEqual({ ok: true, state: 'running', backend: 'tsvmm' });
    await serialSays(child, 'waiting, event register');
    expect(await child.client.stop(100)).toEqual({ ok: true, state: 'stopping' });
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(left(folder)).toEqual([]);
    expect(child.log()).toMatch(
      /^\[vmhost:one\] .* stop: pressed the ACPI power button \(after \d+\.\d s\)$/m,
    );
    expect(child.log()).toMatch(/the VM ended: power-off$/m);
  },
);

test('a guest that does not heed the button is ended by force when the time is over', async () => {
  const { configDir, folder } = makeVm('run=idle');
  const child = startChild(configDir, 'standalone');
  await ready(child);
  await child.client.stop(1);
  expect(await child.exited).toEqual({ code: 0, signal: null });
  expect(child.log()).toMatch(/stop: ending the VM by force/);
  expect(left(folder)).toEqual([]);
});

test('status answers while a stop runs, and force_stop does not wait for it', async () => {
  const { configDir } = makeVm('run=idle');
  const child = startChild(configDir, 'standalone');
  await ready(child);
  await child.client.stop(3600);
  expect(await child.client.status()).toEqual({ ok: true, state: 'running' });
  expect(await child.client.forceStop()).toEqual({ ok: true, state: 'stopping' });
  expect(await child.exited).toEqual({ code: 0, signal: null });
});

test('what a killed process left is replaced; a second process for a running VM is refused', async () => {
  const { configDir, folder } = makeVm('run=idle');
  const killed = startChild(configDir, 'standalone');
  await ready(killed);
  process.kill(killed.pid, 'SIGKILL');
  await killed.exited;
  expect(left(folder)).toContain('vmhost.sock');
  const child = startChild(configDir, 'standalone');
  await ready(child);
  expect(fs.readFileSync(path.join(folder, 'vmhost.pid'), 'utf8')).toBe(String(child.pid));
  const second = startChild(configDir, 'node');
  expect((await second.exited).code).toBe(1);
  expect(child.log()).toMatch(/failed: .*vmhost\.sock is in use/);
  expect(await child.client.isAlive()).toBe(true);
  expect(fs.readFileSync(path.join(folder, 'vmhost.pid'), 'utf8')).toBe(String(child.pid));
  process.kill(child.pid, 'SIGTERM');
  expect(await child.exited).toEqual({ code: 0, signal: null });
  expect(left(folder)).toEqual([]);
});

test('of many processes that start a VM at once one runs it, and the others say why they do not', async () => {
  const { configDir, folder } = makeVm('run=idle');
  let running: Child | undefined;
  let lost = 0;
  for (let round = 0; round < 4; round++) {
    // While one before them ends, all of them may be too early.
    const before = running;
    if (before) process.kill(before.pid, 'SIGTERM');
    const children = Array.from({ length: 6 }, (_, i) =>
      startChild(configDir, RUNTIMES[(round + i) % RUNTIMES.length] as Runtime),
    );
    if (before) expect(await before.exited).toEqual({ code: 0, signal: null });
    const codes = new Map<Child, number | null>();
    for (const child of children) void child.exited.then(({ code }) => codes.set(child, code));
    await settles(() => expect(codes.size).toBeGreaterThanOrEqual(children.length - 1));
    const left = children.find((child) => !codes.has(child));
    running =
      left &&
      (await ready(left)
        .then(() => left)
        .catch(() => undefined));
    if (before === undefined) expect(running).toBeDefined();
    await settles(() => expect(codes.size).toBe(children.length - (running ? 1 : 0)));
    expect([...new Set(codes.values())]).toEqual([1]);
    lost += codes.size;
    expect(children[0]?.log().match(/failed: .*vmhost\.sock is in use/g)).toHaveLength(lost);
    if (!running) continue;
    expect(fs.readFileSync(path.join(folder, 'vmhost.pid'), 'utf8')).toBe(String(running.pid));
    expect(await running.client.status()).toEqual({ ok: true, state: 'running' });
  }
});

test.each(RUNTIMES)('it lives on when its parent ends, without any stream open (%s)', async (runtime) => {
  const { configDir, folder } = makeVm('run=idle');
  const line = 'exec setsid "$0" vmhost --name one --backend tsvmm --config-dir "$1" <&- >&- 2>&- &';
  const env = { ...process.env, ...(runtime === 'node' ? { TSVMM_RUNTIME: 'node' } : {}) };
  const parent = spawn('sh', ['-c', line, BIN, configDir], { env, stdio: 'ignore' });
  await new Promise((resolve) => parent.on('close', resolve));
  const client = new VmhostClient(path.join(folder, 'vmhost.sock'));
  await expect.poll(() => client.isAlive()).toBe(true);
  await client.forceStop();
  await expect.poll(() => left(folder)).toEqual([]);
});

test('REST beside it tells events, and errors as HTTP does if it is to', async () => {
  const { configDir, folder } = makeVm('run=idle');
  const api = path.join(folder, 'api.sock');
  const child = startChild(configDir, 'standalone', ['--api-socket', api, '--api-strict']);
  await ready(child);
  const listener = rawClient(net.connect(api));
  listener.socket.write('GET /api/v1/vm.events?after=0 HTTP/1.1\r\n\r\n');
  expect((await request(api, 'PUT', 'vm.pause')).status).toBe(204);
  await settles(() => expect(listener.text()).toMatch(/"event":"booted".*"event":"paused"/s));
  const twice = await request(api, 'PUT', 'vm.boot');
  expect([twice.status, twice.json.code]).toEqual([409, 'ERR_TSVMM_STATE']);
  expect((await request(api, 'PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await child.exited).toEqual({ code: 0, signal: null });
});

test('REST beside it is the same VM', async () => {
  const { configDir, folder } = makeVm('run=idle');
  const api = path.join(folder, 'api.sock');
  const child = startChild(configDir, 'standalone', ['--api-socket', api]);
  await ready(child);
  expect((await request(api, 'GET', 'vm.info')).json.state).toBe('Running');
  expect((await request(api, 'PUT', 'vm.pause')).status).toBe(204);
  expect(await child.client.status()).toEqual({ ok: true, state: 'running', paused: true });
  expect((await request(api, 'PUT', 'vm.shutdown')).status).toBe(204);
  expect(await child.client.status()).toEqual({ ok: true, state: 'stopped' });
  expect((await request(api, 'PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await child.exited).toEqual({ code: 0, signal: null });
  expect(left(folder)).toEqual([]);
});

test.each<[string, (folder: string) => void, RegExp]>([
  ['no configuration', (folder) => fs.rmSync(path.join(folder, 'vm.json')), /failed: .*no vm\.json/],
  [
    'a kernel that is not there',
    (folder) => fs.writeFileSync(path.join(folder, 'vm.json'), '{"payload":{"kernel":"gone"}}'),
    /failed: .*gone/,
  ],
])('%s: the reason is in the log, and nothing was ever served', async (_, spoil, reason) => {
  const { configDir, folder } = makeVm('run=idle');
  spoil(folder);
  const child = startChild(configDir, 'standalone');
  expect((await child.exited).code).toBe(1);
  expect(child.log()).toMatch(reason);
  expect(left(folder)).toEqual([]);
});

test.each<[readonly string[], number, RegExp]>([
  [['--name', 'one'], 2, /vmhost needs --name and --config-dir/],
  [['--name', 'one', '--config-dir', '/', '--backend', 'qemu'], 2, /no backend "qemu", only tsvmm/],
  [['--name', '../x', '--config-dir', '/', '--backend', 'tsvmm'], 1, /is no name of a VM/],
  [['--name', 'none', '--config-dir', '/', '--backend', 'tsvmm'], 1, /There is no VM none/],
  [['--nonsense'], 2, /nonsense/],
  [['--help'], 0, /^$/],
])('tsvmm vmhost %j ends with %d', async (args, code, stderr) => {
  const vmm = new Tsvmm(['vmhost', ...args]);
  expect((await vmm.exit()).code).toBe(code);
  expect(vmm.stderr).toMatch(stderr);
  if (code === 0) expect(vmm.stdout).toMatch(/^Usage: tsvmm vmhost/);
});

test('the library serves any VM of its own, and removes what it made when the VM is gone', async () => {
  const folder = temporaryFolder();
  const paths = { socketPath: path.join(folder, 'v.sock'), pidPath: path.join(folder, 'v.pid') };
  const vm = await VirtualMachine.create({
    kernel: PAYLOAD,
    cmdline: 'run=power-button',
    memory: '128M',
    serial: 'stream',
  });
  onTestFinished(() => vm.close());
  let output = '';
  vm.serial.on('data', (chunk: Buffer) => {
    output += chunk;
  });
  await vm.boot();
  const lines: string[] = [];
  await serveVmhost(vm, { ...paths, sshPort: 2222, log: (line) => lines.push(line) });
  await expect.poll(() => output).toContain('waiting, event register');
  const client = new VmhostClient(paths.socketPath);
  expect(await client.info()).toEqual({ ok: true, state: 'running', ssh_port: 2222, backend: 'tsvmm' });
  expect(fs.readFileSync(paths.pidPath, 'utf8')).toBe(String(process.pid));
  await vm.pause();
  await client.stop(100);
  expect((await vm.exited).reason).toBe('power-off');
  await expect.poll(() => fs.readdirSync(folder)).toEqual([]);
  expect(lines.join('\n')).toMatch(/stopping the VM within 100 s\nstop: pressed the ACPI power button/);
});

test.each(RUNTIMES)(
  'a VM whose supervisor goes while it starts ends, or can be found (%s)',
  async (runtime) => {
    const { configDir, folder } = makeVm('run=idle');
    const socket = path.join(configDir, 'children.sock');
    let hello = false;
    const supervisor = net.createServer((connection) =>
      connection.once('data', () => {
        hello = true;
        connection.destroy();
      }),
    );
    await new Promise<void>((resolve) => supervisor.listen(socket, resolve));
    onTestFinished(() => void supervisor.close());
    const child = startChild(configDir, runtime, ['--supervisor', socket]);
    await ready(child).catch(() => {});
    expect(hello).toBe(true);
    if (await child.client.isAlive()) {
      expect(fs.readFileSync(path.join(folder, 'vmhost.pid'), 'utf8')).toBe(String(child.pid));
      await child.client.forceStop();
    } else {
      expect(child.log()).toContain('the supervisor has gone before the VM was up');
    }
    expect((await child.exited).signal).toBeNull();
    expect(left(folder)).toEqual([]);
  },
);
