/** Debian's own `virsh` against `tsvmmd`, with payload guests. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Daemon } from './daemon.ts';
import { Tsvmm } from './support.ts';
import { documentFile, host, run, SCHEMA } from './virsh.ts';

test('a domain from its definition to its end, as virsh does it', async () => {
  const { daemon, folder, virsh, refused } = await host();
  expect(await virsh('list', '--all', '--name')).toBe('');
  expect(await virsh('define', documentFile(folder, 'one', 'run=idle'))).toBe(
    `Domain 'one' defined from ${folder}/one.xml`,
  );
  expect(await virsh('domstate', '--reason', 'one')).toBe('shut off (unknown)');
  const document = await virsh('dumpxml', 'one');
  fs.writeFileSync(path.join(folder, 'dumped.xml'), document);
  expect(
    await run('xmllint', ['--noout', '--relaxng', SCHEMA, path.join(folder, 'dumped.xml')]),
  ).toMatchObject({ code: 0 });
  await virsh('define', path.join(folder, 'dumped.xml'));
  expect(await virsh('dumpxml', 'one')).toBe(document);
  await virsh('start', 'one');
  expect(await refused('start', 'one')).toMatch(/Domain is already active/);
  expect(await virsh('list')).toMatch(/^Id +Name +State\n-+\n 1 +one +running$/);
  expect(await virsh('domid', 'one')).toBe('1');
  await virsh('suspend', 'one');
  expect(await virsh('domstate', '--reason', 'one')).toBe('paused (user)');
  expect(await virsh('list', '--name', '--state-paused')).toBe('one');
  await virsh('resume', 'one');
  expect(await virsh('domstate', '--reason', 'one')).toBe('running (unpaused)');
  fs.writeFileSync(path.join(folder, 'running.xml'), await virsh('dumpxml', 'one'));
  expect(
    await run('xmllint', ['--noout', '--relaxng', SCHEMA, path.join(folder, 'running.xml')]),
  ).toMatchObject({ code: 0 });
  expect(await virsh('dominfo', 'one')).toMatch(
    /State: +running\nCPU\(s\): +1\n.*\n.*Persistent: +yes\nAutostart: +disable/s,
  );
  // The same VM by the other languages.
  expect(await daemon.list()).toEqual({ one: 'running' });
  await virsh('destroy', 'one');
  expect(await virsh('domstate', '--reason', 'one')).toBe('shut off (destroyed)');
  await virsh('autostart', 'one');
  expect(await virsh('list', '--all', '--name', '--autostart')).toBe('one');
  await virsh('undefine', 'one');
  expect(await daemon.list()).toEqual({});
});

test('an id is a domain for as long as it runs, whichever tsvmmd looks after it, and no other one later', async () => {
  const { daemon, folder, virsh, refused } = await host();
  for (const name of ['one', 'two', 'three']) await virsh('create', documentFile(folder, name, 'run=idle'));
  const ids = () => Promise.all(['two', 'three'].map((name) => virsh('domid', name)));
  await virsh('destroy', '1');
  expect(await ids()).toEqual(['2', '3']);
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    await daemon.kill(signal);
    await daemon.start();
    expect(await ids()).toEqual(['2', '3']);
    expect(await refused('domname', '1')).toMatch(/failed to get domain '1'/);
  }
  await virsh('create', documentFile(folder, 'new', 'run=idle'));
  expect(Number(await virsh('domid', 'new'))).toBeGreaterThan(3);
  await virsh('destroy', '3');
  expect(await virsh('list', '--name')).toMatch(/^new\ntwo$|^two\nnew$/);
});

test('a domain whose definition is broken is listed, and nothing of it is made up', async () => {
  const { daemon, folder, virsh, refused } = await host();
  for (const name of ['one', 'two']) {
    await virsh('define', documentFile(folder, name, 'run=idle'));
    await virsh('autostart', name);
  }
  await virsh('start', 'two');
  await daemon.kill('SIGKILL');
  for (const name of ['one', 'two']) {
    const vm = path.join(daemon.dir, 'vms', name);
    fs.truncateSync(path.join(vm, 'vm.json'), 20);
    fs.writeFileSync(path.join(vm, 'policy.json'), Buffer.from([0, 0xff, 0x80]));
  }
  await daemon.start();
  expect(await virsh('list', '--all')).toMatch(/two +running\n.*one +shut off$/s);
  const reason = /the definition of domain '(one|two)' is broken: Cannot read .*vm.json.*policy.json/;
  for (const words of [
    ['dumpxml', 'one'],
    ['vcpucount', '--maximum', '--config', 'one'],
    ['dumpxml', '--inactive', 'two'],
  ])
    expect(await refused(...words)).toMatch(reason);
  for (const words of [
    ['autostart', '--disable', 'one'],
    ['setvcpus', 'two', '1', '--config'],
  ])
    expect(await refused(...words)).toMatch(reason);
  expect(await refused('start', 'one')).toMatch(/The definition of the VM one is broken/);
  // Of what runs its process tells, and of the other one what is known.
  expect(await virsh('dommemstat', 'two')).toMatch(/^actual 131072$/m);
  await expect.poll(() => virsh('domstats', 'two')).toMatch(/balloon.maximum=131072/);
  const stats = await virsh('domstats');
  expect(stats.match(/balloon.maximum/g)).toHaveLength(1);
  expect(stats.match(/state.state/g)).toHaveLength(2);
  await virsh('destroy', 'two');
  await virsh('undefine', 'one');
  await virsh('undefine', 'two');
});

test('a transient domain is gone when its guest has shut down', async () => {
  const { folder, virsh } = await host();
  await virsh('create', documentFile(folder, 'short', 'run=power-button'));
  expect(await virsh('list', '--transient', '--name')).toBe('short');
  await virsh('domstats', 'short');
  // The guest is asked until it listens.
  await expect
    .poll(async () => {
      await virsh('list', '--all', '--name').then(
        (names) => names && virsh('shutdown', 'short').catch(() => {}),
      );
      return virsh('list', '--all', '--name');
    })
    .toBe('');
});

test('the host, and what there is not', async () => {
  const { virsh, refused } = await host();
  expect(await virsh('version')).toMatch(/Using API: TSVMM 9\.0\.0/);
  expect(await virsh('maxvcpus')).toBe('254');
  expect(await virsh('nodeinfo')).toMatch(/CPU model: +x86_64/);
  expect(await virsh('capabilities')).toMatch(/<domain type='kvm'\/>/);
  expect(await virsh('nodecpustats', '--percent')).toMatch(/idle: +\d+\.\d%/);
  expect(await virsh('nodememstats')).toMatch(/total +: +\d+ KiB/);
  expect(await virsh('sysinfo').catch((error) => String(error))).toMatch(
    /<sysinfo|SMBIOS information is not available/,
  );
  expect(await virsh('domcapabilities')).toMatch(/<domain>kvm<\/domain>/);
  expect(await virsh('hostname')).not.toBe('');
  expect(await refused('pool-list')).toMatch(/this function is not supported by the connection driver/);
  expect(await refused('dominfo', 'none')).toMatch(/failed to get domain 'none'/);
  expect(await refused('-r', 'start', 'none')).toMatch(/failed to get domain/);
});

test('a read-only connection looks, and changes nothing', async () => {
  const { daemon, folder, virsh } = await host();
  const file = documentFile(folder, 'one', 'run=idle');
  await virsh('define', file);
  const uri = `tsvmm+unix:///system?socket=${daemon.dir}/virttsvmmd-sock-ro`;
  expect((await run('virsh', ['-c', uri, 'list', '--all', '--name'])).stdout.trim()).toBe('one');
  for (const words of [
    ['define', file],
    ['start', 'one'],
    ['undefine', 'one'],
    ['autostart', 'one'],
  ]) {
    expect((await run('virsh', ['-c', uri, ...words])).stderr).toMatch(/read only access prevents virDomain/);
  }
  expect(await daemon.list()).toEqual({ one: 'stopped' });
});

test('events of a domain reach a client that watches', async () => {
  const { daemon, folder, virsh } = await host();
  const uri = `tsvmm+unix:///system?socket=${daemon.dir}/virttsvmmd-sock`;
  const watching = spawn('virsh', ['-c', uri, 'event', '--all', '--loop'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  onTestFinished(() => void watching.kill('SIGKILL'));
  let heard = '';
  watching.stdout.setEncoding('utf8').on('data', (text: string) => {
    heard += text;
  });
  // Something happens until the client has registered.
  await expect
    .poll(async () => {
      await virsh('define', documentFile(folder, 'probe', 'run=idle')).catch(() => {});
      await virsh('undefine', 'probe').catch(() => {});
      return heard;
    })
    .toMatch(/'lifecycle' for domain 'probe': Undefined Removed/);
  heard = '';
  await virsh('define', documentFile(folder, 'one', 'run=idle'));
  await virsh('start', 'one');
  await virsh('suspend', 'one');
  await virsh('resume', 'one');
  await virsh('destroy', 'one');
  const lines = () => [...heard.matchAll(/'one': (.*)$/gm)].map(([, what]) => what);
  const expected = [
    'Defined Added',
    'Started Booted',
    'Suspended Paused',
    'Resumed Unpaused',
    'Stopped Destroyed',
  ];
  await expect.poll(lines).toEqual(expected);
});

/** `virsh console`, which wants a terminal. */
function virshConsole(daemon: Daemon, domain: string) {
  const uri = `tsvmm+unix:///system?socket=${daemon.dir}/virttsvmmd-sock`;
  const child = spawn('script', ['-qec', `virsh -c '${uri}' console ${domain}`, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const attached = { shown: '', closed: false, type: (text: string) => void child.stdin.write(text) };
  child.stdout.setEncoding('latin1').on('data', (text: string) => {
    attached.shown += text;
  });
  child.stdin.on('error', () => {});
  child.once('close', () => {
    attached.closed = true;
  });
  return attached;
}

test('a console is a stream: what the guest prints comes, what is typed arrives', async () => {
  const { daemon, folder, virsh } = await host();
  await virsh('define', documentFile(folder, 'one', 'run=serial-echo then=idle'));
  await virsh('start', 'one');
  const attached = virshConsole(daemon, 'one');
  await expect.poll(() => attached.shown).toContain('Escape character');
  await expect
    .poll(() => {
      attached.type('hello');
      return attached.shown;
    })
    .toMatch(/HELLO/);
  // virsh looks for its escape at the beginning of what it reads.
  await expect
    .poll(() => {
      if (!attached.closed) attached.type('\x1d');
      return attached.closed;
    })
    .toBe(true);
  expect(await virsh('domstate', 'one')).toBe('running');
});

test('a console comes back after a reset, and stays with another client that takes it', async () => {
  const { daemon, folder, virsh } = await host();
  await virsh('define', documentFile(folder, 'one', 'run=serial-echo then=idle'));
  await virsh('start', 'one');
  const attached = virshConsole(daemon, 'one');
  const answers = (typed: string) =>
    expect
      .poll(() => {
        attached.type(typed);
        return attached.shown;
      })
      .toContain(typed.toUpperCase());
  await answers('hello');
  await virsh('reset', 'one');
  await answers('again');
  const taker = new Tsvmm(['console', '--dir', daemon.dir, 'one']);
  await taker.waitFor('AGAIN');
  await expect.poll(() => attached.closed).toBe(true);
  taker.write('mine');
  await taker.waitFor('MINE');
});

test('clients that talk nonsense are closed, and disturb nobody', async () => {
  const { daemon, virsh } = await host();
  const socketPath = path.join(daemon.dir, 'virttsvmmd-sock');
  const send = (bytes: Uint8Array) =>
    new Promise<Buffer>((resolve) => {
      const socket = net.connect({ path: socketPath });
      const chunks: Buffer[] = [];
      socket.on('data', (chunk) => chunks.push(chunk)).on('error', () => {});
      socket.on('close', () => resolve(Buffer.concat(chunks)));
      socket.write(bytes);
    });
  const call = (procedure: number, payload: readonly number[] = [], program = 0x2000_8086) => {
    const frame = Buffer.alloc(28 + 4 * payload.length);
    const words = [frame.length, program, 1, procedure, 0, 7, 0, ...payload];
    for (const [at, word] of words.entries()) frame.writeUInt32BE(word, 4 * at);
    return frame;
  };
  expect(await send(Buffer.from('GET / HTTP/1.1\r\n\r\n'))).toHaveLength(0);
  expect(await send(Buffer.from([0, 0, 0, 3]))).toHaveLength(0);
  expect(await send(Buffer.from([0xff, 0xff, 0xff, 0xff]))).toHaveLength(0);
  // Before the connection is open, of an unknown program, and cut off: each is answered, and the connection goes on.
  const close = call(2);
  const answers = await send(
    Buffer.concat([call(273, [1, 0]), call(1, [], 5), call(9999), call(60), call(1, [1, 99]), close]),
  );
  expect(answers.toString('latin1')).toMatch(
    /hypervisor connection not open.*Cannot find program 5 version 1.*unknown procedure: 9999.*Unable to decode.*Unable to decode/s,
  );
  expect(await virsh('hostname')).not.toBe('');
});
