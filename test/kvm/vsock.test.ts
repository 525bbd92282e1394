/** Streams between the guest and UNIX sockets of the host, in both directions. */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { connectVsock } from '../../src/host/vsockClient.ts';
import {
  expectAllOk,
  expectOnlyDeviceWarnings,
  nativeThreads,
  openDescriptors,
  RUNTIMES,
  type Runtime,
  runGuest,
  settles,
  sleep,
  startGuest,
  type Tsvmm,
  temporaryFolder,
  until,
} from './support.ts';

/** The guest's services (test/guest/programs/vsock.c). */
const DIGEST = 1;
const ECHO = 2;
const DEAF = 3;
const SOURCE = 4;
const RESET = 8;
const QUIT = 9;
const DIGEST_BYTES = 16;

const MIB = 1 << 20;

function patternBytes(port: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = (port * 131 + at * 7 + (at >>> 8)) & 255;
  return bytes;
}

function digestOf(bytes: Uint8Array): Buffer {
  let a = 0;
  let b = 0;
  for (const byte of bytes) {
    a = (a + byte) >>> 0;
    b = (b + a) >>> 0;
  }
  const digest = Buffer.alloc(DIGEST_BYTES);
  digest.writeBigUInt64LE(BigInt(bytes.length));
  digest.writeUInt32LE(a, 8);
  digest.writeUInt32LE(b, 12);
  return digest;
}

async function readAll(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  // Who reads to the end may still want to write.
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Sends all, then reads what comes until the other side is done. */
async function exchange(socketPath: string, port: number, bytes: Uint8Array): Promise<Buffer> {
  const socket = await connectVsock(socketPath, port);
  const answer = readAll(socket);
  socket.end(bytes);
  return answer;
}

interface Serving {
  readonly vmm: Tsvmm;
  readonly socket: string;
  /** Ends the guest, which must have found nothing wrong. */
  finish(): Promise<string>;
}

async function serve(options: { runtime?: Runtime; cmdline?: string } = {}): Promise<Serving> {
  const folder = temporaryFolder();
  const socket = path.join(folder, 'vsock');
  const vmm = startGuest({
    cmdline: `run=vsock-serve ${options.cmdline ?? ''}`,
    args: ['--vsock', `cid=1234567,socket=${socket}`, '--api-socket', path.join(folder, 'api')],
    ...(options.runtime && { runtime: options.runtime }),
  });
  await vmm.waitFor('vsock ready: cid 1234567 queue-size 256');
  const finish = async () => {
    (await connectVsock(socket, QUIT)).destroy();
    const exit = await vmm.exit();
    expect(exit, vmm.stderr).toEqual({ code: 0, signal: null });
    expectAllOk(vmm.stdout);
    expect(fs.existsSync(socket)).toBe(false);
    return vmm.stdout;
  };
  return { vmm, socket, finish };
}

describe.each(RUNTIMES)('%s', (runtime) => {
  test('the host reaches the guest, both directions', async () => {
    const { socket, vmm, finish } = await serve({ runtime, cmdline: `bytes=${2 * MIB}` });
    const sent = patternBytes(77, 3 * MIB);
    expect(await exchange(socket, DIGEST, sent)).toEqual(digestOf(sent));
    expect((await exchange(socket, SOURCE, Buffer.alloc(0))).equals(patternBytes(SOURCE, 2 * MIB))).toBe(
      true,
    );
    expect((await exchange(socket, ECHO, sent)).equals(sent)).toBe(true);
    const counters = (await vmm.api('GET', 'vm.counters')).json._vsock0;
    expect(counters).toMatchObject({ streams_opened: 3, rx_bytes: 6 * MIB });
    expect(counters.tx_bytes).toBe(5 * MIB + DIGEST_BYTES);
    expect(nativeThreads(vmm.pid)).toContain('_vsock0');
    await finish();
  });

  test('the guest reaches the host', async () => {
    const folder = temporaryFolder();
    const socket = path.join(folder, 'vsock');
    const digests: Promise<unknown>[] = [];
    const server = net.createServer({ allowHalfOpen: true }, (client) => {
      digests.push(readAll(client).then((bytes) => client.end(digestOf(bytes))));
    });
    onTestFinished(() => void server.close());
    server.listen(`${socket}_700`);
    await new Promise((resolve) => server.once('listening', resolve));
    await runGuest({
      cmdline: `run=vsock-connect port=700 streams=20 bytes=${MIB / 4}`,
      args: ['--vsock', `cid=3,socket=${socket}`],
      runtime,
    });
    expect(digests).toHaveLength(20);
  });
});

test('a guest is refused where nobody listens', async () => {
  const socket = path.join(temporaryFolder(), 'vsock');
  const output = await runGuest({
    cmdline: 'run=vsock-connect port=701 streams=3 refused=1',
    args: ['--vsock', `cid=3,socket=${socket}`],
  });
  expect(output).toContain('opened 0');
});

test('a client is refused in silence', async () => {
  const { socket, finish } = await serve();
  await expect(connectVsock(socket, 55)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  for (const line of ['HELLO\n', 'CONNECT\n', `CONNECT ${'1'.repeat(40)}`]) {
    const client = net.connect(socket);
    let heard = '';
    client.on('data', (bytes) => {
      heard += bytes;
    });
    // What is left unread of a line makes it a reset.
    client.on('error', () => {});
    const closed = new Promise((resolve) => client.on('close', resolve));
    client.write(line);
    await closed;
    expect(heard).toBe('');
  }
  expect(await finish()).toContain('refused 1');
});

test('many streams at once', async () => {
  const { socket, vmm, finish } = await serve();
  const before = openDescriptors(vmm.pid);
  await Promise.all(
    Array.from({ length: 300 }, async (_, i) => {
      const sent = patternBytes(i, 1000 + i * 97);
      const answer = await exchange(socket, i % 2 === 0 ? DIGEST : ECHO, sent);
      expect(answer.equals(i % 2 === 0 ? digestOf(sent) : sent), `stream ${i}`).toBe(true);
    }),
  );
  await until(
    () => openDescriptors(vmm.pid) <= before,
    () => `${openDescriptors(vmm.pid)} descriptors`,
  );
  await finish();
});

test('clients that behave badly', async () => {
  const { socket, vmm, finish } = await serve();
  const before = openDescriptors(vmm.pid);
  for (let i = 0; i < 200; i++) {
    const client = net.connect(socket).on('error', () => {});
    if (i % 4 === 1) client.write('CONN');
    if (i % 4 === 2) client.write('CONNECT 1\nand a few words');
    if (i % 4 === 3) client.write(Buffer.alloc(100_000, 'CONNECT'));
    if (i % 3 === 0) client.destroy();
    else setTimeout(() => client.destroy(), i % 50);
  }
  await sleep(200);
  const sent = patternBytes(1, 10_000);
  expect(await exchange(socket, DIGEST, sent)).toEqual(digestOf(sent));
  await until(
    () => openDescriptors(vmm.pid) <= before,
    () => `${openDescriptors(vmm.pid)} descriptors`,
  );
  await finish();
});

test('a side that does not read holds up no other, and costs nothing', async () => {
  const { socket, vmm, finish } = await serve({ cmdline: `bytes=${8 * MIB}` });
  const deaf = await connectVsock(socket, DEAF);
  deaf.on('error', () => {}).write(Buffer.alloc(4 * MIB));
  const stuck = await connectVsock(socket, SOURCE);
  await sleep(300);
  const sent = patternBytes(5, MIB);
  expect((await exchange(socket, ECHO, sent)).equals(sent)).toBe(true);
  const tasks = `/proc/${vmm.pid}/task`;
  const thread = fs
    .readdirSync(tasks)
    .find((id) => fs.readFileSync(`${tasks}/${id}/comm`, 'utf8') === '_vsock0\n');
  /** Milliseconds on a CPU. */
  const cpu = () => Number(fs.readFileSync(`${tasks}/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
  const before = cpu();
  await sleep(1000);
  expect(cpu() - before).toBeLessThan(50);
  expect((await readAll(stuck)).equals(patternBytes(SOURCE, 8 * MIB))).toBe(true);
  deaf.destroy();
  stuck.destroy();
  await finish();
});

test('a reset by the guest closes streams, and clients find the next machine', async () => {
  const { socket, vmm, finish } = await serve();
  const open = await connectVsock(socket, ECHO);
  const ended = readAll(open).catch(() => Buffer.alloc(0));
  (await connectVsock(socket, RESET).catch(() => undefined))?.destroy();
  expect(await ended).toEqual(Buffer.alloc(0));
  open.destroy();
  // The listener stays: who comes meanwhile waits for the next machine's driver.
  const sent = patternBytes(9, 50_000);
  expect(await exchange(socket, DIGEST, sent)).toEqual(digestOf(sent));
  await settles(() => expect(vmm.stdout.match(/vsock ready/g)).toHaveLength(2));
  await finish();
});

test('pausing holds streams', async () => {
  const { socket, vmm, finish } = await serve();
  const client = await connectVsock(socket, ECHO);
  expect((await vmm.api('PUT', 'vm.pause')).status).toBe(204);
  client.write('later');
  let heard = '';
  client.on('data', (bytes) => {
    heard += bytes;
  });
  await sleep(300);
  expect(heard).toBe('');
  expect((await vmm.api('PUT', 'vm.resume')).status).toBe(204);
  await until(
    () => heard === 'later',
    () => heard,
  );
  client.destroy();
  await finish();
});

test('a path that is in use is not taken', async () => {
  const { socket, finish } = await serve();
  const second = startGuest({ cmdline: 'run=idle', args: ['--vsock', `cid=3,socket=${socket}`] });
  expect(await second.exit()).toEqual({ code: 1, signal: null });
  expect(second.stderr).toContain("Cannot listen on the vsock's socket");
  await finish();
});

test('a guest that breaks its rings can start anew', async () => {
  const folder = temporaryFolder();
  const socket = path.join(folder, 'vsock');
  const vmm = startGuest({
    cmdline: 'run=hostile-vsock,vsock-serve',
    args: ['--vsock', `cid=3,socket=${socket}`],
  });
  // Clients at all times; most meet a device that fails.
  const clients = setInterval(() => {
    const client = net.connect(socket).on('error', () => {});
    client.write('CONNECT 1\n');
    setTimeout(() => client.destroy(), 100);
  }, 5);
  onTestFinished(() => clearInterval(clients));
  await vmm.waitFor('vsock ready');
  clearInterval(clients);
  const sent = patternBytes(1, 100_000);
  expect(await exchange(socket, DIGEST, sent)).toEqual(digestOf(sent));
  (await connectVsock(socket, QUIT)).destroy();
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expectAllOk(vmm.stdout);
  expectOnlyDeviceWarnings(vmm.stderr);
});
