/** The REST socket itself, with clients of every kind at once: silent, slow, greedy, gone, and many. */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type RawClient, rawClient } from './rawClient.ts';
import {
  cpuTimeMs,
  diskImage,
  openDescriptors,
  PAYLOAD,
  privateAnonymousKiB,
  RUNTIMES,
  type Runtime,
  settles,
  sleep,
  startGuest,
  Tsvmm,
  temporaryFolder,
  threadNames,
  until,
} from './support.ts';

const PING = 'GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\n\r\n';
const NOT_FOUND =
  'HTTP/1.1 404 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n' +
  'Content-Type: application/json\r\nContent-Length: 13\r\n\r\n["Not Found"]';

function client(address: string): RawClient<net.Socket> {
  return rawClient(net.connect({ path: address, allowHalfOpen: true }));
}

const count = (text: string) => text.split('HTTP/1.1 200 ').length - 1;

async function idle(runtime: Runtime): Promise<{ vmm: Tsvmm; socket: string }> {
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = new Tsvmm(['--api-socket', `path=${socket}`], { runtime });
  await vmm.ready();
  return { vmm, socket };
}

async function quit(vmm: Tsvmm): Promise<void> {
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(vmm.stderr).toBe('');
}

describe.each(RUNTIMES)('%s', (runtime) => {
  test('300 connections that say nothing, and 600 clients that left, lock nobody out', async () => {
    const { vmm, socket } = await idle(runtime);
    const silent = Array.from({ length: 300 }, () => client(socket));
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 100; i++) {
        const leaving = client(socket);
        leaving.socket.write(PING, () => leaving.socket.destroy());
      }
      await settles(() => expect(openDescriptors(vmm.pid)).toBeLessThan(350));
      expect((await vmm.api('GET', 'vmm.ping')).status).toBe(200);
    }
    // Each of them can still ask.
    for (const one of silent) one.socket.write(PING);
    await settles(() => expect(silent.map((one) => count(one.text()))).toEqual(Array(300).fill(1)));
    for (const one of silent) one.socket.destroy();
    await settles(() => expect(openDescriptors(vmm.pid)).toBeLessThan(100));
    await quit(vmm);
  });

  test('a client that sends and never reads costs next to nothing, and is closed', async () => {
    const { vmm, socket } = await idle(runtime);
    for (let i = 0; i < 3; i++) await vmm.api('GET', 'vmm.ping');
    const before = privateAnonymousKiB(vmm.pid, 0);
    const greedy = client(socket);
    greedy.socket.pause();
    const requests = Buffer.from(`${PING}GET /nowhere HTTP/1.1\r\n\r\n`.repeat(1000));
    for (let i = 0; i < 20; i++) greedy.socket.write(requests);
    for (let i = 0; i < 100; i++) expect((await vmm.api('GET', 'vmm.ping')).status).toBe(200);
    // Node.js's own heap grows as it likes.
    const limit = runtime === 'node' ? 32_768 : 8192;
    expect(privateAnonymousKiB(vmm.pid, 0) - before).toBeLessThan(limit);
    // It notices by an error, since it does not read.
    await settles(() => expect(greedy.isClosed()).toBe(true));
    expect((await vmm.api('GET', 'vmm.ping')).status).toBe(200);
    await quit(vmm);
  });

  test('requests in pieces, in one piece, and half-closed ones are answered in order', async () => {
    const { vmm, socket } = await idle(runtime);
    const one = client(socket);
    one.socket.write('GET /now');
    await vmm.api('GET', 'vmm.ping');
    one.socket.write(`here HTTP/1.1\r\n\r\n${PING}GET /nowhere HTTP/1.1\r\n\r\n`);
    one.socket.end('GET /nowhere HTTP/1.1\r\n\r\n');
    await settles(() => expect(one.isClosed()).toBe(true));
    expect(one.text().startsWith(`${NOT_FOUND}HTTP/1.1 200 `)).toBe(true);
    expect(one.text().endsWith(NOT_FOUND + NOT_FOUND)).toBe(true);
    await quit(vmm);
  });

  test('who leaves behind requests that wait for a guest leaves nothing', async () => {
    const folder = temporaryFolder();
    const socket = path.join(folder, 'api');
    const args = ['--api-socket', `path=${socket}`];
    args.push('--disk', `path=${diskImage(folder, 'disk')},image_type=raw,id=d`);
    const vmm = startGuest({ cmdline: 'run=idle', args, runtime });
    await vmm.waitFor('idle');
    await vmm.ready();
    const body = '{"id":"d","wait_ms":600000}';
    const removal = `PUT /api/v1/vm.remove-device HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    // The listener is one of them, whose name they have.
    const sockets = () => fs.readFileSync('/proc/net/unix', 'utf8').split(`${socket}.bound\n`).length - 1;
    await settles(() => expect(sockets()).toBe(1));
    const leaving = client(socket);
    leaving.socket.write(removal);
    // The guest never answers.
    await settles(async () =>
      expect((await vmm.api('GET', 'vm.info')).json.device_tree.d.pending_removal).toBe(true),
    );
    leaving.socket.write(removal + removal);
    await sleep(100);
    await settles(() => expect(sockets()).toBe(2));
    leaving.socket.destroy();
    await settles(() => expect(sockets()).toBe(1));
    await quit(vmm);
  });

  test('nonsense is answered once, and closed', async () => {
    const { vmm, socket } = await idle(runtime);
    for (const nonsense of [
      `GET / HTTP/1.1\r\n${'A: b\r\n'.repeat(900)}\r\n`,
      `PUT /api/v1/vm.boot HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n${PING}`,
      `PUT /api/v1/vm.boot HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}${PING}`,
      `PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 4194305\r\n\r\n${PING}`,
    ]) {
      const one = client(socket);
      one.socket.write(nonsense);
      await settles(() => expect(one.isClosed()).toBe(true));
      expect(one.text()).toMatch(/^HTTP\/1\.1 400 \r\nServer: Firecracker API\r\nConnection: close\r\n/);
      expect(one.text().split('HTTP/1.1 ')).toHaveLength(2);
    }
    await quit(vmm);
  });

  test.each([
    ['an integer', '9'.repeat(4_000_000)],
    ['a string', `"${'a'.repeat(4_000_000)}"`],
    ['a list', `[${'1,'.repeat(1_900_000)}1]`],
  ])('a body of 4 MB that is %s neither stops the API nor comes back', async (_, value) => {
    const { vmm, socket } = await idle(runtime);
    const body = `{"memory":{"size":${value}},"serial":{"mode":${value}}}`.slice(0, 4 << 20);
    const one = client(socket);
    one.socket.write(`PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    const before = cpuTimeMs(vmm.pid);
    await until(
      () => one.text() !== '',
      () => 'no answer',
    );
    expect(one.text()).toMatch(/^HTTP\/1\.1 400 /);
    expect(one.text().length).toBeLessThan(1000);
    // Where it was five seconds and more. Of the processor's, which others may be using.
    expect(cpuTimeMs(vmm.pid) - before).toBeLessThan(4000);
    await quit(vmm);
  });

  test('a listener may be inherited, and is not removed', async () => {
    const folder = temporaryFolder();
    const socket = path.join(folder, 'inherited');
    const listener = net.createServer().listen(socket);
    onTestFinished(() => {
      listener.close();
    });
    await new Promise((resolve) => listener.once('listening', resolve));
    // biome-ignore lint/suspicious/noExplicitAny: a server's descriptor has no public name
    const fd = (listener as any)._handle.fd as number;
    const vmm = new Tsvmm(['--api-socket', 'fd=3'], { runtime, inherit: [fd] });
    const one = client(socket);
    one.socket.write('GET /nowhere HTTP/1.1\r\n\r\n');
    // The listener is shared with this process, which has taken the connection if it was faster.
    listener.on('connection', (stolen) => stolen.destroy());
    await settles(async () => {
      const next = client(socket);
      next.socket.write('PUT /api/v1/vmm.shutdown HTTP/1.1\r\n\r\n');
      await until(
        () => next.text() !== '' || next.isClosed(),
        () => 'neither answered nor closed',
      );
      expect(next.text()).toMatch(/^HTTP\/1\.1 200 /);
    });
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(fs.existsSync(socket)).toBe(true);
  });

  test('a descriptor that is no listener is refused', async () => {
    for (const fd of [0, 99]) {
      const vmm = new Tsvmm(['--api-socket', `fd=${fd}`], { runtime });
      expect(await vmm.exit()).toEqual({ code: 1, signal: null });
      expect(vmm.stderr).toContain(`Cannot listen on the API socket descriptor ${fd}`);
    }
  });

  test('the socket is its user alone, and gone with the process', async () => {
    const { vmm, socket } = await idle(runtime);
    expect(fs.statSync(socket).isSocket()).toBe(true);
    expect(fs.statSync(socket).mode & 0o077).toBe(0);
    expect(fs.statSync(`${socket}.lock`).mode & 0o777).toBe(0o600);
    expect(threadNames(vmm.pid)).toContain('http-server');
    await quit(vmm);
    expect(fs.readdirSync(path.dirname(socket))).toEqual([]);
  });
});

test('reading is answered while the VM is changed', async () => {
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = startGuest({ cmdline: 'run=idle', args: ['--api-socket', socket] });
  await vmm.waitFor('idle');
  await vmm.ready();
  const states = new Set<string>();
  for (const change of ['vm.pause', 'vm.resume', 'vm.reboot', 'vm.shutdown', 'vm.boot', 'vm.delete']) {
    let done = false;
    const changed = vmm.api('PUT', change).then(({ status }) => {
      done = true;
      expect(`${change} ${status}`).toBe(`${change} 204`);
    });
    do {
      for (const question of ['vmm.ping', 'vm.info']) {
        const { status, json } = await vmm.api('GET', question);
        expect([200, change === 'vm.delete' ? 404 : 200]).toContain(status);
        if (question === 'vm.info') states.add(json.state);
      }
    } while (!done);
    await changed;
    const after = await vmm.api('GET', 'vm.info');
    const expected = {
      'vm.pause': 'Paused',
      'vm.resume': 'Running',
      'vm.reboot': 'Running',
      'vm.shutdown': 'Created',
      'vm.boot': 'Running',
    }[change];
    expect(`${change} ${after.json.state}`).toBe(`${change} ${expected}`);
  }
  expect([...states].sort()).toEqual(expect.arrayContaining(['Paused', 'Running']));
  await quit(vmm);
});

test('what vm.info tells is of this moment, though the same was asked before', async () => {
  const { vmm, socket } = await idle('standalone');
  const config = { payload: { kernel: PAYLOAD, cmdline: 'run=idle' }, serial: { mode: 'Null' } };
  const one = client(socket);
  const ask = async (request: string) => {
    const before = one.text().length;
    one.socket.write(request);
    await until(
      () => one.text().length > before && !one.text().endsWith('\r\n\r\n\r\n'),
      () => `no answer to ${request}`,
    );
    return one.text().slice(before);
  };
  const info = () => ask('GET /api/v1/vm.info HTTP/1.1\r\n\r\n');
  expect(await info()).toMatch(/^HTTP\/1\.1 404 /);
  const body = JSON.stringify({ ...config, console: { mode: 'Off' } });
  await ask(`PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  for (let round = 0; round < 20; round++) {
    for (const [command, state] of [
      ['boot', 'Running'],
      ['pause', 'Paused'],
      ['resume', 'Running'],
      ['shutdown', 'Created'],
    ] as const) {
      await ask(`PUT /api/v1/vm.${command} HTTP/1.1\r\n\r\n`);
      for (let i = 0; i < 3; i++) expect(await info()).toContain(`"state":"${state}"`);
    }
  }
  await quit(vmm);
});

test('what vm.counters tells is of this moment, whoever answers', async () => {
  const { vmm, socket } = await idle('standalone');
  const disks = [{ path: diskImage(temporaryFolder(), 'disk.img'), image_type: 'Raw', id: 'a"b' }];
  const config = {
    payload: { kernel: PAYLOAD, cmdline: 'run=blk-depth requests=100000000' },
    serial: { mode: 'Null' },
    console: { mode: 'Off' },
    disks,
  };
  for (const [endpoint, body] of [['vm.create', config], ['vm.boot']] as const) {
    expect((await vmm.api('PUT', endpoint, body)).status).toBe(204);
  }
  const one = client(socket);
  const ask = async () => {
    const before = one.text().length;
    one.socket.write('GET /api/v1/vm.counters HTTP/1.1\r\n\r\n');
    await until(
      () => one.text().endsWith('}}') && one.text().length > before,
      () => `no answer but ${one.text().slice(before)}`,
    );
    const [head = '', body = ''] = one.text().slice(before).split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 200 /);
    expect(head).toContain(`Content-Length: ${body.length}`);
    return JSON.parse(body);
  };
  // The least, largest and average latency are told only once there is one.
  const namesOf = (disk: object) => Object.keys(disk).filter((name) => !/_latency_(min|max|avg)$/.test(name));
  const names = namesOf((await ask())['a"b']);
  let last = 0;
  for (const change of ['vm.pause', 'vm.resume', 'vm.reboot', 'vm.pause', 'vm.reboot']) {
    for (let i = 0; i < 20; i++) {
      const counters = await ask();
      expect(namesOf(counters['a"b'])).toEqual(names);
      expect(counters['a"b'].read_ops).toBeGreaterThanOrEqual(last);
      last = counters['a"b'].read_ops;
    }
    expect((await vmm.api('PUT', change)).status).toBe(204);
    if (change === 'vm.reboot') last = 0;
  }
  await settles(async () => expect((await ask())['a"b'].read_ops).toBeGreaterThan(0));
  await quit(vmm);
});

test('requests of any kind neither end, nor stop, nor cost the process anything', async () => {
  const { vmm, socket } = await idle('standalone');
  const { paths } = (await vmm.api('GET', 'openapi.json')).json;
  const seed = Number(process.env.TSVMM_SEED ?? Date.now() % 2 ** 31);
  const count = Number(process.env.TSVMM_CASES ?? 400);
  process.stdout.write(`TSVMM_SEED=${seed} TSVMM_CASES=${count}\n`);
  // Its body ends the process in order; the streams never end.
  const names = Object.keys(paths).filter((name) => !/vmm\.shutdown|vm\.events/.test(name));
  const keys = fc.constantFrom(
    'id',
    'path',
    'size',
    'mode',
    'socket',
    'memory',
    'disks',
    'payload',
    'fds',
    'serial',
  );
  const json = fc.letrec((tie) => ({
    leaf: fc.oneof(fc.string({ maxLength: 8 }), fc.integer(), fc.double(), fc.boolean(), fc.constant(null)),
    value: fc.oneof(
      { depthSize: 'small' },
      tie('leaf'),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(keys, tie('value'), { maxKeys: 4 }),
    ),
  })).value;
  const body = fc.oneof(
    json.map((value) => JSON.stringify(value)),
    fc.string({ maxLength: 64 }),
    fc.constant(''),
  );
  const request = fc
    .tuple(fc.constantFrom('GET', 'PUT', 'PATCH', 'DELETE', 'POST'), fc.constantFrom(...names), body)
    .map(
      ([method, name, text]) =>
        `${method} ${name} HTTP/1.1\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
    );
  const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array).toString('latin1'));
  const before = openDescriptors(vmm.pid);
  for (const text of fc.sample(fc.oneof({ arbitrary: request, weight: 9 }, bytes), {
    seed,
    numRuns: count,
  })) {
    const one = client(socket);
    one.socket.end(text);
    await until(
      () => one.isClosed(),
      () => `no end after ${JSON.stringify(text)}`,
    );
    one.socket.destroy();
  }
  expect((await vmm.api('PUT', 'vm.delete')).status).toBe(204);
  expect((await vmm.api('GET', 'vmm.ping')).status).toBe(200);
  await settles(() => expect(openDescriptors(vmm.pid)).toBeLessThanOrEqual(before));
  await quit(vmm);
});

test('events are told as they happen, and metrics count', async () => {
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = startGuest({ cmdline: 'run=idle', args: ['--api-socket', socket] });
  await vmm.waitFor('idle');
  await vmm.ready();
  const listener = client(socket);
  listener.socket.write('GET /api/v1/vm.events?after=0 HTTP/1.1\r\n\r\n');
  expect((await vmm.api('PUT', 'vm.pause')).status).toBe(204);
  const page = client(socket);
  page.socket.write('GET /metrics HTTP/1.1\r\n\r\n');
  await settles(() => expect(page.text()).toContain('process_start_time_seconds '));
  expect(page.text()).toContain('tsvmm_vm_state{state="Paused"} 1\n');
  expect(page.text()).toMatch(/^tsvmm_vcpu_exits_total\{vcpu="0",reason="port"\} [1-9]/m);
  expect(page.text()).toMatch(/^tsvmm_vcpu_run_seconds_total\{vcpu="0"\} \d*\.?\d*[1-9]/m);
  // Where the kernel tells (Linux 5.14): the guest has halted.
  if (page.text().includes('tsvmm_vcpu_kvm_events_total')) {
    expect(page.text()).toMatch(/^tsvmm_vcpu_kvm_events_total\{vcpu="0",event="halt_exits"\} [1-9]/m);
  }
  await quit(vmm);
  await settles(() => expect(listener.isClosed()).toBe(true));
  const names = [...listener.text().matchAll(/"source":"(\w+)","event":"([\w-]+)"/g)].map(
    ([, source, event]) => `${source} ${event}`,
  );
  const lifecycle = names.filter((name) => !name.startsWith('virtio'));
  expect(lifecycle).toEqual([
    'vmm starting',
    'vm booting',
    'vm booted',
    'vm pausing',
    'vm paused',
    'vm shutdown',
    'vm deleted',
    'vmm shutdown',
  ]);
});
