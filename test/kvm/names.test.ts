/**
 * What is opened by a name, and who reads what the process writes: nothing blocks, and nothing that is in use is lost.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  diskImage,
  guestArgs,
  PAYLOAD,
  RUNTIMES,
  runGuest,
  sleep,
  startGuest,
  Tsvmm,
  temporaryFolder,
  until,
} from './support.ts';

function fifo(): string {
  const name = path.join(temporaryFolder(), 'fifo');
  execFileSync('mkfifo', [name]);
  return name;
}

/** Another program that listens at a path for as long as the test. */
async function listener(at: string): Promise<void> {
  const server = net.createServer().listen(at);
  await new Promise((resolve) => server.once('listening', resolve));
  onTestFinished(() => {
    server.close();
  });
}

describe('a FIFO that nobody uses blocks nothing', () => {
  const uses: readonly [string, (file: string) => string[]][] = [
    ['kernel', (file) => ['--kernel', file]],
    ['initramfs', (file) => ['--kernel', PAYLOAD, '--initramfs', file]],
    ['disk', (file) => ['--kernel', PAYLOAD, '--disk', `path=${file},image_type=raw`]],
    ['read-only disk', (file) => ['--kernel', PAYLOAD, '--disk', `path=${file},readonly=on`]],
    ['persistent memory', (file) => ['--kernel', PAYLOAD, '--pmem', `file=${file}`]],
    ['temporary memory', (file) => ['--kernel', PAYLOAD, '--pmem', `file=${file},size=2M`]],
    ['entropy source', (file) => ['--kernel', PAYLOAD, '--rng', `src=${file}`]],
    ['serial port', (file) => ['--kernel', PAYLOAD, '--serial', `file=${file}`]],
    ['debug console', (file) => ['--kernel', PAYLOAD, '--debug-console', `file=${file}`]],
    ['log', (file) => ['--kernel', PAYLOAD, '--log-file', file]],
    ['API socket', (file) => ['--kernel', PAYLOAD, '--api-socket', file]],
    ['vsock', (file) => ['--kernel', PAYLOAD, '--vsock', `cid=3,socket=${file}`]],
  ];
  test.each(uses)('as %s', async (_name, args) => {
    const file = fifo();
    const vmm = new Tsvmm([...args(file), '--console', 'off', '--memory', 'size=128M']);
    expect(await vmm.exit()).toEqual({ code: 1, signal: null });
    expect(vmm.stderr).toContain(file);
    expect(fs.statSync(file).isFIFO()).toBe(true);
  });
});

test('a FIFO that somebody has open is a console', async () => {
  const file = fifo();
  const reader = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
  onTestFinished(() => fs.closeSync(reader));
  const args = ['--kernel', PAYLOAD, '--cmdline', 'run=serial', '--memory', 'size=128M'];
  const vmm = new Tsvmm([...args, '--serial', `file=${file}`, '--console', 'off']);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  const bytes = Buffer.alloc(1024);
  expect(bytes.toString('latin1', 0, fs.readSync(reader, bytes))).toMatch(/^hello from ring 3\n/);
});

test.each(RUNTIMES)('a FIFO has the events for who comes to read them later, %s', async (runtime) => {
  const file = fifo();
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = new Tsvmm(['--api-socket', `path=${socket}`, '--event-monitor', `path=${file}`], { runtime });
  await vmm.ready();
  expect((await vmm.api('PUT', 'vm.create', { console: { mode: 'Off' } })).status).toBe(204);
  expect((await vmm.api('PUT', 'vm.delete')).status).toBe(204);
  const reader = fs.openSync(file, fs.constants.O_RDONLY);
  onTestFinished(() => fs.closeSync(reader));
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  // To its end: nobody has it open for writing any more.
  const records = fs.readFileSync(reader, 'utf8').trim().split('\n\n');
  const events = records.map((record) => JSON.parse(record).event);
  expect(events).toEqual(['starting', 'deleted', 'shutdown']);
});

test.each(RUNTIMES)('each reader of a FIFO begins with the start of an event, %s', async (runtime) => {
  const file = fifo();
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = new Tsvmm(['--api-socket', `path=${socket}`, '--event-monitor', `path=${file}`], { runtime });
  await vmm.ready();
  for (let round = 0; round < 10; round++) {
    const reader = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    const begin = Buffer.alloc(30);
    expect(fs.readSync(reader, begin)).toBe(begin.length);
    expect(begin.toString()).toMatch(/^\{\n {2}"timestamp": /);
    fs.closeSync(reader);
    // The next one comes a moment later.
    await sleep(50);
  }
  const last = fs.openSync(file, fs.constants.O_RDONLY);
  onTestFinished(() => fs.closeSync(last));
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  const records = fs.readFileSync(last, 'utf8').trim().split('\n\n');
  expect(records.map((record) => JSON.parse(record).event)).toEqual(['starting', 'shutdown']);
});

describe('a file that is in use as something else is no console, log or event file', () => {
  const outputs: readonly [string, (file: string) => string[]][] = [
    ['serial port', (file) => ['--serial', `file=${file}`]],
    ['console', (file) => ['--console', `file=${file}`]],
    ['debug console', (file) => ['--debug-console', `file=${file}`]],
    ['log', (file) => ['--log-file', file]],
    ['event monitor', (file) => ['--event-monitor', `path=${file}`]],
  ];
  const consoleOff = (args: readonly string[]) => (args[0] === '--console' ? [] : ['--console', 'off']);

  test.each(outputs)('%s: the image of a running VM', async (_name, args) => {
    const disk = diskImage(temporaryFolder(), 'disk', { text: 'precious' });
    const before = fs.readFileSync(disk);
    const owner = startGuest({ cmdline: 'run=idle', args: ['--disk', `path=${disk},image_type=raw`] });
    await owner.waitFor('idle');
    const words = [...args(disk), ...consoleOff(args(disk))];
    const other = new Tsvmm(['--kernel', PAYLOAD, '--memory', 'size=128M', ...words]);
    expect(await other.exit()).toEqual({ code: 1, signal: null });
    expect(other.stderr).toContain('in use and locked');
    expect(fs.readFileSync(disk).equals(before)).toBe(true);
  });

  test.each(outputs)('%s: a file of the VM itself', async (_name, args) => {
    const folder = temporaryFolder();
    for (const name of ['disk', 'memory', 'kernel']) {
      const file = path.join(folder, name);
      fs.writeFileSync(file, name === 'kernel' ? fs.readFileSync(PAYLOAD) : Buffer.alloc(2 << 20, 1));
      const before = fs.readFileSync(file);
      const link = path.join(folder, `link-to-${name}`);
      fs.symlinkSync(file, link);
      const vm = {
        disk: ['--kernel', PAYLOAD, '--disk', `path=${file},image_type=raw`],
        memory: ['--kernel', PAYLOAD, '--pmem', `file=${file}`],
        kernel: ['--kernel', file],
      }[name] as string[];
      const words = [...args(link), ...consoleOff(args(link))];
      const vmm = new Tsvmm([...vm, '--memory', 'size=128M', ...words]);
      expect(await vmm.exit(), name).toEqual({ code: 1, signal: null });
      expect(vmm.stderr, name).toContain('has it as something else');
      expect(fs.readFileSync(file).equals(before), name).toBe(true);
    }
  });
});

test('a console file keeps what was written before a reboot, and has no hole after it was cut', async () => {
  const folder = temporaryFolder();
  const log = path.join(folder, 'log');
  fs.writeFileSync(log, 'of an earlier VM');
  const api = path.join(folder, 'api');
  const args = ['--kernel', PAYLOAD, '--cmdline', 'run=serial then=idle', '--memory', 'size=128M'];
  const vmm = new Tsvmm([...args, '--serial', `file=${log}`, '--console', 'off', '--api-socket', api]);
  const text = () => fs.readFileSync(log, 'latin1');
  // The last that a guest says: what it still had to say would follow the cut.
  const times = (count: number) =>
    until(
      () => text().split('done 1\n').length === count + 1,
      () => text(),
    );
  await times(1);
  expect(text()).toMatch(/^hello/);
  expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
  await times(2);
  fs.truncateSync(log);
  expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
  await times(1);
  expect(text()).toMatch(/^hello/);
});

describe.each(RUNTIMES)('a pipe that nobody reads, %s', (runtime) => {
  test.each([
    ['log', ['-v']],
    ['event monitor', ['--event-monitor', 'fd=2']],
  ])('as %s stops nothing', async (_name, words) => {
    const api = path.join(temporaryFolder(), 'api');
    const args = [...guestArgs({ cmdline: 'run=idle' }), ...words, '--api-socket', api];
    // The shell's own end of the FIFO keeps it open, and nobody reads it.
    const pipe = fifo();
    const vmm = new Tsvmm(args, {
      runtime,
      prefix: ['sh', '-c', `exec 9<>${pipe}; exec "$@" 2>${pipe}`, 'sh'],
    });
    await vmm.ready();
    // More than the 64 KiB that a pipe takes.
    for (let i = 0; i < 600; i++) {
      expect((await vmm.api('PUT', 'vm.pause')).status).toBe(204);
      expect((await vmm.api('PUT', 'vm.resume')).status).toBe(204);
    }
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });
});

describe.each(RUNTIMES)('the API socket, %s', (runtime) => {
  const start = (api: string) => new Tsvmm(['--api-socket', api], { runtime });

  test('is its user alone whatever the umask, and gone at the end', async () => {
    const folder = temporaryFolder();
    const api = path.join(folder, 'api');
    const vmm = new Tsvmm(['--api-socket', api], {
      runtime,
      prefix: ['sh', '-c', 'umask 0; exec "$@"', 'sh'],
    });
    await vmm.ready();
    expect(fs.statSync(api).mode & 0o777).toBe(0o600);
    expect(fs.statSync(`${api}.lock`).mode & 0o777).toBe(0o600);
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(fs.readdirSync(folder)).toEqual([]);
  });

  test('replaces nothing that is in use', async () => {
    const folder = temporaryFolder();
    const file = path.join(folder, 'file');
    fs.writeFileSync(file, 'precious');
    const living = path.join(folder, 'living');
    await listener(living);
    const { ino } = fs.statSync(living);
    for (const at of [file, living]) {
      const vmm = start(at);
      expect(await vmm.exit()).toEqual({ code: 1, signal: null });
      expect(vmm.stderr).toContain(`Cannot listen on the API socket ${at}`);
    }
    expect(fs.readFileSync(file, 'utf8')).toBe('precious');
    expect(fs.statSync(living).ino).toBe(ino);
    expect(fs.readdirSync(folder).sort()).toEqual(['file', 'living']);
  });

  test('is not taken from a VM, nor removed by one that ends', async () => {
    const folder = temporaryFolder();
    const api = path.join(folder, 'api');
    const first = start(api);
    await first.ready();
    const second = start(api);
    expect(await second.exit()).toEqual({ code: 1, signal: null });
    expect(second.stderr).toContain('is in use');
    await first.ready();
    // Somebody tidies up, and the next one comes before the first ends.
    for (const name of fs.readdirSync(folder)) fs.rmSync(path.join(folder, name));
    const third = start(api);
    await third.ready();
    first.kill('SIGTERM');
    expect(await first.exit()).toEqual({ code: 0, signal: null });
    expect((await third.api('GET', 'vmm.ping')).json.pid).toBe(third.pid);
  });

  test("leaves a user's own lock file", async () => {
    const folder = temporaryFolder();
    const api = path.join(folder, 'api');
    fs.writeFileSync(`${api}.lock`, 'mine');
    const vmm = start(api);
    await vmm.ready();
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(fs.readFileSync(`${api}.lock`, 'utf8')).toBe('mine');
  });
});

test('the sockets of a VM are its user alone whatever the umask', async () => {
  const folder = temporaryFolder();
  const [serial, vsock] = [path.join(folder, 'serial'), path.join(folder, 'vsock')];
  const args = ['--kernel', PAYLOAD, '--cmdline', 'run=idle', '--memory', 'size=128M', '--console', 'off'];
  args.push('--serial', `socket=${serial}`, '--vsock', `cid=3,socket=${vsock}`);
  const vmm = new Tsvmm(args, { prefix: ['sh', '-c', 'umask 0; exec "$@"', 'sh'] });
  await until(
    () => fs.existsSync(serial) && fs.existsSync(vsock),
    () => vmm.stderr,
  );
  for (const socket of [serial, vsock]) expect(fs.statSync(socket).mode & 0o777).toBe(0o600);
  vmm.kill('SIGTERM');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(fs.readdirSync(folder)).toEqual([]);
});

test('memory that a VM uses is no disk to write to for another, and is shared otherwise', async () => {
  const file = path.join(temporaryFolder(), 'memory');
  fs.writeFileSync(file, Buffer.alloc(2 << 20));
  const owner = startGuest({ cmdline: 'run=idle', args: ['--pmem', `file=${file}`] });
  await owner.waitFor('idle');
  const disk = startGuest({ cmdline: 'run=idle', args: ['--disk', `path=${file},image_type=raw`] });
  expect(await disk.exit()).toEqual({ code: 1, signal: null });
  expect(disk.stderr).toContain('another process, or another disk of this VM, uses it');
  await runGuest({ cmdline: 'run=serial', args: ['--pmem', `file=${file}`] });
});
