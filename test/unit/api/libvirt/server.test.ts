/** The server against clients that send it whatever they like. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type Frame, MessageType, Program, Status } from '../../../../src/api/libvirt/frames.ts';
import { procedures } from '../../../../src/api/libvirt/procedures/index.ts';
import { SOCKET_NAME } from '../../../../src/api/libvirt/server.ts';
import { DomainEventMessages } from '../../../../src/api/libvirt/signatures/eventMessages.ts';
import { Remote } from '../../../../src/api/libvirt/signatures/index.ts';
import { XdrWriter } from '../../../../src/api/libvirt/xdr.ts';
import { callFrame, errorOf, OPEN, RawClient, serve } from './rawClient.ts';

/** The newest that any client knows of. */
const LAST = 453;
const CLOSE = 2;
const GET_HOSTNAME = 59;
const STORAGE_VOL_LOOKUP_BY_PATH = 97;

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

test('every procedure number is answered, unknown ones as not supported, and the connection goes on', async () => {
  const { socketPath } = await serve();
  const client = new RawClient(socketPath);
  client.send(OPEN);
  await client.until(1);
  // Arguments of any kind: what is there finds them too short.
  for (let number = 1; number <= LAST; number++) {
    if (number !== CLOSE) client.send(callFrame(number, number));
  }
  const answers = await client.until(LAST);
  expect(new Set(answers.map(({ serial }) => serial)).size).toBe(LAST);
  for (const answer of answers) {
    expect(answer.type).toBe(MessageType.reply);
    if (procedures.has(answer.procedure)) continue;
    const { code, message } = errorOf(answer);
    expect(message).not.toBe('');
    expect([answer.procedure, code]).toEqual([
      answer.procedure,
      answer.procedure === STORAGE_VOL_LOOKUP_BY_PATH ? 50 : 3,
    ]);
  }
  // What later work brings: changes of devices, save, restore and dump, snapshots, migration.
  for (const number of [53, 54, 55, 182, 185, 192, 232, 233, 302, 303, 305, 334, 440]) {
    expect(errorOf(answers.find(({ procedure }) => procedure === number) as never)).toMatchObject({
      code: 3,
    });
  }
  client.send(callFrame(LAST + 1, 1_000), callFrame(-1, 1_001), callFrame(1, 1_002, undefined, Program.qemu));
  const [beyond, negative, qemu] = (await client.until(LAST + 3)).slice(LAST);
  expect(errorOf(beyond as never)).toMatchObject({ code: 39, domain: 7, message: 'unknown procedure: 454' });
  expect(errorOf(negative as never)).toMatchObject({ code: 39, message: 'unknown procedure: -1' });
  expect(errorOf(qemu as never)).toMatchObject({ code: 3 });
  client.send(callFrame(GET_HOSTNAME, 2_000));
  expect((await client.until(LAST + 4)).at(-1)).toMatchObject({ serial: 2_000, status: Status.ok });
});

test('whatever the arguments of a procedure are, it is answered', async () => {
  const { socketPath } = await serve();
  const client = new RawClient(socketPath);
  client.send(OPEN);
  await client.until(1);
  let sent = 1;
  const payloads = [
    Buffer.alloc(0),
    Buffer.alloc(4, 0xff),
    Buffer.alloc(400, 0xff),
    Buffer.alloc(400, 0),
    Buffer.alloc(400, 1),
  ];
  for (const number of procedures.keys()) {
    if (number === CLOSE) continue;
    for (const payload of payloads) {
      client.send(callFrame(number, sent, payload));
      sent++;
    }
  }
  const answers = await client.until(sent);
  // Events of a registration that succeeded are none of them: nothing happens meanwhile.
  expect(answers.filter(({ type }) => type === MessageType.reply)).toHaveLength(sent);
});

test('the vectors of the protocol, and what go-libvirt sends', async () => {
  const { socketPath } = await serve();
  const client = new RawClient(socketPath);
  client.send(hex('0000001c 20008086 00000001 00000042 00000000 00000000 00000000'));
  // A true that is not 1, serials that begin at 1, and the driver that it asks for.
  client.send(
    hex('00000038 20008086 00000001 00000001 00000000 00000001 00000000 01000000 0000000e'),
    hex('71656d75 3a2f2f2f 73797374 656d0000 00000000'),
  );
  // No events of one domain: the domain is absent. No keepalive, no features.
  client.send(hex('00000024 20008086 00000001 0000013c 00000000 00000002 00000000 00000000 00000000'));
  client.send(hex('00000024 20008086 00000001 00000111 00000000 00000003 00000000 00000001 00000003'));
  const [auth, open, registered, listed] = await client.until(4);
  expect(Buffer.from(auth?.payload ?? [])).toEqual(hex('00000001 00000000'));
  expect(open).toMatchObject({ serial: 1, status: Status.ok });
  expect(registered).toMatchObject({ serial: 2, status: Status.ok });
  expect(Buffer.from(listed?.payload ?? [])).toEqual(Buffer.alloc(8));
  // A lookup that finds nothing has a message, which it reads without asking whether there is one.
  client.send(hex('00000024 20008086 00000001 00000017 00000000 00000004 00000000 00000003 766d3100'));
  const refused = (await client.until(5)).at(-1);
  expect(errorOf(refused as never)).toMatchObject({
    code: 42,
    message: "Domain not found: no domain with matching name 'vm1'",
  });
  // An unknown procedure says so in these words, which become its ErrUnsupported.
  client.send(callFrame(1_000, 5));
  expect(errorOf((await client.until(6)).at(-1) as never).message).toMatch(/unknown procedure/);
});

test('what virt-manager asks when it connects, and every second after that', async () => {
  const { supervisor, socketPath } = await serve();
  const kernel = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-kernel-'));
  onTestFinished(() => fs.rmSync(kernel, { recursive: true }));
  fs.writeFileSync(path.join(kernel, 'kernel'), '');
  supervisor.define({ name: 'one', config: { payload: { kernel: path.join(kernel, 'kernel') } } });
  const client = new RawClient(socketPath);
  const words = (...values: number[]) => {
    const bytes = Buffer.alloc(4 * values.length);
    for (const [at, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, 4 * at);
    return bytes;
  };
  let serial = 0;
  const ask = async (procedure: number, payload: Uint8Array = Buffer.alloc(0)) => {
    client.send(callFrame(procedure, ++serial, payload));
    return (await client.until(serial))[serial - 1] as Frame;
  };
  const succeeds = async (procedure: number, payload?: Uint8Array) => {
    const answer = await ask(procedure, payload);
    expect([procedure, answer.status]).toEqual([procedure, Status.ok]);
    return answer;
  };
  const refused = async (procedure: number, payload?: Uint8Array) =>
    expect(errorOf(await ask(procedure, payload))).toMatchObject({ code: 3 });
  await succeeds(66);
  await succeeds(1, words(0, 0));
  for (const feature of [14, 15]) expect((await succeeds(60, words(feature))).payload[3]).toBe(1);
  await succeeds(360);
  for (const procedure of [4, 157, 59, 7, 6]) await succeeds(procedure);
  // Pools, devices, networks and interfaces: what is not there is not looked for again.
  for (const procedure of [281, 285, 283, 284]) await refused(procedure, words(1, 3));
  await refused(112, words(0, 16_384, 0));
  await refused(38, words(16_384));
  // Domains' events, and others'.
  const events = [0, 13, 10, 15, 19, 18, 23];
  for (const [index, event] of events.entries()) {
    expect((await succeeds(316, words(event, 0))).payload[3]).toBe(index + 1);
  }
  for (const procedure of [313, 368, 374]) await refused(procedure, words(0, 0));
  // Figures of all domains in the groups that it draws.
  const listed = await succeeds(273, words(1, 0));
  const stats = await succeeds(344, words(0, 1 | 2 | 4 | 8 | 16 | 32, 0));
  expect(Buffer.from(listed.payload).includes('one')).toBe(true);
  for (const key of ['state.state', 'balloon.maximum', 'vcpu.current', 'net.count', 'block.count']) {
    expect(Buffer.from(stats.payload).includes(key)).toBe(true);
  }
  for (let callback = 1; callback <= events.length; callback++) await succeeds(317, words(callback));
  await succeeds(361);
  await succeeds(CLOSE);
  await client.closed;
});

test('a connection that is closed is gone, also if the client keeps its side open', async () => {
  const { socketPath } = await serve();
  const client = new RawClient(socketPath);
  client.socket.allowHalfOpen = true;
  const failed = new Promise<Error>((resolve) => client.socket.once('error', resolve));
  client.send(OPEN, callFrame(CLOSE, 1));
  expect((await client.until(2)).at(-1)).toMatchObject({ procedure: CLOSE, status: Status.ok });
  if (!client.socket.readableEnded) await new Promise((resolve) => client.socket.once('end', resolve));
  client.send(callFrame(GET_HOSTNAME, 2));
  expect(await failed).toMatchObject({ code: 'EPIPE' });
});

test('other clients are served while some do not read, do not finish, or ask without end', async () => {
  const { socketPath } = await serve();
  // One that never reads what it asks for, one that has said half of a message, one that said nothing.
  const deaf = new RawClient(socketPath);
  deaf.socket.pause();
  deaf.send(OPEN, ...Array.from({ length: 3_000 }, (_, serial) => callFrame(7, serial + 1)));
  const half = new RawClient(socketPath);
  half.send(OPEN.subarray(0, 10));
  new RawClient(socketPath);
  const clients = Array.from({ length: 200 }, () => new RawClient(socketPath));
  const calls = 50;
  for (const client of clients) {
    client.send(OPEN, ...Array.from({ length: calls }, (_, serial) => callFrame(GET_HOSTNAME, serial + 1)));
  }
  await Promise.all(clients.map((client) => client.until(calls + 1)));
  for (const { frames } of clients) {
    expect(frames.map(({ serial }) => serial)).toEqual(Array.from({ length: calls + 1 }, (_, i) => i));
  }
  // None of them was served to its end before others were begun with: all of them have the first half before any is
  // asked for more.
  half.send(OPEN.subarray(10));
  expect((await half.until(1))[0]).toMatchObject({ status: Status.ok });
});

test('a client that does not read its events is disconnected, and that is told', async () => {
  const warnings: string[] = [];
  const { supervisor, socketPath } = await serve({ warn: (message) => void warnings.push(message) });
  supervisor.define({ name: 'one', config: { payload: { kernel: '/k' } } });
  const client = new RawClient(socketPath);
  const register = new XdrWriter();
  Remote.connectDomainEventCallbackRegisterAny.args.write(register, {
    eventID: DomainEventMessages['device-added'].id,
    dom: undefined,
  });
  client.send(OPEN, callFrame(Remote.connectDomainEventCallbackRegisterAny.number, 1, register.finish()));
  await client.until(2);
  client.socket.pause();
  const id = 'x'.repeat(4_000);
  const send = () =>
    supervisor.events.add('one', { source: 'vm', event: 'device-added', properties: { id } });
  await vi.waitFor(() => {
    for (let i = 0; i < 500; i++) send();
    expect(warnings).toEqual([
      "A client of libvirt's protocol is disconnected: it does not read what it is sent",
    ]);
  });
  send();
  expect(warnings).toHaveLength(1);
});

test('a client that has asked for much is not served to its end before others are', async () => {
  const { socketPath } = await serve();
  const [busy, other] = [new RawClient(socketPath), new RawClient(socketPath)];
  busy.send(OPEN);
  other.send(OPEN);
  await Promise.all([busy.until(1), other.until(1)]);
  const many = 3_000;
  busy.send(...Array.from({ length: many }, (_, serial) => callFrame(7, serial + 1)));
  await busy.until(2);
  other.send(callFrame(GET_HOSTNAME, 1));
  await other.until(2);
  expect(busy.frames.length).toBeLessThan(many);
  await busy.until(many + 1);
});

test.each([
  ['a length of nothing', hex('00000000')],
  ['a length below the header', hex('0000001b')],
  ['a length above the limit', hex('02000005')],
  ['all ones', hex('ffffffff')],
  ['a message with descriptors', callWithType(MessageType.callWithFds)],
  ['a reply', callWithType(MessageType.reply)],
  ['text', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
])('%s ends the connection', async (_, bytes) => {
  const { socketPath } = await serve();
  const client = new RawClient(socketPath);
  client.send(bytes);
  await client.closed;
  expect(client.frames).toEqual([]);
});

function callWithType(type: number): Uint8Array {
  const frame = callFrame(GET_HOSTNAME, 1);
  new DataView(frame.buffer).setInt32(16, type);
  return frame;
}

test('a document that is deep, wide or has entities is refused, and nothing is defined', async () => {
  const { supervisor, socketPath } = await serve();
  const client = new RawClient(socketPath);
  client.send(OPEN);
  const text = (value: string) => {
    const bytes = Buffer.from(value);
    const padded = Buffer.alloc(4 + Math.ceil(bytes.length / 4) * 4);
    padded.writeUInt32BE(bytes.length);
    bytes.copy(padded, 4);
    return padded;
  };
  const documents = [
    '<a>'.repeat(100_000),
    `<domain>${'<a/>'.repeat(100_000)}</domain>`,
    '<!DOCTYPE domain [<!ENTITY a "aaaa">]><domain type="kvm"><name>&a;</name></domain>',
    '<domain type="kvm"><name>&unknown;</name></domain>',
  ];
  client.send(...documents.map((document, serial) => callFrame(11, serial + 1, text(document))));
  const answers = (await client.until(1 + documents.length)).slice(1);
  for (const answer of answers) expect(errorOf(answer)).toMatchObject({ code: 35, domain: 20 });
  expect(supervisor.list()).toEqual([]);
});

test("clients who are told no path find it by a link, which stands in nobody's way and goes with it", async () => {
  const linkFolder = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-links-')), 'libvirt');
  onTestFinished(() => fs.rmSync(path.dirname(linkFolder), { recursive: true }));
  const first = await serve({ linkFolder });
  const [link, readOnly] = [path.join(linkFolder, SOCKET_NAME), path.join(linkFolder, `${SOCKET_NAME}-ro`)];
  const client = new RawClient(link);
  client.send(OPEN);
  await client.until(1);
  expect(fs.readlinkSync(readOnly)).toBe(`${first.socketPath}-ro`);
  // One that was left behind by a killed daemon is replaced; the first leaves what is not its own.
  const second = await serve({ linkFolder });
  expect(fs.readlinkSync(link)).toBe(second.socketPath);
  first.close();
  expect(fs.readlinkSync(link)).toBe(second.socketPath);
  second.close();
  expect(fs.readdirSync(linkFolder)).toEqual([]);
  fs.writeFileSync(link, 'somebody else');
  const warnings: string[] = [];
  await serve({ linkFolder, warn: (message) => warnings.push(message) });
  expect(warnings).toEqual([expect.stringMatching(/do not find it by .*virttsvmmd-sock: .*EEXIST/)]);
  expect(fs.readFileSync(link, 'utf8')).toBe('somebody else');
});

/** Of a domain that is defined. */
function pinInfo(uuid: string, maplen: number): Uint8Array {
  const writer = new XdrWriter();
  const dom = { name: 'one', uuid, id: -1 };
  Remote.domainGetVcpuPinInfo.args.write(writer, { dom, ncpumaps: 2, maplen, flags: 2 });
  return writer.finish();
}

test('no client gets maps of CPUs, or answers together, that the server has no memory for', async () => {
  const { supervisor, socketPath } = await serve();
  const kernel = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-kernel-'));
  onTestFinished(() => fs.rmSync(kernel, { recursive: true }));
  fs.writeFileSync(path.join(kernel, 'kernel'), '');
  const { policy } = supervisor.define({
    name: 'one',
    config: { payload: { kernel: path.join(kernel, 'kernel') }, cpus: { boot_vcpus: 2, max_vcpus: 2 } },
  });
  const client = new RawClient(`${socketPath}-ro`);
  client.send(OPEN);
  await client.until(1);
  const ask = (serial: number, maplen: number) =>
    callFrame(Remote.domainGetVcpuPinInfo.number, serial, pinInfo(policy?.uuid as string, maplen));
  const most = 4_194_304;
  client.send(ask(1, 0x7fff_ffff), ask(2, most + 1), ask(3, 1));
  const [, huge, above, small] = await client.until(4);
  for (const answer of [huge, above]) {
    expect(errorOf(answer as never)).toMatchObject({ code: 8, domain: 20 });
  }
  expect(small).toMatchObject({ status: Status.ok });
  // Answers that are given in one turn are no more than a client may leave unread.
  const many = 32;
  const before = process.memoryUsage().arrayBuffers;
  client.socket.pause();
  client.send(...Array.from({ length: many }, (_, at) => ask(10 + at, most)));
  const other = new RawClient(socketPath);
  other.send(OPEN, callFrame(GET_HOSTNAME, 1));
  await other.until(2);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 8_388_608);
});

test('an answer that no client could take is an error, and the connection goes on', async () => {
  const { supervisor, socketPath } = await serve();
  const disks = Array.from({ length: 16 }, (_, at) => ({ path: `/${at}/${'x'.repeat(4_000)}` }));
  const config = { payload: { kernel: '/kernel' }, disks };
  const { policy } = supervisor.define({ name: 'one', config });
  const client = new RawClient(socketPath);
  client.send(OPEN);
  const ask = (serial: number, domains: number) => {
    const dom = { name: 'one', uuid: policy?.uuid as string, id: -1 };
    const writer = new XdrWriter();
    const doms = Array.from({ length: domains }, () => dom);
    Remote.connectGetAllDomainStats.args.write(writer, { doms, stats: 32, flags: 0 });
    return callFrame(Remote.connectGetAllDomainStats.number, serial, writer.finish());
  };
  client.send(ask(1, 600));
  // Others are answered meanwhile.
  const other = new RawClient(socketPath);
  other.send(OPEN, callFrame(GET_HOSTNAME, 1));
  await other.until(2);
  expect(client.frames).toHaveLength(1);
  const [, large] = await client.until(2);
  expect(errorOf(large as never)).toMatchObject({
    code: 39,
    message: 'Unable to encode message payload: more than 33554436 bytes',
  });
  client.send(ask(2, 1));
  expect((await client.until(3))[2]).toMatchObject({ serial: 2, status: Status.ok });
});
