/** The client with a daemon that behaves, one that does not, and one that is gone. */
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { Keepalive, MessageType, Program, Status } from '../../../../../src/api/libvirt/frames.ts';
import { DomainEventMessages } from '../../../../../src/api/libvirt/signatures/eventMessages.ts';
import { Remote } from '../../../../../src/api/libvirt/signatures/index.ts';
import { XdrWriter } from '../../../../../src/api/libvirt/xdr.ts';
import { type ConnectOptions, connect, LibvirtError } from '../../../../../src/libvirt.ts';
import { type Behaviour, type FakeDaemon, fakeDaemon, type Heard, type Peer } from './fakeDaemon.ts';

const VM1 = { name: 'vm1', uuid: '00010203-0405-0607-0809-0a0b0c0d0e0f', id: 7 };
const { lifecycle } = DomainEventMessages;

async function connected(behave?: Behaviour, options?: ConnectOptions) {
  const daemon = await fakeDaemon(behave);
  const connection = await connect(daemon.uri, options);
  onTestFinished(() => connection.close());
  return { daemon, connection };
}

function sendLifecycle(peer: Peer, callbackID: number, detail: number): void {
  const writer = new XdrWriter();
  lifecycle.body.write(writer, { callbackID, dom: VM1, event: 2, detail });
  peer.send({ procedure: lifecycle.message, type: MessageType.message, payload: writer.finish() });
}

async function vm1(daemon: FakeDaemon, connection: Awaited<ReturnType<typeof connect>>) {
  const found = connection.lookupByName('vm1');
  const call = await daemon.next(Remote.domainLookupByName);
  call.peer.answer(call, Remote.domainLookupByName, { dom: VM1 });
  return found;
}

async function errorOf(promise: Promise<unknown>): Promise<LibvirtError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LibvirtError);
  return error as LibvirtError;
}

test('answers go to their calls, in whatever order they come', async () => {
  const { daemon, connection } = await connected();
  const [type, hostname] = [connection.type(), connection.hostname()];
  const first = await daemon.next(Remote.connectGetType);
  const second = await daemon.next(Remote.connectGetHostname);
  second.peer.answer(second, Remote.connectGetHostname, { hostname: 'here' });
  first.peer.answer(first, Remote.connectGetType, { type: 'TSVMM' });
  expect(await Promise.all([type, hostname])).toEqual(['TSVMM', 'here']);
});

test("an error is libvirt's, with code, domain, level and message", async () => {
  const { daemon, connection } = await connected();
  const looked = errorOf(connection.lookupByName('vm1'));
  const call = await daemon.next(Remote.domainLookupByName);
  const payload = Buffer.from(
    '0000002a000000140000000100000006' +
      '6e6f20766d3100000000000200000000000000000000000000000000ffffffffffffffff00000000',
    'hex',
  );
  call.peer.send({ procedure: call.procedure, serial: call.serial, status: Status.error, payload });
  expect(await looked).toMatchObject({
    code: 42,
    domain: 20,
    level: 2,
    message: 'no vm1',
    name: 'LibvirtError',
  });
});

test('an error that cannot be decoded is an error', async () => {
  const { daemon, connection } = await connected();
  const looked = errorOf(connection.hostname());
  const call = await daemon.next(Remote.connectGetHostname);
  call.peer.send({ procedure: call.procedure, serial: call.serial, status: Status.error });
  expect(await looked).toMatchObject({ code: 39, domain: 7 });
});

test('an answer that cannot be decoded fails its call alone', async () => {
  const { daemon, connection } = await connected();
  const asked = errorOf(connection.hostname());
  const call = await daemon.next(Remote.connectGetHostname);
  call.peer.send({ procedure: call.procedure, serial: call.serial, payload: Buffer.from('ffffffff', 'hex') });
  expect((await asked).message).toMatch(/^Unable to decode message payload: virConnectGetHostname/);
  const type = connection.type();
  const next = await daemon.next(Remote.connectGetType);
  next.peer.answer(next, Remote.connectGetType, { type: 'X' });
  expect(await type).toBe('X');
});

test('a call ends when its time is over or it is aborted, and its late answer is dropped', async () => {
  const { daemon, connection } = await connected();
  expect(await errorOf(connection.type({ timeoutMs: 20 }))).toMatchObject({ code: 68 });
  const abort = new AbortController();
  const aborted = connection.hostname({ signal: abort.signal });
  abort.abort(new Error('no longer'));
  await expect(aborted).rejects.toThrow('no longer');
  await expect(connection.type({ signal: abort.signal })).rejects.toThrow('no longer');
  const late = await daemon.next(Remote.connectGetType);
  late.peer.answer(late, Remote.connectGetType, { type: 'late' });
  const type = connection.type();
  const call = await daemon.next(Remote.connectGetType);
  call.peer.answer(call, Remote.connectGetType, { type: 'now' });
  expect(await type).toBe('now');
  await expect(connection.type({ timeoutMs: -1 })).rejects.toThrow(RangeError);
});

test('a lost connection rejects at once whatever waits, and everything later', async () => {
  const { daemon, connection } = await connected();
  const domain = await vm1(daemon, connection);
  const opening = domain.openConsole();
  const call = await daemon.next(Remote.domainOpenConsole);
  call.peer.answer(call, Remote.domainOpenConsole, undefined);
  const stream = await opening;
  const failed = new Promise((resolve) => stream.once('error', resolve));
  const waiting = [errorOf(connection.type()), errorOf(connection.hostname())];
  await daemon.next(Remote.connectGetHostname);
  call.peer.socket.destroy();
  for (const error of await Promise.all(waiting))
    expect(error.message).toMatch(/^End of file while reading data/);
  expect(await failed).toBeInstanceOf(LibvirtError);
  expect(await connection.closed).toMatchObject({ reason: 'lost' });
  expect((await errorOf(connection.type())).message).toBe('internal error: client socket is closed');
});

test('a daemon that announces its end closes the connection', async () => {
  const { daemon, connection } = await connected();
  const waiting = errorOf(connection.type());
  const { peer } = await daemon.next(Remote.connectGetType);
  peer.send({ procedure: 362, type: MessageType.message, payload: Buffer.alloc(4) });
  expect((await waiting).message).toBe('the daemon has closed the connection');
  expect(await connection.closed).toMatchObject({ reason: 'daemon' });
});

test('close rejects what waits, and can be called twice', async () => {
  const { daemon, connection } = await connected();
  const waiting = errorOf(connection.type());
  await daemon.next(Remote.connectGetType);
  await connection.close();
  await connection.close();
  expect(await waiting).toMatchObject({ code: 1 });
  expect(await connection.closed).toEqual({ reason: 'client' });
});

const hostile: readonly (readonly [string, (peer: Peer, call: Heard) => void])[] = [
  ['a length that is none', (peer) => peer.socket.write(Buffer.from('0000001b', 'hex'))],
  ['a length beyond libvirt’s', (peer) => peer.socket.write(Buffer.from('ffffffff', 'hex'))],
  ['an answer to no call', (peer) => peer.send({ serial: 999 })],
  ['an answer to another procedure', (peer, { serial }) => peer.send({ serial, procedure: 1 })],
  ['an answer of odd status', (peer, { serial, procedure }) => peer.send({ serial, procedure, status: 2 })],
  ['a call', (peer) => peer.send({ type: MessageType.call, procedure: 1 })],
  ['descriptors', (peer, { serial, procedure }) => peer.send({ serial, procedure, type: 5 })],
  ['another program', (peer) => peer.send({ program: 1, type: MessageType.message })],
  ['an event that is cut off', (peer) => peer.send({ procedure: 318, type: MessageType.message })],
];

test.each(hostile)('%s ends the connection with an error', async (_, attack) => {
  const { daemon, connection } = await connected();
  const waiting = errorOf(connection.type());
  const call = await daemon.next(Remote.connectGetType);
  attack(call.peer, call);
  expect((await waiting).message).toMatch(/^the daemon cannot be understood: /);
  expect(await connection.closed).toMatchObject({ reason: 'lost' });
});

test('more domains than libvirt allows are refused', async () => {
  const { daemon, connection } = await connected();
  const listed = errorOf(connection.listDomains());
  const call = await daemon.next(Remote.connectListAllDomains);
  call.peer.send({ procedure: call.procedure, serial: call.serial, payload: Buffer.from('00004001', 'hex') });
  expect((await listed).message).toMatch(/16385 elements, more than 16384/);
});

test('what the daemon could not read is not sent', async () => {
  const { connection } = await connected();
  expect((await errorOf(connection.lookupByName('a\0b'))).message).toMatch(/a string has a NUL/);
  expect((await errorOf(connection.defineDomain('x'.repeat(5_000_000)))).message).toMatch(/5000000 bytes/);
  expect((await errorOf(connection.lookupByUuid('zz'))).message).toMatch(/'zz' is no uuid/);
});

test('a daemon that says nothing is not waited for without end', async () => {
  const daemon = await fakeDaemon(() => true);
  expect(await errorOf(connect(daemon.uri, { timeoutMs: 50 }))).toMatchObject({ code: 68 });
  const abort = new AbortController();
  const connecting = connect(daemon.uri, { signal: abort.signal });
  abort.abort(new Error('enough'));
  await expect(connecting).rejects.toThrow('enough');
  await expect(connect(daemon.uri, { signal: abort.signal })).rejects.toThrow('enough');
});

test('nobody behind the socket, or no socket, is an error', async () => {
  expect((await errorOf(connect('tsvmm+unix:///system?socket=/nonexistent/s'))).message).toMatch(
    /^Failed to connect socket to '\/nonexistent\/s': /,
  );
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, resolve));
  onTestFinished(() => void server.close());
  const { port } = server.address() as { port: number };
  expect(await errorOf(connect(`tsvmm+tcp://127.0.0.1:${port}/system`))).toMatchObject({ code: 38 });
});

test.each([
  [[1], undefined, /the daemon wants SASL, which is not supported/],
  [[1, 9], 'none', /offers none of the ways to authenticate that are wanted \(it has 1, 9\)/],
  [[0], 'polkit', /offers none/],
])('authentication by %j where the URI says %s', async (types, auth, message) => {
  const daemon = await fakeDaemon((call) => {
    if (call.procedure !== Remote.authList.number) return false;
    call.peer.answer(call, Remote.authList, { types });
    return true;
  });
  const uri = auth === undefined ? daemon.uri : `${daemon.uri}&auth=${auth}`;
  expect(await errorOf(connect(uri))).toMatchObject({ code: 45, message: expect.stringMatching(message) });
});

test('polkit is asked where the daemon wants it', async () => {
  const { daemon } = await connected((call) => {
    if (call.procedure === Remote.authList.number) call.peer.answer(call, Remote.authList, { types: [2] });
    else if (call.procedure === Remote.authPolkit.number)
      call.peer.answer(call, Remote.authPolkit, { complete: 1 });
    else return false;
    return true;
  });
  expect(daemon.heard.map(({ procedure }) => procedure)).toContain(Remote.authPolkit.number);
});

test('keepalive: a question is answered, and silence ends the connection', async () => {
  const pings = (daemon: FakeDaemon) =>
    daemon.heard.filter(
      ({ program, procedure }) => program === Program.keepalive && procedure === Keepalive.ping,
    );
  const { daemon, connection } = await connected(undefined, { keepalive: { intervalMs: 20, count: 2 } });
  const { peer } = daemon.heard[0] as Heard;
  peer.send({ program: Program.keepalive, procedure: Keepalive.ping, type: MessageType.message });
  await expect
    .poll(() =>
      daemon.heard.some(({ program, procedure }) => program === Program.keepalive && procedure === 2),
    )
    .toBe(true);
  expect(await connection.closed).toMatchObject({
    reason: 'lost',
    error: { message: 'connection closed due to keepalive timeout' },
  });
  expect(pings(daemon)).toHaveLength(2);
});

test('a daemon without keepalive is not asked', async () => {
  const { daemon } = await connected(
    (call) => {
      if (call.procedure !== Remote.connectSupportsFeature.number) return false;
      call.peer.answer(call, Remote.connectSupportsFeature, { supported: 0 });
      return true;
    },
    { keepalive: { intervalMs: 5, count: 1 } },
  );
  await sleep(50);
  expect(daemon.heard.every(({ program }) => program === Program.remote)).toBe(true);
});

/** Registrations get ids from 1. */
function registers(): Behaviour {
  let id = 0;
  return (call) => {
    if (call.procedure !== Remote.connectDomainEventCallbackRegisterAny.number) return false;
    call.peer.answer(call, Remote.connectDomainEventCallbackRegisterAny, { callbackID: ++id });
    // Right behind the answer, in the same bytes perhaps.
    sendLifecycle(call.peer, id, 0);
    return true;
  };
}

test('events arrive from the answer on, at all listeners, with one registration', async () => {
  const { daemon, connection } = await connected(registers());
  const first = await connection.domainEvents('lifecycle');
  expect(await first.next()).toMatchObject({
    value: { kind: 'lifecycle', domain: { ...VM1 }, event: 'started', detail: 'booted' },
  });
  const second = await connection.domainEvents(['lifecycle', 'lifecycle']);
  const registered = daemon.heard.filter(
    ({ procedure }) => procedure === Remote.connectDomainEventCallbackRegisterAny.number,
  );
  expect(registered).toHaveLength(1);
  sendLifecycle((registered[0] as Heard).peer, 1, 99);
  for (const events of [first, second]) {
    expect(await events.next()).toMatchObject({ value: { event: 'started', detail: 'unknown' } });
  }
  const deregistered = () =>
    daemon.heard.filter(
      ({ procedure }) => procedure === Remote.connectDomainEventCallbackDeregisterAny.number,
    );
  await first.return();
  expect(deregistered()).toHaveLength(0);
  await second.return();
  expect(deregistered()).toHaveLength(1);
  expect(await second.next()).toEqual({ done: true, value: undefined });
  // A new one registers anew.
  const third = await connection.domainEvents('lifecycle');
  expect(await third.next()).toMatchObject({ value: { event: 'started' } });
});

test('a reader that does not keep up is told so, after what it may still read', async () => {
  const { daemon, connection } = await connected(registers());
  const events = await connection.domainEvents('lifecycle', { maxBuffered: 3 });
  const { peer } = daemon.heard[0] as Heard;
  for (let i = 0; i < 10; i++) sendLifecycle(peer, 1, 0);
  const deregistered = () =>
    daemon.heard.some(({ procedure }) => procedure === Remote.connectDomainEventCallbackDeregisterAny.number);
  await expect.poll(deregistered).toBe(true);
  for (let i = 0; i < 3; i++) expect(await events.next()).toMatchObject({ done: false });
  expect(await errorOf(events.next())).toMatchObject({ code: 82 });
  expect(await events.next()).toEqual({ done: true, value: undefined });
});

test('events end with the connection: in order, or with its error', async () => {
  const lost = await connected(registers());
  const events = await lost.connection.domainEvents('lifecycle');
  await events.next();
  const waiting = errorOf(events.next());
  (lost.daemon.heard[0] as Heard).peer.socket.destroy();
  expect(await waiting).toMatchObject({ code: 38 });
  const closed = await connected(registers());
  const others = await closed.connection.domainEvents('lifecycle');
  await others.next();
  const last = others.next();
  await closed.connection.close();
  expect(await last).toEqual({ done: true, value: undefined });
});

test('events that the daemon does not offer are an error, and an abort ends them', async () => {
  const { connection } = await connected(registers());
  const abort = new AbortController();
  const events = await connection.domainEvents('lifecycle', { signal: abort.signal });
  await events.next();
  const next = events.next();
  abort.abort(new Error('enough'));
  await expect(next).rejects.toThrow('enough');
  await expect(connection.domainEvents('reboot', { signal: abort.signal })).rejects.toThrow('enough');
  const refusing = await connected((call) => {
    if (call.procedure !== Remote.connectDomainEventCallbackRegisterAny.number) return false;
    call.peer.send({ procedure: call.procedure, serial: call.serial, status: Status.error });
    return true;
  });
  await errorOf(refusing.connection.domainEvents('lifecycle'));
});

async function opened(behave?: Behaviour) {
  const { daemon, connection } = await connected(behave);
  const domain = await vm1(daemon, connection);
  const opening = domain.openConsole({ force: true });
  const call = await daemon.next(Remote.domainOpenConsole);
  call.peer.answer(call, Remote.domainOpenConsole, undefined);
  const send = (status: number, payload: Uint8Array = new Uint8Array()) =>
    call.peer.send({
      procedure: call.procedure,
      serial: call.serial,
      type: MessageType.stream,
      status,
      payload,
    });
  // Before the client has seen the answer.
  send(Status.continue, Buffer.from('hello'));
  const packets = () => daemon.heard.filter(({ type }) => type === MessageType.stream);
  return { daemon, connection, stream: await opening, send, packets };
}

test('a stream: what the guest prints, what is typed, and an end in order', async () => {
  const { stream, send, packets } = await opened();
  stream.write(Buffer.alloc(600_000, 'x'));
  await expect.poll(() => packets().map(({ payload }) => payload.length)).toEqual([262_120, 262_120, 75_760]);
  stream.end();
  await expect.poll(() => packets().at(-1)).toMatchObject({ status: Status.ok });
  send(Status.ok);
  expect(String(await stream.setEncoding('utf8').toArray())).toBe('hello');
});

test('leaving the loop breaks a stream off', async () => {
  const { stream, packets } = await opened();
  for await (const chunk of stream) {
    expect(String(chunk)).toBe('hello');
    break;
  }
  await expect.poll(() => packets().at(-1)).toMatchObject({ status: Status.error });
});

test('an end of the daemon is answered', async () => {
  const { stream, send, packets } = await opened();
  send(Status.continue);
  send(Status.continue, Buffer.from('after the end'));
  stream.resume();
  await expect.poll(() => packets().at(-1)).toMatchObject({ status: Status.ok });
  send(Status.ok);
  await new Promise((resolve) => stream.once('close', resolve));
  expect(stream.errored).toBeNull();
});

test('a stream that is destroyed is broken off, and what comes for it afterwards is dropped', async () => {
  const { stream, send, packets, connection, daemon } = await opened();
  stream.destroy();
  await expect.poll(() => packets().at(-1)).toMatchObject({ status: Status.error });
  send(Status.continue, Buffer.from('late'));
  send(Status.ok);
  const type = connection.type();
  const call = await daemon.next(Remote.connectGetType);
  call.peer.answer(call, Remote.connectGetType, { type: 'X' });
  expect(await type).toBe('X');
});

test('an error of a stream is its own', async () => {
  const { stream, send } = await opened();
  const failed = new Promise<Error>((resolve) => stream.once('error', resolve));
  send(Status.error, Buffer.from('odd'));
  expect(await failed).toBeInstanceOf(LibvirtError);
});

test('a stream that nobody reads holds the daemon up instead of filling memory', async () => {
  const { daemon, stream, send } = await opened();
  const { socket } = (daemon.heard[0] as Heard).peer;
  const packet = Buffer.alloc(200_000);
  let sent = 0;
  await expect
    .poll(
      () => {
        if (socket.writableLength < 1 << 20) {
          send(Status.continue, packet);
          sent += packet.length;
        }
        return socket.writableLength;
      },
      { interval: 1 },
    )
    .toBeGreaterThan(1 << 20);
  expect(stream.readableLength).toBeLessThan(3 << 20);
  let read = 0;
  stream.on('data', (chunk: Buffer) => {
    read += chunk.length;
  });
  await expect.poll(() => read).toBe(sent + 'hello'.length);
});

test('a console whose opening was given up is broken off when it opens', async () => {
  const { daemon, connection } = await connected();
  const domain = await vm1(daemon, connection);
  const opening = errorOf(domain.openConsole({ timeoutMs: 20 }));
  const call = await daemon.next(Remote.domainOpenConsole);
  await opening;
  call.peer.answer(call, Remote.domainOpenConsole, undefined);
  await expect
    .poll(() => daemon.heard.at(-1))
    .toMatchObject({ type: MessageType.stream, status: Status.error, serial: call.serial });
});

test('a registration that the daemon agrees to too late is taken back', async () => {
  const { daemon, connection } = await connected(undefined, { callTimeoutMs: 100 });
  expect(await errorOf(connection.domainEvents('lifecycle'))).toMatchObject({ code: 68 });
  const call = await daemon.next(Remote.connectDomainEventCallbackRegisterAny);
  call.peer.answer(call, Remote.connectDomainEventCallbackRegisterAny, { callbackID: 9 });
  const left = await daemon.next(Remote.connectDomainEventCallbackDeregisterAny);
  expect(Buffer.from(left.payload).readInt32BE()).toBe(9);
});

test('a late answer that cannot be understood ends the connection, and not the program', async () => {
  const { daemon, connection } = await connected(undefined, { callTimeoutMs: 100 });
  expect(await errorOf(connection.domainEvents('lifecycle'))).toMatchObject({ code: 68 });
  const { peer, procedure, serial } = await daemon.next(Remote.connectDomainEventCallbackRegisterAny);
  peer.send({ procedure, serial, payload: Buffer.of(1) });
  expect(await connection.closed).toMatchObject({
    reason: 'lost',
    error: {
      message: expect.stringMatching(/Unable to decode message payload: virConnectDomainEventRegisterAny/),
    },
  });
});
