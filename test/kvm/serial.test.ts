/** The serial port and the virtio console in every mode that leads to the host. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
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

/** Everything but the consoles. */
function bareArgs(cmdline: string): string[] {
  return ['--kernel', PAYLOAD, '--cmdline', cmdline, '--memory', 'size=128M'];
}

/** What comes out of a pseudo terminal's slave. */
function readSlave(slave: string): { text(): string; write(text: string): void } {
  let text = '';
  const cat = spawn('cat', [slave], { stdio: ['ignore', 'pipe', 'inherit'] });
  cat.stdout.setEncoding('latin1').on('data', (chunk: string) => {
    text += chunk;
  });
  onTestFinished(() => {
    cat.kill('SIGKILL');
  });
  return { text: () => text, write: (input) => fs.writeFileSync(slave, input) };
}

function connect(socketPath: string): { socket: net.Socket; text(): string } {
  let text = '';
  const socket = net.connect(socketPath);
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    text += chunk;
  });
  socket.on('error', () => {});
  onTestFinished(() => {
    socket.destroy();
  });
  return { socket, text: () => text };
}

const becomes = (read: () => string, wanted: string | RegExp): Promise<void> =>
  until(
    () => (typeof wanted === 'string' ? read().includes(wanted) : wanted.test(read())),
    () => `no ${wanted} in ${read()}`,
  );

describe.each(RUNTIMES)('serial, %s', (runtime) => {
  test('terminal: output and input through pipes', async () => {
    const vmm = startGuest({ cmdline: 'run=serial-echo', runtime });
    await vmm.waitFor('ready');
    vmm.write('hello, serial');
    await vmm.waitFor('HELLO, SERIAL');
    vmm.write('!');
    await vmm.waitFor('ok serial-echo 14 bytes');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('null', async () => {
    const vmm = new Tsvmm([...bareArgs('run=serial'), '--serial', 'null', '--console', 'off'], { runtime });
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(vmm.stdout + vmm.stderr).toBe('');
  });

  test('file', async () => {
    const file = path.join(temporaryFolder(), 'serial.log');
    fs.writeFileSync(file, 'old and longer than what comes, so that leftovers would be seen'.repeat(3));
    const args = [...bareArgs('run=serial'), '--serial', `file=${file}`, '--console', 'off'];
    const vmm = new Tsvmm(args, { runtime });
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(fs.readFileSync(file, 'latin1')).toBe('hello from ring 3\nok serial\ndone 1\n');
  });

  test('pseudo terminal', async () => {
    const api = path.join(temporaryFolder(), 'api');
    const args = [...bareArgs('run=serial-echo'), '--serial', 'pty', '--console', 'off', '--api-socket', api];
    const vmm = new Tsvmm(args, { runtime });
    await vmm.ready();
    const info = await vmm.api('GET', 'vm.info');
    const slave = readSlave(info.json.config.serial.file);
    await becomes(slave.text, 'ready');
    expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
    // Who was there is there still.
    await becomes(slave.text, /ready.*ready/s);
    expect((await vmm.api('GET', 'vm.info')).json.config.serial.file).toBe(info.json.config.serial.file);
    slave.write('through a pty!');
    await becomes(slave.text, 'THROUGH A PTY!');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('socket: output is kept for who comes later, and a new client replaces the old', async () => {
    const folder = temporaryFolder();
    const socketPath = path.join(folder, 'serial');
    const args = [...bareArgs('run=serial-echo'), '--serial', `socket=${socketPath}`, '--console', 'off'];
    const vmm = new Tsvmm(args, { runtime });
    await until(
      () => fs.existsSync(socketPath),
      () => `no socket; ${vmm.stderr}`,
    );
    await sleep(100);
    const first = connect(socketPath);
    await becomes(first.text, 'ready');
    first.socket.write('abc');
    await becomes(first.text, 'ABC');
    const second = connect(socketPath);
    await becomes(second.text, /ready\r?\nABC/);
    second.socket.write('def!');
    await becomes(second.text, 'DEF!');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(first.text()).not.toContain('DEF');
    expect(fs.existsSync(socketPath)).toBe(false);
  });
});

test('serial off: the guest runs without it', async () => {
  const vmm = new Tsvmm([...bareArgs('run=serial'), '--serial', 'off', '--console', 'off']);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('the registers of a 16550', async () => {
  await runGuest({ cmdline: 'run=serial-registers' });
});

test('a reader that begins late loses nothing', async () => {
  const size = 256 << 10;
  const vmm = startGuest({ cmdline: `run=serial-flood size=${size}` });
  vmm.pauseOutput();
  await sleep(500);
  vmm.resumeOutput();
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  const line = (i: number) =>
    Array.from({ length: 63 }, (_, at) => String.fromCharCode(48 + ((i + at) % 64))).join('');
  const lines = vmm.stdout.split(/\r?\n/).slice(0, size / 64);
  expect(lines.findIndex((text, i) => text !== line(i))).toBe(-1);
  expect(lines).toHaveLength(size / 64);
});

test('a reader that never reads does not stop the guest from being ended', async () => {
  const socketPath = path.join(temporaryFolder(), 'serial');
  const args = [
    ...bareArgs('run=serial-flood size=67108864'),
    ...['--serial', `socket=${socketPath}`, '--console', 'off'],
  ];
  const vmm = new Tsvmm(args);
  await until(
    () => fs.existsSync(socketPath),
    () => 'no socket',
  );
  const client = net.connect(socketPath);
  client.on('error', () => {});
  client.pause();
  await sleep(1000);
  vmm.kill('SIGTERM');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  client.destroy();
});

describe.each(RUNTIMES)('virtio console, %s', (runtime) => {
  test('terminal: output and input', async () => {
    const args = [...bareArgs('run=console-echo'), '--serial', 'null', '--console', 'tty'];
    const vmm = new Tsvmm(args, { runtime });
    await vmm.waitFor('ready');
    vmm.write('hello, console!');
    await vmm.waitFor('HELLO, CONSOLE!');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('file, with a long output', async () => {
    const file = path.join(temporaryFolder(), 'console.log');
    await runGuest({
      cmdline: 'run=console size=262144',
      console: `file=${file}`,
      runtime,
    });
    const text = fs.readFileSync(file, 'latin1');
    expect(text.length).toBe(14 + 262_144);
    expect(text.slice(0, 40)).toBe('hello console\nabcdefghijklmnopqrstuvwxyz');
  });
});

test('virtio console by default, on the terminal', async () => {
  const vmm = new Tsvmm(bareArgs('run=console'));
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(vmm.stdout).toContain('hello console');
});

test('virtio console on a pseudo terminal', async () => {
  const api = path.join(temporaryFolder(), 'api');
  const args = [...bareArgs('run=console-echo'), '--serial', 'null', '--console', 'pty', '--api-socket', api];
  const vmm = new Tsvmm(args);
  await vmm.ready();
  const info = await vmm.api('GET', 'vm.info');
  const slave = readSlave(info.json.config.console.file);
  await becomes(slave.text, 'ready');
  slave.write('pty console!');
  await becomes(slave.text, 'PTY CONSOLE!');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

// At 0x402 it stands in for the port of a firmware's log.
test.each(['e9', '402'])('the debug console at port 0x%s', async (port) => {
  const file = path.join(temporaryFolder(), 'debug.log');
  await runGuest({ cmdline: 'run=debug-ports', args: ['--debug-console', `file=${file},iobase=0x${port}`] });
  expect(fs.readFileSync(file, 'latin1')).toBe(`debug ${port}\n`);
});

test('entropy from a file that ends and from the host', async () => {
  await runGuest({ cmdline: 'run=rng' });
  await runGuest({ cmdline: 'run=rng', args: ['--rng', 'src=/dev/random'] });
});

test('a terminal gets its settings back', async () => {
  const folder = temporaryFolder();
  const before = path.join(folder, 'before');
  const after = path.join(folder, 'after');
  const quoted = guestArgs({ cmdline: 'run=serial' }).map((arg) => `'${arg}'`);
  const { BIN } = await import('./support.ts');
  const command = `stty -a > ${before}; '${BIN}' ${quoted.join(' ')}; stty -a > ${after}`;
  const script = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  script.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  const code = await new Promise((resolve) => script.on('close', resolve));
  expect(code).toBe(0);
  expect(text).toContain('hello from ring 3');
  expect(fs.readFileSync(after, 'utf8')).toBe(fs.readFileSync(before, 'utf8'));
});

test('the guest hears of a new size of the terminal', async () => {
  const folder = temporaryFolder();
  const where = path.join(folder, 'tty');
  const log = path.join(folder, 'serial.log');
  const args = [...bareArgs('run=console-resize'), '--serial', `file=${log}`, '--console', 'tty'];
  const { BIN } = await import('./support.ts');
  const command = `stty rows 24 cols 80; tty > ${where}; exec '${BIN}' ${args.map((arg) => `'${arg}'`).join(' ')}`;
  const script = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'ignore', 'inherit'] });
  onTestFinished(() => {
    script.kill('SIGKILL');
  });
  const output = () => (fs.existsSync(log) ? fs.readFileSync(log, 'latin1') : '');
  await becomes(output, 'console size 80x24');
  spawn('stty', ['-F', fs.readFileSync(where, 'utf8').trim(), 'rows', '50', 'cols', '132']);
  await becomes(output, /ok console-resize\r?\nconsole size 132x50/);
});
