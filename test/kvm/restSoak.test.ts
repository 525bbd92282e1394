/**
 * Clients of every kind at the REST socket at once, for long: each is answered as it should be, and afterwards the
 * process has no more memory and descriptors than before. `TSVMM_SOAK_SECONDS` says how long (40 unless given; an hour
 * for a release).
 */
import { spawn, spawnSync } from 'node:child_process';
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import {
  BIN,
  calmsDown,
  openDescriptors,
  PAYLOAD,
  privateAnonymousKiB,
  ROOT,
  request,
  settles,
  sleep,
  Tsvmm,
  temporaryFolder,
  threadNames,
} from './support.ts';

const SECONDS = Number(process.env.TSVMM_SOAK_SECONDS ?? 40);
/**
 * How much of it goes by before what is there counts as what was there before: pools of the allocators grow at first.
 */
const WARM_UP = 0.4;
const MEMORY_KIB = 16 << 10;
/**
 * Less than half a KiB for each request that is served meanwhile. At rest it is hardly anything; on a starved host the
 * server is behind its clients, and its heap grows with the most that it has ever had to do at once.
 */
const MORE_KIB = 12 << 10;

const PING = 'GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\n\r\n';
const INFO = 'GET /api/v1/vm.info HTTP/1.1\r\n\r\n';
const DONE = /^HTTP\/1\.1 20[04] /;

/** Does something once, and throws where the answer is not what it should be. */
type Client = (socket: string) => Promise<void>;

/** Sends a text as one client, and gives what comes until the connection ends or `enough` does. */
function exchange(
  socket: string,
  send: (connection: net.Socket) => void | Promise<void>,
  enough: (text: string) => boolean,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const connection = net.connect(socket);
    let text = '';
    const finish = () => {
      connection.destroy();
      resolve(text);
    };
    connection.setEncoding('latin1').on('data', (more: string) => {
      text += more;
      if (enough(text)) finish();
    });
    connection.on('end', finish);
    connection.on('error', (error: NodeJS.ErrnoException) => {
      // One that was refused or cut off, as it deserved.
      if (error.code === 'ECONNRESET' || error.code === 'EPIPE') finish();
      else reject(error);
    });
    Promise.resolve(send(connection)).catch(reject);
  });
}

const answers = (text: string) => text.split('HTTP/1.1 ').length - 1;

async function expectAnswers(
  socket: string,
  bytes: string,
  count: number,
  pattern: RegExp = DONE,
): Promise<void> {
  const text = await exchange(
    socket,
    (connection) => void connection.write(bytes),
    (so) => answers(so) >= count && !so.endsWith('\r\n\r\n\r\n'),
  );
  expect(text).toMatch(pattern);
  expect(answers(text)).toBe(count);
}

/** One connection for a hundred questions, one after the other. */
async function kept(socket: string): Promise<void> {
  let asked = 0;
  const ask = (connection: net.Socket) => void connection.write(asked++ % 2 === 0 ? PING : INFO);
  let connection: net.Socket | undefined;
  const text = await exchange(
    socket,
    (one) => {
      connection = one;
      ask(one);
    },
    (so) => {
      if (answers(so) < asked || !so.endsWith('}')) return false;
      if (asked === 100) return true;
      ask(connection as net.Socket);
      return false;
    },
  );
  expect(answers(text)).toBe(100);
  expect(text).not.toMatch(/HTTP\/1\.1 [45]/);
}

async function slow(socket: string): Promise<void> {
  const text = await exchange(
    socket,
    async (connection) => {
      for (const piece of PING.match(/.{1,8}/gs) ?? []) {
        connection.write(piece);
        await sleep(20);
      }
    },
    (so) => so.endsWith('}'),
  );
  expect(text).toMatch(DONE);
}

/** Asks for more than fits into its socket and goes without having read a byte. */
async function leaving(socket: string): Promise<void> {
  await exchange(
    socket,
    async (connection) => {
      connection.pause();
      connection.write(INFO.repeat(1000));
      await sleep(30);
      connection.destroy();
      connection.emit('end');
    },
    () => false,
  );
}

const BROKEN = [
  'nonsense\r\n\r\n',
  'GET /api/v1/vmm.ping HTTP/1.1\nHost: h\n\n',
  `GET /${'a'.repeat(2000)} HTTP/1.1\r\n\r\n`,
  'PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}',
  'PUT /api/v1/vm.create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
  '\0\x01\x02\r\n',
];

async function broken(socket: string): Promise<void> {
  for (const bytes of BROKEN) {
    await expectAnswers(socket, bytes, 1, /^HTTP\/1\.1 400 /);
    // A body of which half never comes.
    await exchange(
      socket,
      (connection) => void connection.end(`PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 4096\r\n\r\n{`),
      () => false,
    );
  }
}

/** Listens to the events until it has heard those that there are, and leaves. */
async function listener(socket: string): Promise<void> {
  const text = await exchange(
    socket,
    (connection) => void connection.write('GET /api/v1/vm.events?after=0 HTTP/1.1\r\n\r\n'),
    (so) => so.split('\ndata: ').length > 2,
  );
  expect(text).toContain('text/event-stream');
  expect(text).toContain('data: {');
}

async function changing(socket: string): Promise<void> {
  for (const command of ['vm.pause', 'vm.resume']) {
    const { status } = await request(socket, 'PUT', command);
    // The other one that changes it may have been first.
    expect([204, 500]).toContain(status);
  }
  const body = { id: 'd9', path: '/nowhere', image_type: 'Raw' };
  expect((await request(socket, 'PUT', 'vm.add-disk', body)).status).toBe(500);
  expect((await request(socket, 'PUT', 'vm.remove-device', { id: 'nope' })).status).toBe(404);
}

async function reading(socket: string): Promise<void> {
  expect((await request(socket, 'GET', 'vm.counters')).status).toBe(200);
  await expectAnswers(socket, 'GET /metrics HTTP/1.1\r\n\r\n', 1);
  await expectAnswers(socket, 'GET /api/v1/openapi.json HTTP/1.1\r\n\r\n', 1);
}

/** Compiled: neither runtime sends descriptors. @returns clients whose descriptors are refused, early and whole */
function senderOf(folder: string): Client {
  const sender = path.join(folder, 'send');
  const source = path.join(ROOT, 'test/kvm/sendDescriptors.c');
  const { status, stderr } = spawnSync('gcc', ['-o', sender, source], { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  return async (socket) => {
    for (const [endpoint, body, first] of [
      ['vm.add-net', '{"num_queues":4}', 10],
      ['vm.add-net', '{"num_queues":"x"}', 4096],
      ['vm.boot', '{}', 4096],
      ['vm.nothing', '{}', 10],
    ] as const) {
      const text = `PUT /api/v1/${endpoint} HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
      const output = await runProgram(sender, [socket, '2', String(first)], text);
      expect(output).toMatch(/^HTTP\/1\.1 [45]\d\d /);
    }
  };
}

async function ctl(socket: string): Promise<void> {
  expect(await runProgram(BIN, ['ctl', '--api-socket', socket, '--json', 'ping'])).toContain('"pid"');
  expect(await runProgram(BIN, ['ctl', '--api-socket', socket, 'info'])).toMatch(/^State +(Running|Paused)/);
}

function runProgram(program: string, words: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      output += text;
    });
    child.on('error', reject).on('close', () => resolve(output));
    // One that is answered before it has sent all of it reads no further.
    child.stdin.on('error', () => {}).end(input);
  });
}

interface Size {
  readonly descriptors: number;
  readonly threads: number;
  readonly anonymousKiB: number;
}

async function sizeOf(pid: number): Promise<Size> {
  await calmsDown(pid);
  return {
    descriptors: openDescriptors(pid),
    threads: threadNames(pid).length,
    anonymousKiB: privateAnonymousKiB(pid, MEMORY_KIB),
  };
}

test('clients of every kind at once', { timeout: (SECONDS + 240) * 1000 }, async () => {
  const folder = temporaryFolder();
  const socket = path.join(folder, 'api');
  const vmm = new Tsvmm([
    ...['--api-socket', `path=${socket}`, '--kernel', PAYLOAD, '--cmdline', 'run=idle'],
    ...['--memory', `size=${MEMORY_KIB}K`, '--console', 'off', '--serial', 'null', '--balloon', 'size=0'],
  ]);
  await vmm.ready();
  const kinds: Readonly<Record<string, Client>> = {
    kept,
    oneShot: (at) => expectAnswers(at, PING, 1),
    pipelining: (at) => expectAnswers(at, (PING + INFO).repeat(100), 200),
    ...{ slow, leaving, broken, listener, changing, reading, ctl },
    descriptors: senderOf(folder),
  };
  const done = new Map<string, number>();
  /** All kinds, each twice over and over. */
  const run = async (seconds: number) => {
    const end = performance.now() + seconds * 1000;
    const loop = async ([name, client]: [string, Client]) => {
      do {
        await client(socket).catch((error: unknown) => {
          throw new Error(`a client of the kind ${name} failed`, { cause: error });
        });
        done.set(name, (done.get(name) ?? 0) + 1);
      } while (performance.now() < end);
    };
    const clients = Object.entries(kinds);
    await Promise.all([...clients, ...clients].map(loop));
  };
  // Silent all the time.
  const silent = Array.from({ length: 50 }, () => net.connect(socket));
  onTestFinished(() => {
    for (const one of silent) one.destroy();
  });
  await run(SECONDS * WARM_UP);
  const before = await sizeOf(vmm.pid);
  await run(SECONDS * (1 - WARM_UP));
  const after = await sizeOf(vmm.pid);
  process.stdout.write(`${JSON.stringify({ before, after, done: Object.fromEntries(done) })}\n`);
  await settles(() => expect(openDescriptors(vmm.pid)).toBeLessThanOrEqual(before.descriptors));
  expect(after.threads).toBeLessThanOrEqual(before.threads);
  expect(after.anonymousKiB - before.anonymousKiB).toBeLessThan(MORE_KIB);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(vmm.stderr).toBe('');
});
