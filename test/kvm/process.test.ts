/** The process around the VM: its threads, its idleness, its sockets and its last words. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  BIN,
  diskImage,
  guestArgs,
  HELLO,
  nativeThreads,
  PAYLOAD,
  RUNTIMES,
  request,
  settles,
  sleep,
  startGuest,
  Tsvmm,
  temporaryFolder,
  threadNames,
  until,
} from './support.ts';
import { Terminal } from './terminal.ts';

function metrics(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = http.get({ socketPath, path: '/metrics', agent: false }, async (answer) =>
      resolve(Buffer.concat(await answer.toArray()).toString()),
    );
    sent.on('error', reject);
  });
}

/** The JavaScript engine's helpers, which come and go, and the kernel's own threads within a process. */
const FOREIGN_THREADS = /^(JITWorker|JSCWarmUp|HeapHelper|mi-scavenger|iou-wrk-\d+|kvm-nx-lpage-re)$/;

describe.each(RUNTIMES)('%s', (runtime) => {
  test('threads are named as in the reference, and few', async () => {
    const folder = temporaryFolder();
    const idle = new Tsvmm(['--api-socket', path.join(folder, 'idle')], { runtime });
    await idle.ready();
    const without = threadNames(idle.pid);
    const args = ['--api-socket', path.join(folder, 'api')];
    args.push('--disk', `path=${diskImage(folder, 'disk.img')},image_type=raw`);
    const vmm = startGuest({ cmdline: 'run=blk-info,rng then=idle', args, runtime });
    await vmm.waitFor('done ');
    await vmm.ready();
    expect(nativeThreads(vmm.pid)).toEqual(['_disk0_q0', 'serial-manager', 'vcpu0']);
    const others = threadNames(vmm.pid).filter((name) => !nativeThreads(vmm.pid).includes(name));
    expect(others.filter((name) => !without.includes(name) && !FOREIGN_THREADS.test(name))).toEqual([]);
  });

  test('signals that were ignored when it started stay ignored: nohup, a script in the background', async () => {
    const prefix = ['sh', '-c', 'trap "" HUP INT QUIT USR1 USR2 ALRM; exec "$@"', 'sh'];
    const vmm = new Tsvmm(guestArgs({ cmdline: 'run=idle' }), { runtime, prefix });
    await vmm.waitFor('idle');
    const signals = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGWINCH'] as const;
    for (const signal of signals) vmm.kill(signal);
    await sleep(300);
    expect(nativeThreads(vmm.pid)).toContain('vcpu0');
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });

    const not = new Tsvmm(guestArgs({ cmdline: 'run=idle' }), {
      runtime,
      // What an outer one found ignored does not count.
      prefix: ['env', 'TSVMM_IGNORED_SIGNALS=SIGINT SIGTERM'],
    });
    await not.waitFor('idle');
    not.kill('SIGINT');
    expect(await not.exit()).toEqual({ code: 0, signal: null });
  });

  test('a signal that comes with the first byte of the guest ends it in order', async () => {
    const starts = runtime === 'node' ? 3 : 25;
    for (let start = 0; start < starts; start++) {
      const vmm = new Tsvmm(guestArgs({ cmdline: 'run=idle' }), { runtime });
      await vmm.firstOutput;
      vmm.kill('SIGTERM');
      expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    }
  });

  test('an address space that is too small for the runtime is said, and a larger one does', async () => {
    const limited = (limit: number) => ['sh', '-c', `ulimit -v ${limit}; exec "$@"`, 'sh'];
    const none = new Tsvmm(guestArgs({ cmdline: 'run=off' }), { runtime, prefix: limited(100_000) });
    expect(await none.exit()).toEqual({ code: 1, signal: null });
    expect(none.stderr).toMatch(
      /^tsvmm: ulimit -v .* leaves less address space than the \d+ .iB that a start/,
    );

    const vmm = new Tsvmm(guestArgs({ cmdline: 'run=off' }), { runtime, prefix: limited(4_000_000) });
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test.each([
    ['SIGQUIT', 131],
    ['SIGUSR1', 138],
    ['SIGUSR2', 140],
    ['SIGALRM', 142],
  ] as const)('%s ends it and leaves its terminal as it was', async (signal, code) => {
    const terminal = new Terminal(guestArgs({ cmdline: 'run=idle' }), { runtime });
    await terminal.waitFor('idle');
    expect(await terminal.settings()).not.toBe(terminal.before());
    process.kill(await terminal.pid(), signal);
    expect(await terminal.exit()).toBe(code);
    // Node.js tells of its inspector there.
    expect(terminal.text).not.toContain('Debugger');
  });

  test('no debugger listens, whenever SIGUSR1 comes', async () => {
    const vmms = [10, 20, 30, 50, 80, 130].map(async (delay) => {
      const vmm = new Tsvmm(guestArgs({ cmdline: 'run=idle' }), { runtime });
      await sleep(delay);
      vmm.kill('SIGUSR1');
      await sleep(300);
      vmm.kill('SIGKILL');
      await vmm.exit();
      return vmm.stderr;
    });
    expect((await Promise.all(vmms)).join('')).not.toContain('Debugger listening');
  });

  test('a killed process leaves nothing that stops the next one', async () => {
    const folder = temporaryFolder();
    const api = path.join(folder, 'api');
    const serial = path.join(folder, 'serial');
    const disk = diskImage(folder, 'disk.img');
    const args = [
      ...['--kernel', PAYLOAD, '--cmdline', 'run=idle', '--memory', 'size=128M', '--console', 'off'],
      ...['--serial', `socket=${serial}`, '--api-socket', api, '--disk', `path=${disk},image_type=raw`],
    ];
    for (let round = 0; round < 3; round++) {
      const vmm = new Tsvmm(args, { runtime });
      await vmm.ready();
      vmm.kill('SIGKILL');
      await vmm.exit();
      expect(fs.existsSync(api)).toBe(true);
    }
    const last = new Tsvmm(args, { runtime });
    await last.ready();
    last.kill('SIGTERM');
    expect(await last.exit()).toEqual({ code: 0, signal: null });
    expect(fs.readdirSync(folder).filter((name) => !name.endsWith('.lock'))).toEqual(['disk.img']);
  });
});

test.each(RUNTIMES)(
  "a shell's limit of open files holds no VM back: the runtime raises it (%s)",
  async (runtime) => {
    // Three descriptors a vCPU, of which two are for what KVM counts.
    const limited = ['sh', '-c', 'ulimit -Sn 128 && exec "$0" "$@"'];
    const socket = path.join(temporaryFolder(), 'api');
    const args = ['--cpus', 'boot=96', '--api-socket', socket];
    const vmm = startGuest({ cmdline: 'run=idle', args, runtime, prefix: limited });
    await vmm.ready();
    await settles(async () => expect((await vmm.api('GET', 'vm.info')).json.state).toBe('Running'));
    expect(await metrics(socket)).toMatch(/kvm_events_total\{.*vcpu="95"/);
    expect(fs.readFileSync(`/proc/${vmm.pid}/limits`, 'utf8')).not.toMatch(/^Max open files +128 /m);
  },
);

test.each(RUNTIMES)('a link called cloud-hypervisor says the release that it stands for (%s)', (runtime) => {
  const link = path.join(temporaryFolder(), 'cloud-hypervisor');
  fs.symlinkSync(BIN, link);
  const env = { ...process.env, TSVMM_RUNTIME: runtime === 'node' ? 'node' : '' };
  const said = (program: string) => spawnSync(program, ['--version'], { encoding: 'utf8', env }).stdout;
  // What libvirt's driver looks for, and what people are to see nevertheless.
  expect(said(link)).toMatch(/^cloud-hypervisor v54\.0\.0\ntsvmm v\d/);
  expect(said(BIN)).toMatch(/^tsvmm v[^\n]+\n$/);
});

describe.each(RUNTIMES)('%s in a working directory that is gone', (runtime) => {
  test('starts with absolute paths, and has no relative ones', async () => {
    const folder = temporaryFolder();
    const inGone = (words: string[]) => {
      const gone = fs.mkdtempSync(path.join(folder, 'gone-'));
      const script = `cd "$0" && rmdir "$0" && exec "$@"`;
      const env = { ...process.env, TSVMM_RUNTIME: runtime === 'node' ? 'node' : '' };
      return spawnSync('sh', ['-c', script, gone, BIN, ...words], { encoding: 'utf8', env });
    };
    expect(inGone(['--version'])).toMatchObject({ status: 0, stdout: expect.stringMatching(/^tsvmm v\d/) });
    const relative = inGone(['--kernel', 'vmlinux', '--console', 'off']);
    expect(relative).toMatchObject({ status: 1, stderr: expect.stringContaining('No such file') });
    const vm = inGone(guestArgs({ cmdline: 'run=off' }));
    expect(vm).toMatchObject({ status: 0 });
  });
});

describe('what is refused, in one sentence', () => {
  const kernel = ['--kernel', PAYLOAD, '--console', 'off'];
  const cases: readonly [string, (folder: string) => string[], number, RegExp][] = [
    ['no such kernel', () => ['--kernel', '/nonexistent/vmlinux'], 1, /\/nonexistent\/vmlinux/],
    ['a kernel that is a folder', (folder) => ['--kernel', folder], 1, /director|regular|read/i],
    [
      'an empty kernel',
      (folder) => {
        fs.writeFileSync(path.join(folder, 'empty'), '');
        return ['--kernel', path.join(folder, 'empty')];
      },
      1,
      /empty|PVH|kernel/i,
    ],
    [
      'a truncated kernel',
      (folder) => {
        fs.writeFileSync(path.join(folder, 'cut'), fs.readFileSync(PAYLOAD).subarray(0, 6000));
        return ['--kernel', path.join(folder, 'cut')];
      },
      1,
      /cut|truncated|end/i,
    ],
    [
      'a kernel of text',
      (folder) => {
        fs.writeFileSync(path.join(folder, 'text'), 'no kernel at all\n'.repeat(1000));
        return ['--kernel', path.join(folder, 'text')];
      },
      1,
      /PVH|kernel/,
    ],
    [
      'no such initramfs',
      () => [...kernel, '--initramfs', '/nonexistent/initrd'],
      1,
      /\/nonexistent\/initrd/,
    ],
    ['no such disk', () => [...kernel, '--disk', 'path=/nonexistent/disk'], 1, /\/nonexistent\/disk/],
    ['a disk that is a folder', (folder) => [...kernel, '--disk', `path=${folder}`], 1, /director/i],
    ['more memory than fits', () => [...kernel, '--memory', 'size=1048576G'], 1, /memory/i],
    ['no memory', () => [...kernel, '--memory', 'size=0'], 1, /memory/i],
    ['too many vCPUs', () => [...kernel, '--cpus', 'boot=1000'], 1, /cpu/i],
    ['no vCPU', () => [...kernel, '--cpus', 'boot=0'], 1, /cpu/i],
    ['an unknown flag', () => [...kernel, '--bogus'], 2, /--bogus/],
    ['an unknown option', () => [...kernel, '--disk', 'path=x,bogus=1'], 1, /bogus/],
    ['two disks with one id', () => [...kernel, '--disk', 'path=a,id=x', 'path=b,id=x'], 1, /x.*not unique/],
    ['a serial file in no folder', () => [...kernel, '--serial', 'file=/nonexistent/a/b'], 1, /nonexistent/],
    ['an API socket in no folder', () => ['--api-socket', 'path=/nonexistent/a/api'], 1, /nonexistent/],
    [
      'an entropy source that is not there',
      () => [...kernel, '--rng', 'src=/nonexistent/r'],
      1,
      /nonexistent/,
    ],
    ['nothing to do', () => [], 2, /./],
  ];
  test.each(cases)('%s', async (_name, words, code, text) => {
    const vmm = new Tsvmm(words(temporaryFolder()));
    expect({ ...(await vmm.exit()), stderr: vmm.stderr }).toEqual({
      code,
      signal: null,
      stderr: expect.stringMatching(text),
    });
    const lines = vmm.stderr.trim().split('\n');
    expect(lines.length).toBeLessThanOrEqual(code === 2 ? 2 : 1);
    expect(vmm.stderr).not.toMatch(/\bat .*:\d+:\d+/);
    expect(vmm.stdout).toBe('');
  });
});

test('a busy API socket is refused and stays whole', async () => {
  const socket = path.join(temporaryFolder(), 'api');
  const first = new Tsvmm(['--api-socket', socket]);
  await first.ready();
  const second = new Tsvmm(['--api-socket', socket]);
  expect(await second.exit()).toEqual({ code: 1, signal: null });
  expect(second.stderr.trim().split('\n')).toHaveLength(1);
  expect((await first.api('GET', 'vmm.ping')).status).toBe(200);
});

test('a disk in use is refused', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const args = ['--disk', `path=${disk},image_type=raw`];
  const first = startGuest({ cmdline: 'run=idle', args });
  await first.waitFor('idle');
  const second = startGuest({ cmdline: 'run=idle', args });
  expect(await second.exit()).toEqual({ code: 1, signal: null });
  expect(second.stderr).toContain(disk);
  // Readers may share.
  const readers = ['--disk', `path=${diskImage(temporaryFolder(), 'r.img')},image_type=raw,readonly=on`];
  for (let i = 0; i < 2; i++) await startGuest({ cmdline: 'run=idle', args: readers }).waitFor('idle');
});

test('a KVM that gives up on an instruction is told in one sentence', async () => {
  const vmm = startGuest({ cmdline: 'run=unemulatable' });
  expect(await vmm.exit()).toEqual({ code: 1, signal: null });
  expect(vmm.stderr.trim().split('\n')).toHaveLength(1);
  expect(vmm.stderr).toMatch(/vCPU 0 .*(hardware virtualization|internal)/);
});

test('a guest that writes at once to a closed pipe does not take the process down unseen', async () => {
  const vmm = startGuest({ cmdline: 'run=serial-flood size=131072' });
  await vmm.waitFor('0123');
  vmm.closeOutput();
  const exit = await vmm.exit();
  expect(exit.signal).toBeNull();
});

test('gone within milliseconds of the power-off', async () => {
  const times: number[] = [];
  for (let i = 0; i < 9; i++) {
    const vmm = new Tsvmm([
      '--kernel',
      HELLO,
      '--serial',
      'tty',
      '--console',
      'off',
      '--memory',
      'size=128M',
    ]);
    await vmm.waitFor('hello');
    const start = performance.now();
    await vmm.exit();
    times.push(performance.now() - start);
  }
  // The benchmark measures this; here only that nothing waits for a timer, which would be so each time.
  expect(Math.min(...times)).toBeLessThan(60);
});

test('a client that connects and says nothing keeps nobody out', async () => {
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = new Tsvmm([...guestArgs({ cmdline: 'run=idle' }), '--api-socket', socket]);
  await vmm.ready();
  const silent = Array.from({ length: 5 }, () => net.connect(socket).on('error', () => {}));
  await sleep(50);
  expect((await vmm.api('GET', 'vmm.ping')).status).toBe(200);
  for (const connection of silent) connection.destroy();
  vmm.kill('SIGTERM');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('an inherited socket serves the API', async () => {
  const socket = path.join(temporaryFolder(), 'api');
  const server = net.createServer().listen(socket);
  await new Promise((resolve) => server.once('listening', resolve));
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const vmm = new Tsvmm(['--api-socket', 'fd=3'], { inherit: [fd] });
  // Our own copy is closed, which removes its name.
  const name = `${socket}-2`;
  fs.linkSync(socket, name);
  server.close();
  const answer = await request(name, 'GET', 'vmm.ping');
  expect(answer.json.pid).toBe(vmm.pid);
  expect((await request(name, 'PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test.each(RUNTIMES)('a request that comes while the VM starts ends it in order (%s)', async (runtime) => {
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = startGuest({
    cmdline: 'run=idle',
    // Takes its time.
    memory: '1G,prefault=on',
    args: ['--api-socket', socket],
    runtime,
  });
  await until(
    () => fs.existsSync(socket),
    () => 'no socket',
  );
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(vmm.stderr).toBe('');
});

test('a full disk under log, events and consoles is told of on stderr, once each, and counted', async () => {
  const folder = temporaryFolder();
  const full = (name: string) => {
    fs.symlinkSync('/dev/full', path.join(folder, name));
    return path.join(folder, name);
  };
  const [events, log, serial] = [full('events'), full('log'), full('serial')];
  const vmm = new Tsvmm([
    ...['--kernel', PAYLOAD, '--cmdline', 'run=serial then=idle', '--memory', 'size=128M'],
    ...['--serial', `file=${serial}`, '--console', 'off'],
    ...['--event-monitor', `path=${events}`, '--log-file', log, '--api-socket', path.join(folder, 'api')],
  ]);
  await until(
    () => vmm.stderr.includes('Cannot write the log'),
    () => vmm.stderr,
  );
  expect((await vmm.api('GET', 'vm.counters')).json.__serial.output_errors).toBeGreaterThan(0);
  vmm.kill('SIGTERM');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  const told = vmm.stderr.match(/Cannot write the (?:event monitor|log) to [^\s:]+/g);
  expect(told).toEqual([`Cannot write the event monitor to ${events}`, `Cannot write the log to ${log}`]);
});

test('a standard output that is closed is an error for who wants to print', async () => {
  for (const words of ['--version', '--help']) {
    const vmm = new Tsvmm([words], { prefix: ['sh', '-c', 'exec "$@" >&-', 'sh'] });
    expect(await vmm.exit()).toEqual({ code: 1, signal: null });
    expect(vmm.stderr).toMatch(/^tsvmm: Cannot write to standard output: EBADF/);
  }
});

test('events and log go where they are told to', async () => {
  const folder = temporaryFolder();
  const events = path.join(folder, 'events');
  const log = path.join(folder, 'log');
  const disk = diskImage(folder, 'disk.img');
  const vmm = startGuest({
    cmdline: 'run=hostile-lengths',
    args: ['--event-monitor', `path=${events}`, '--log-file', log, '--disk', `path=${disk},image_type=raw`],
  });
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(vmm.stderr).toBe('');
  expect(fs.readFileSync(log, 'utf8')).toMatch(/_disk0 stopped/);
  const names = fs
    .readFileSync(events, 'utf8')
    .split('\n\n')
    .filter((text) => text.trim() !== '')
    .map((text) => JSON.parse(text))
    .map(({ source, event }) => `${source} ${event}`);
  expect(names.slice(0, 3)).toEqual(['vmm starting', 'vm booting', 'vm booted']);
  expect(names).toContain('virtio-device activated');
  expect(names).toContain('virtio-device failed');
  expect(names.slice(-3)).toEqual(['vm shutdown', 'vm deleted', 'vmm shutdown']);
});

test('a kernel whose reading fails is named', async () => {
  // Nothing is mapped where a file would begin.
  const vmm = new Tsvmm(['--kernel', '/proc/self/mem']);
  expect(await vmm.exit()).toEqual({ code: 1, signal: null });
  expect(vmm.stderr).toMatch(/^tsvmm: .*reading \/proc\/\d+\/mem: Input\/output error$/m);
});

test('the log says why a VM could not start', async () => {
  const log = path.join(temporaryFolder(), 'log');
  const vmm = new Tsvmm(['--kernel', '/no/such/kernel', '--log-file', log]);
  expect(await vmm.exit()).toEqual({ code: 1, signal: null });
  expect(vmm.stderr).toMatch(/^tsvmm: .*Cannot open kernel file \/no\/such\/kernel/);
  expect(fs.readFileSync(log, 'utf8')).toMatch(/ error: .*Cannot open kernel file \/no\/such\/kernel/);
});
