/** `tsvmm console`: a person at a terminal, several at one port, and terminals that go away. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { Daemon } from './daemon.ts';
import { PAYLOAD, RUNTIMES, settles, Tsvmm, temporaryFolder } from './support.ts';
import { Terminal } from './terminal.ts';

const DETACH = '\x1d';

/** A guest that answers in capitals, until a `!`. */
function echoVm(folder: string, ...ports: readonly string[]): Tsvmm {
  const cmdline = ports.includes('pty') ? 'run=console-echo' : 'run=serial-echo';
  return new Tsvmm([
    ...['--api-socket', `path=${path.join(folder, 'api')}`, '--kernel', PAYLOAD, '--cmdline', cmdline],
    ...['--memory', 'size=128M', ...ports],
  ]);
}

describe.each(RUNTIMES)('%s', (runtime) => {
  test('a serial port that is a socket: typed at, stopped, rebooted, left', async () => {
    const folder = temporaryFolder();
    const socket = path.join(folder, 'serial');
    const vmm = echoVm(folder, '--serial', `socket=${socket}`, '--console', 'off');
    await vmm.ready();
    const terminal = new Terminal(['console', '--api-socket', path.join(folder, 'api')], { runtime });
    await terminal.waitFor('attached to the serial port of the VM; Ctrl-] or Ctrl-A x detaches');
    await terminal.waitFor('ready');
    terminal.type('hello\x03\x1a');
    await terminal.waitFor('HELLO\x03\x1a');
    expect(await terminal.settings()).not.toBe(terminal.before());

    await terminal.stopAndGoOn();
    terminal.type('again');
    await terminal.waitFor('AGAIN');

    expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
    await terminal.waitFor('attached again');
    await settles(() => expect(terminal.text.split('ready')).toHaveLength(3));
    terminal.type('once more');
    await terminal.waitFor('ONCE MORE');

    terminal.type('\x01\x01');
    await terminal.waitFor('ONCE MORE\x01');
    terminal.type('\x01x');
    expect(await terminal.exit()).toBe(0);
    expect(terminal.text).toContain('tsvmm: detached');
    expect((await vmm.api('GET', 'vm.info')).json.state).toBe('Running');

    const signalled = new Terminal(['console', '--socket', socket], { runtime });
    await signalled.waitFor('attached to');
    await settles(async () => expect(await signalled.settings()).not.toBe(signalled.before()));
    process.kill(await signalled.pid(), 'SIGTERM');
    expect(await signalled.exit()).toBe(143);

    const last = new Terminal(['console', '--socket', socket], { runtime });
    await last.waitFor('attached to');
    vmm.kill('SIGKILL');
    expect(await last.exit()).toBe(0);
    expect(last.text).toContain(`${socket} is gone`);
  });

  test('one types, others look on', async () => {
    const folder = temporaryFolder();
    const socket = path.join(folder, 'serial');
    const vmm = echoVm(folder, '--serial', `socket=${socket}`, '--console', 'off');
    await vmm.ready();
    const readers = [1, 2].map(() => new Tsvmm(['console', '--read-only', '--socket', socket], { runtime }));
    for (const reader of readers) await reader.waitFor('ready');
    const writer = new Tsvmm(['console', '--socket', socket], { runtime });
    await writer.waitFor('ready');
    readers[0]?.write('not sent');
    writer.write('hello');
    for (const each of [writer, ...readers]) await each.waitFor('HELLO');
    const next = new Terminal(['console', '--socket', socket], { runtime });
    await next.waitFor('HELLO');
    expect(await writer.exit()).toEqual({ code: 1, signal: null });
    expect(writer.stderr).toMatch(/Another client has taken .*; --read-only shares it/);
    next.type('mine');
    for (const each of readers) await each.waitFor('HELLOMINE');
    const looking = new Terminal(['console', '--read-only', '--socket', socket], { runtime });
    await looking.waitFor(/read-only; Ctrl-\].*HELLOMINE/s);
    looking.type('x\x03');
    expect(await looking.exit()).toBe(0);
    next.type('!');
    for (const each of readers) {
      expect(await each.exit()).toEqual({ code: 0, signal: null });
      expect(each.stdout).toContain('ok serial-echo 10 bytes');
      expect(each.stderr).toBe('');
    }
    expect(await next.exit()).toBe(0);
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('a console that is a pseudo terminal: one person at a time', async () => {
    const folder = temporaryFolder();
    const api = path.join(folder, 'api');
    const vmm = echoVm(folder, '--serial', 'null', '--console', 'pty');
    await vmm.ready();
    const terminal = new Terminal(['console', '--api-socket', api], { runtime });
    await terminal.waitFor('attached to the console of the VM');
    await terminal.waitFor('ready');
    terminal.type('hello');
    await terminal.waitFor('HELLO');
    const { file } = (await vmm.api('GET', 'vm.info')).json.config.console;
    const second = new Tsvmm(['console', '--pty', file], { runtime });
    expect(await second.exit()).toEqual({ code: 1, signal: null });
    expect(second.stderr).toMatch(/Somebody else is attached to .*can be shared/);
    expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
    // The guest's next start is seen by who is there.
    await terminal.waitFor(/ready.*ready/s);
    terminal.type('again');
    await terminal.waitFor('AGAIN');
    terminal.type(DETACH);
    expect(await terminal.exit()).toBe(0);

    const { file: later } = (await vmm.api('GET', 'vm.info')).json.config.console;
    const pty = new Terminal(['console', '--escape', '^T', '--pty', later], { runtime });
    await pty.waitFor('Ctrl-T detaches');
    pty.type(`all keys${DETACH}\x01x`);
    await pty.waitFor(`ALL KEYS${DETACH}\x01X`);
    vmm.kill('SIGKILL');
    expect(await pty.exit()).toBe(0);
  });

  test('the guest hears of the size of the terminal', async () => {
    const folder = temporaryFolder();
    const log = path.join(folder, 'serial.log');
    const api = path.join(folder, 'api');
    const vmm = new Tsvmm([
      ...['--api-socket', `path=${api}`, '--kernel', PAYLOAD, '--cmdline', 'run=console-resize'],
      ...['--memory', 'size=128M', '--console', 'pty', '--serial', `file=${log}`],
    ]);
    const said = () => (fs.existsSync(log) ? fs.readFileSync(log, 'latin1') : '');
    await settles(() => expect(said()).toContain('console size '));
    const terminal = new Terminal(['console', '--api-socket', api], { runtime, columns: 91, rows: 33 });
    await settles(() => expect(said()).toMatch(/ok console-resize\r?\nconsole size 91x33/));
    expect(await terminal.exit()).toBe(0);
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('a terminal that goes away takes its command along, and nothing else', async () => {
    const folder = temporaryFolder();
    const socket = path.join(folder, 'serial');
    const vmm = echoVm(folder, '--serial', `socket=${socket}`, '--console', 'off');
    await vmm.ready();
    const terminal = new Terminal(['console', '--socket', socket], { runtime });
    await terminal.waitFor('ready');
    const pid = await terminal.pid();
    terminal.hangUp();
    await settles(() => expect(fs.existsSync(`/proc/${pid}`)).toBe(false));
    const next = new Tsvmm(['console', '--socket', socket], { runtime });
    await next.waitFor('ready');
    next.write('still here!');
    await next.waitFor('STILL HERE!');
    expect(await next.exit()).toEqual({ code: 0, signal: null });
  });
});

test('a VM of a supervisor is named, and what cannot be attached to is said', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('web', 'run=serial-echo', '--serial', 'socket=serial.sock');
  await daemon.vm('quiet', 'run=idle', '--console', 'off');
  const terminal = new Terminal(['console', '--dir', daemon.dir, 'web', '--serial']);
  await terminal.waitFor('attached to the serial port of web');
  await terminal.waitFor('ready');
  terminal.type('!');
  await terminal.waitFor('ok serial-echo');
  expect(await terminal.exit()).toBe(0);
  expect(await daemon.run('console', 'quiet')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /Nobody can be attached to quiet: its console is off, its serial port goes into the file serial\.log/,
    ),
  });
  expect(await daemon.run('console', 'none')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('no VM none'),
  });
});

test.each([
  [[], 2, /needs a NAME, --api-socket, --socket or --pty/],
  [['a', '--socket', 'b'], 2, /one of them/],
  [['a', 'b'], 2, /unexpected argument 'b'/],
  [['--socket', '/nonexistent'], 1, /There is no socket \/nonexistent/],
  [['--pty', '/dev/null'], 1, /\/dev\/null is no terminal/],
  [['--pty', '/nonexistent'], 1, /Cannot open the terminal \/nonexistent: .*ENOENT|Cannot open the terminal/],
  [['--socket', 'x', '--serial'], 2, /chooses a port of a VM/],
  [['--escape', 'x', 'a'], 2, /--escape x is neither a key such as \^T nor none/],
] as const)('console %j', async (words, code, said) => {
  const process = new Tsvmm(['console', ...words]);
  expect((await process.exit()).code).toBe(code);
  expect(process.stderr).toMatch(said);
});
