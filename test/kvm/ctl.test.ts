/** `tsvmm ctl`: every subcommand against a VM, and sockets at which there is none. */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Daemon } from './daemon.ts';
import {
  diskImage,
  PAYLOAD,
  RUNTIMES,
  type Runtime,
  settles,
  Tsvmm,
  temporaryFolder,
  until,
} from './support.ts';
import { Terminal } from './terminal.ts';

interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(
  words: readonly string[],
  runtime: Runtime,
  inherit: readonly number[] = [],
): Promise<Result> {
  const process = new Tsvmm(['ctl', ...words], { runtime, inherit });
  const { code } = await process.exit();
  return { code, stdout: process.stdout, stderr: process.stderr };
}

/** A VM whose guest does nothing, with a disk to count. */
async function idleVmWithDisk(): Promise<{ readonly vmm: Tsvmm; readonly socket: string }> {
  const folder = temporaryFolder();
  const socket = path.join(folder, 'api');
  const vmm = new Tsvmm([
    ...['--api-socket', `path=${socket}`, '--kernel', PAYLOAD, '--cmdline', 'run=idle', '--console', 'off'],
    ...['--disk', `path=${diskImage(folder, 'd')},image_type=raw`, '--memory', 'size=128M'],
  ]);
  await vmm.ready();
  return { vmm, socket };
}

/** A configuration of a guest that does nothing. */
function idleVm(folder: string) {
  return {
    payload: { kernel: PAYLOAD, cmdline: 'run=idle' },
    memory: { size: 128 << 20 },
    disks: [{ path: diskImage(folder, 'disk.img'), image_type: 'Raw' }],
    console: { mode: 'Off' },
  };
}

describe.each(RUNTIMES)('%s', (runtime) => {
  test('answers as they are, configurations on standard input, and descriptors', async () => {
    const folder = temporaryFolder();
    const socket = path.join(folder, 'api');
    const vmm = new Tsvmm(['--api-socket', `path=${socket}`]);
    await vmm.ready();
    const ctl = (line: string, inherit: readonly number[] = []) =>
      run(['--api-socket', socket, '--json', ...line.split(' ')], runtime, inherit);

    const creating = new Tsvmm(['ctl', '--api-socket', socket, '--json', 'create'], { runtime });
    creating.write(JSON.stringify({ ...idleVm(folder), cpus: { boot_vcpus: 4, max_vcpus: 4 } }));
    creating.endInput();
    expect(await creating.exit()).toEqual({ code: 0, signal: null });
    expect(creating.stdout + creating.stderr).toBe('');

    const { text } = await vmm.api('GET', 'vm.info');
    expect(await ctl('info')).toEqual({ code: 0, stdout: `${text}\n`, stderr: '' });
    const refused = await ctl('pause');
    expect([refused.code, refused.stdout, JSON.parse(refused.stderr)]).toEqual([
      1,
      '',
      { status: 500, error: ['Error from API', 'The VM could not be paused', 'VM is not running'] },
    ]);

    const fds = [fs.openSync('/dev/null', 'r'), fs.openSync('/dev/zero', 'r')];
    onTestFinished(() => fds.forEach((fd) => void fs.closeSync(fd)));
    expect(await ctl('add-net fd=[3,4],num_queues=4,id=n', fds)).toMatchObject({ code: 0, stderr: '' });
    const { json } = await vmm.api('GET', 'vm.info');
    const [{ fds: received }] = json.config.net as [{ fds: number[] }];
    expect(received.map((fd) => fs.readlinkSync(`/proc/${vmm.pid}/fd/${fd}`))).toEqual([
      '/dev/null',
      '/dev/zero',
    ]);
    const absent = await ctl('add-net fd=[99],id=m');
    expect([absent.code, absent.stderr]).toEqual([
      1,
      expect.stringContaining('Cannot send the descriptor 99: not open in this process'),
    ]);
  });

  test('where there is no VM, a sentence says so', async () => {
    const folder = temporaryFolder();
    const at = (name: string) => path.join(folder, name);
    /** Sends these bytes to everybody, and closes if it is to. */
    const serve = async (name: string, bytes: string, close = true) => {
      const server = net.createServer((socket) => {
        socket.on('error', () => {}).once('data', () => (close ? socket.end(bytes) : socket.write(bytes)));
      });
      await new Promise<void>((resolve) => server.listen(at(name), resolve));
      onTestFinished(() => void server.close());
    };
    fs.writeFileSync(at('file'), '');
    await serve('ssh', 'SSH-2.0-OpenSSH_9.2\r\n');
    await serve('mute', '', false);
    await serve('rude', '');
    await serve('half', 'HTTP/1.1 200 \r\nContent-Length: 100\r\n\r\n{');
    await serve(
      'busy',
      'HTTP/1.1 503 \r\nContent-Length: 43\r\nConnection: close\r\n\r\n{ "error": "Too many open connections" }   ',
    );
    await serve('nonsense', 'HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n{');
    const dead = net.createServer();
    await new Promise<void>((resolve) => dead.listen(at('dead.live'), resolve));
    fs.linkSync(at('dead.live'), at('dead'));
    await new Promise((resolve) => dead.close(resolve));
    for (const [name, said] of [
      ['none', /There is no socket .*none: is the process there/],
      ['file/x', /There is no socket/],
      ['file', /file is no socket, and so not the API of a VM/],
      ['dead', /Nobody serves the socket .*dead any more/],
      ['x'.repeat(108), /has at most 107 bytes/],
      ['ssh', /ssh is not the API of a VM: it says "SSH-2\.0-OpenSSH_9\.2\\r\\n"/],
      ['mute', /mute did not answer within 0\.3 s/],
      ['rude', /rude closed the connection without an answer/],
      ['half', /half ended in the middle of its answer/],
      ['busy', /Too many open connections/],
      ['nonsense', /The answer is no JSON/],
    ] as const) {
      const result = await run(['--api-socket', at(name), '--timeout', '0.3', 'info'], runtime);
      expect(result.stderr).toMatch(said);
      expect([result.code, result.stdout]).toEqual([1, '']);
    }

    let asked = false;
    const silent = net.createServer((socket) => {
      socket
        .on('error', () => {})
        .once('data', () => {
          asked = true;
        });
    });
    await new Promise<void>((resolve) => silent.listen(at('silent'), resolve));
    onTestFinished(() => void silent.close());
    const waiting = new Tsvmm(['ctl', '--api-socket', at('silent'), 'boot'], { runtime });
    await until(
      () => asked,
      () => 'nothing was asked',
    );
    waiting.kill('SIGINT');
    expect((await waiting.exit()).code).toBe(130);
    expect(waiting.stderr).toMatch(/not waiting any longer/);
  });

  test('watch without a terminal writes lines', async () => {
    const { vmm, socket } = await idleVmWithDisk();
    const ctl = (line: string) => run(['--api-socket', socket, ...line.split(' ')], runtime);
    await settles(async () => expect((await ctl('counters')).code).toBe(0));
    const lines = await ctl('watch --json --interval 0.1 --count 3');
    const looks = lines.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(looks.map(({ state }) => state)).toEqual(['Running', 'Running', 'Running']);
    expect(looks[0].rates).toEqual({});
    expect(looks[2].rates._disk0.read_ops).toBe(0);
    const tables = await ctl('watch --interval 0.1 --count 2');
    expect(
      tables.stdout.match(/Running, 1 vCPUs, 128 MiB; every 0\.1 s\nDEVICE +COUNTER +NOW +A SECOND\n/g),
    ).toHaveLength(2);
    expect((await ctl('watch --interval 0')).code).toBe(2);

    const watching = new Tsvmm(['ctl', '--api-socket', socket, 'watch', '--interval', '0.1'], { runtime });
    await watching.waitFor('Running');
    vmm.kill('SIGKILL');
    expect((await watching.exit()).code).toBe(1);
    expect(watching.stderr).toMatch(/closed the connection without an answer/);
  });

  test('watch at a terminal draws what fits, and leaves it as it was', async () => {
    const { vmm, socket } = await idleVmWithDisk();
    const words = ['ctl', '--api-socket', socket, 'watch', '--interval', '0.1'];
    const terminal = new Terminal(words, { runtime, columns: 50, rows: 8 });
    await terminal.waitFor('DEVICE');
    const lastFrame = () => {
      const frames = terminal.text.split('\x1b[H').slice(1, -1);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what terminals are sent
      return (frames.at(-1) ?? '').replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '').split('\r\n');
    };
    await settles(() => expect(lastFrame()).toHaveLength(8));
    for (const line of lastFrame()) expect([...line].length).toBeLessThanOrEqual(50);
    const { execFileSync } = await import('node:child_process');
    execFileSync('stty', ['-F', await terminal.device(), 'cols', '70', 'rows', '12']);
    await settles(() => expect(lastFrame()).toHaveLength(12));
    expect(await terminal.settings()).not.toBe(terminal.before());
    await terminal.stopAndGoOn();
    terminal.type('q');
    expect(await terminal.exit()).toBe(0);
    expect(terminal.text).toContain('\x1b[?1049h');
    expect(terminal.text.lastIndexOf('\x1b[?1049l')).toBeGreaterThan(
      terminal.text.lastIndexOf('\x1b[?1049h'),
    );

    const last = new Terminal(words, { runtime });
    await last.waitFor('DEVICE');

    const dumb = new Terminal([...words, '--count', '2'], { runtime, env: { TERM: 'dumb' } });
    expect(await dumb.exit()).toBe(0);
    expect(dumb.text).not.toContain('\x1b');

    vmm.kill('SIGKILL');
    expect(await last.exit()).toBe(1);
    expect(last.text.split('\x1b[?1049l').at(-1)).toContain('closed the connection without an answer');
  });
});

test('every subcommand', async () => {
  const folder = temporaryFolder();
  const socket = path.join(folder, 'api');
  const vmm = new Tsvmm(['--api-socket', `path=${socket}`]);
  await vmm.ready();
  const config = path.join(folder, 'vm.json');
  fs.writeFileSync(config, JSON.stringify(idleVm(folder)));
  const other = diskImage(folder, 'other.img');
  const third = diskImage(folder, 'third.img');
  const nonsense = path.join(folder, 'nonsense');
  fs.writeFileSync(nonsense, '{"payload":');
  const steps: readonly (readonly [words: string, code: number, said: RegExp])[] = [
    ['ping', 0, /^tsvmm-v\d.*, process \d+, features: kvm\n$/],
    ['info', 1, /VM is not created/],
    ['boot', 1, /VM is not created|VM config is missing/],
    [`create ${folder}/none`, 1, /Cannot read the configuration from .*none: ENOENT/],
    ['create /dev/null', 1, /There is no configuration in \/dev\/null/],
    [`create ${nonsense}`, 1, /Failed to deserialize JSON/],
    [`create ${config}`, 0, /^The VM is created\.\n$/],
    [`create ${config}`, 1, /VM is already created/],
    ['info', 0, /State +Created\n.*Memory +128 MiB.*disk\.img/s],
    ['counters', 1, /VM is not running/],
    [`add-disk path=${other},image_type=raw,id=more`, 0, /^Added; the guest finds it when the VM boots\.\n$/],
    [`add-disk path=${other},id=more`, 1, /Identifier more is not unique/],
    ['add-net tap=tsvmmtest0,id=n', 0, /^Added/],
    ['add-pmem file=/nonexistent,id=p', 0, /^Added/],
    [`add-vsock cid=3,socket=${folder}/v,id=v`, 0, /^Added/],
    ['add-fs tag=t,socket=/none', 1, /needs --memory shared=on/],
    ['add-vdpa path=/dev/none,id=d', 0, /^Added/],
    ['add-device path=/sys/none,id=h', 0, /^Added/],
    ['add-user-device socket=/none,id=u', 1, /needs --memory shared=on/],
    ['add-generic-vhost-user socket=/none,device_type=8,queue_sizes=[64]', 1, /needs --memory shared=on/],
    ...['n', 'p', 'v', 'd', 'h'].map(
      (id) => [`remove-device ${id}`, 0, new RegExp(`^${id} is removed`)] as const,
    ),
    ['remove-device n', 1, /No device with id "n" to remove/],
    ['resize --memory 192M', 0, /^The VM is resized; a guest that runs uses more memory .* next boot\.\n$/],
    ['resize', 0, /^Nothing was asked to change\.\n$/],
    ['boot', 0, /^The VM runs\.\n$/],
    ['boot', 1, /The VM could not boot/],
    ['info', 0, /State +Running.*Memory +192 MiB.*more +disk +0000:00:/s],
    ['counters', 0, /_disk0 +read_bytes +0\n/],
    ['resize --cpus 1', 0, /resized/],
    ['resize-disk --disk more --size 16M', 0, /^The disk more is resized\.\n$/],
    ['resize-disk --disk none --size 16M', 1, /none/],
    ['resize-zone --id none --size 1G', 1, /The memory zone could not be resized/],
    [`add-disk path=${other}`, 1, /could not be added.*another process, or another disk of this VM, uses it/],
    [`add-disk path=${third},image_type=raw,id=third`, 0, /^Added third at 0000:00:0.\.0\.\n$/],
    ['remove-device more', 0, /^more is removed; a guest that runs gives it back when it is ready to\.\n$/],
    ['remove-device more --wait 1', 1, /has not given up the device more within 1 ms/],
    ['remove-device --wait 1 --force more', 0, /^more is removed\.\n$/],
    ['pause', 0, /^The VM is paused\.\n$/],
    ['pause', 1, /The VM could not be paused/],
    [`snapshot file://${folder}`, 1, /The VM could not be snapshotted.*not supported yet/],
    ['resume', 0, /^The VM runs\.\n$/],
    ['power-button', 0, /^The power button was pressed/],
    ['nmi', 0, /^The NMI was sent\.\n$/],
    [`coredump file://${folder}/core`, 1, /The VM could not be coredumped/],
    [`send-migration destination_url=unix:${folder}/m`, 1, /migration/],
    [`receive-migration receiver_url=unix:${folder}/m`, 1, /Error receiving migration/],
    [`restore source_url=file://${folder}`, 1, /The VM could not be restored/],
    ['reboot', 0, /^The VM has been rebooted\.\n$/],
    ['shutdown', 0, /^The VM is shut down\.\n$/],
    ['shutdown', 1, /VM is not running/],
    ['delete', 0, /^The VM is deleted\.\n$/],
    ['delete', 0, /^The VM is deleted\.\n$/],
    ['nosuch', 2, /no subcommand 'nosuch'\ntsvmm: try 'tsvmm ctl --help'/],
    ['shutdown-vmm', 0, /^The VM's process ends\.\n$/],
  ];
  for (const [line, code, said] of steps) {
    const result = await run(['--api-socket', socket, ...line.split(' ')], 'standalone');
    expect(result.code, `${line}: ${result.stdout}${result.stderr}`).toBe(code);
    expect(code === 0 ? result.stdout : result.stderr, line).toMatch(said);
    expect(code === 0 ? result.stderr : result.stdout, line).toBe('');
  }
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  const gone = await run(['--api-socket', socket, 'ping'], 'standalone');
  expect([gone.code, gone.stderr]).toEqual([1, expect.stringContaining(`There is no socket ${socket}`)]);
});

test('at a terminal, what takes time says so', async () => {
  const socket = path.join(temporaryFolder(), 'api');
  let answer = () => {};
  const server = net.createServer((client) => {
    answer = () => void client.write('HTTP/1.1 204 \r\nServer: x\r\n\r\n');
    client.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  onTestFinished(() => void server.close());
  const terminal = new Terminal(['ctl', '--api-socket', socket, 'boot']);
  await terminal.waitFor(/Booting, \d+\.\d s \(Ctrl-C: wait no longer\)/);
  answer();
  expect(await terminal.exit()).toBe(0);
  expect(terminal.text).toContain('\r\x1b[KThe VM runs.\r\n');

  const stopped = new Terminal(['ctl', '--api-socket', socket, 'pause']);
  await stopped.waitFor('Pausing,');
  stopped.type('\x03');
  expect(await stopped.exit()).toBe(130);
});

test('a VM of a supervisor is named', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('web', 'run=idle');
  const ctl = (line: string) => run(['--dir', daemon.dir, ...line.split(' ')], 'standalone');
  expect(await ctl('web ping')).toMatchObject({ code: 0, stdout: expect.stringContaining('features: kvm') });
  expect(await ctl('web pause')).toMatchObject({ code: 0 });
  expect(await ctl('web info')).toMatchObject({ code: 0, stdout: expect.stringContaining('Paused') });
  expect(await ctl('wbe info')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/no VM wbe .*did you mean "web"/),
  });
  expect(await ctl('../vms/web info')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('There is no VM'),
  });
  await daemon.run('stop', '--force', 'web');
  expect(await ctl('web info')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("'tsvmm start web' starts it"),
  });
});
