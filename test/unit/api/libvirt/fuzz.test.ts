/**
 * Random and mutated input for what decodes libvirt's protocol and documents, on both ends: an answer or a clean error,
 * soon.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectSocket, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { Connection } from '../../../../src/api/libvirt/connection.ts';
import { Domains } from '../../../../src/api/libvirt/domains.ts';
import { readDomainXml } from '../../../../src/api/libvirt/domainXml.ts';
import {
  encodeFrame,
  type Frame,
  FrameError,
  FrameReader,
  MessageType,
  Program,
} from '../../../../src/api/libvirt/frames.ts';
import { errorBody } from '../../../../src/api/libvirt/libvirtError.ts';
import { DomainEventMessages } from '../../../../src/api/libvirt/signatures/eventMessages.ts';
import { Remote } from '../../../../src/api/libvirt/signatures/index.ts';
import type { Type } from '../../../../src/api/libvirt/types.ts';
import { XdrError, XdrReader, XdrWriter } from '../../../../src/api/libvirt/xdr.ts';
import { ConfigError } from '../../../../src/config/configError.ts';
import { connect, LibvirtError } from '../../../../src/libvirt.ts';
import type { Supervisor } from '../../../../src/supervisor/supervisor.ts';
import { FUZZ_TIMEOUT_MS, fuzzing, xdrBytes } from '../../support/fuzz.ts';
import { fakeDaemon, type Heard } from './client/fakeDaemon.ts';

const DECODERS: readonly Type<unknown>[] = [
  ...Object.values(Remote).flatMap(({ args, ret }) => [args, ret] as Type<unknown>[]),
  ...Object.values(DomainEventMessages).map(({ body }) => body as Type<unknown>),
  errorBody as Type<unknown>,
];

/** What the work makes, or the error, if that is of a kind that is meant. */
function cleanly<T>(
  kinds: readonly (abstract new (...args: never[]) => Error)[],
  work: () => T,
): T | undefined {
  try {
    return work();
  } catch (error) {
    if (kinds.some((kind) => error instanceof kind)) return undefined;
    throw error;
  }
}

test('what a decoder takes it writes and takes again', { timeout: FUZZ_TIMEOUT_MS }, () => {
  fc.assert(
    fc.property(fc.constantFrom(...DECODERS), xdrBytes, (type, bytes) => {
      const value = cleanly([XdrError], () => type.read(new XdrReader(bytes)));
      if (value === undefined) return;
      const writer = new XdrWriter();
      type.write(writer, value);
      expect(type.read(new XdrReader(writer.finish()))).toEqual(value);
    }),
    { ...fuzzing, numRuns: 10 * fuzzing.numRuns },
  );
});

const frame: fc.Arbitrary<Frame> = fc.record({
  program: fc.oneof(
    { weight: 6, arbitrary: fc.constant<number>(Program.remote) },
    { weight: 1, arbitrary: fc.constantFrom<number>(Program.keepalive, 0x2000_8087, 0) },
  ),
  version: fc.oneof({ weight: 9, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.nat(3) }),
  procedure: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(...Object.values(Remote).map(({ number }) => number)) },
    { weight: 1, arbitrary: fc.integer({ min: -2, max: 500 }) },
  ),
  type: fc.oneof(
    { weight: 9, arbitrary: fc.constant<number>(MessageType.call) },
    { weight: 1, arbitrary: fc.nat(7) },
  ),
  serial: fc.nat(1_000_000),
  status: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(3) }),
  payload: xdrBytes,
});

test('messages are the same however they are cut', { timeout: FUZZ_TIMEOUT_MS }, () => {
  const comparable = (frames: readonly Frame[]) =>
    frames.map((each) => ({ ...each, payload: [...each.payload] }));
  fc.assert(
    fc.property(
      fc.array(frame, { maxLength: 4 }),
      fc.array(fc.nat(200), { minLength: 1 }),
      (frames, cuts) => {
        const bytes = Buffer.concat(frames.map(encodeFrame));
        const reader = new FrameReader();
        const found: Frame[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = (cuts[i % cuts.length] as number) + 1;
          found.push(...reader.add(bytes.subarray(at, at + size)));
          at += size;
        }
        expect(comparable(found)).toEqual(comparable(frames));
      },
    ),
    fuzzing,
  );
});

test('bytes that are no messages are none', { timeout: FUZZ_TIMEOUT_MS }, () => {
  fc.assert(
    fc.property(fc.array(xdrBytes, { maxLength: 4 }), (pieces) => {
      const reader = new FrameReader();
      cleanly([FrameError], () => pieces.map((piece) => reader.add(piece)));
    }),
    fuzzing,
  );
});

/** A server without any VM. */
async function server(): Promise<string> {
  const folder = mkdtempSync(`${tmpdir()}/tsvmm-libvirt-`);
  const supervisor = {
    vms: new Map(),
    events: { watch: () => () => {}, add: () => {} },
    define: () => {
      throw new ConfigError('invalid', 'nothing is defined here');
    },
  } as unknown as Supervisor;
  const domains = new Domains(supervisor);
  const sockets = new Set<Socket>();
  const listening = createServer((socket) => {
    sockets.add(socket);
    const context = { domains, readOnly: false, consoleOwners: new Map() };
    new Connection(socket, { ...context, opened: () => {}, warn: () => {} });
  });
  await new Promise<void>((resolve) => listening.listen(`${folder}/sock`, resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    listening.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return `${folder}/sock`;
}

/**
 * Sends all that, and then what is always answered.
 * @returns serials of answers, or undefined where the server hangs up
 */
function exchange(path: string, bytes: Uint8Array): Promise<number[] | undefined> {
  const LAST = 0xffff_ffff;
  return new Promise((resolve) => {
    const socket = connectSocket(path);
    const reader = new FrameReader();
    const answered: number[] = [];
    socket.on('error', () => {}).on('close', () => resolve(undefined));
    socket.on('data', (data) => {
      for (const { type, serial } of reader.add(data)) {
        if (type === MessageType.reply) answered.push(serial);
        if (type !== MessageType.reply || serial !== LAST) continue;
        resolve(answered.slice(0, -1));
        socket.destroy();
      }
    });
    socket.write(bytes);
    const { number: procedure } = Remote.authList;
    const last = { program: Program.remote, version: 1, procedure, type: 0, serial: LAST, status: 0 };
    socket.write(encodeFrame({ ...last, payload: new Uint8Array() }));
  });
}

test('the server answers every call, or hangs up on what is none', { timeout: FUZZ_TIMEOUT_MS }, async () => {
  const path = await server();
  const open = encodeFrame({
    ...{
      program: Program.remote,
      version: 1,
      procedure: Remote.connectOpen.number,
      type: 0,
      serial: 0,
      status: 0,
    },
    payload: new Uint8Array(8),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { maxLength: 8 }), async (frames) => {
      const sent = frames.filter(({ procedure }) => procedure !== Remote.connectClose.number);
      const answers = await exchange(path, Buffer.concat([open, ...sent.map(encodeFrame)]));
      const isCall = ({ type, program }: Frame) => type === MessageType.call && program !== Program.keepalive;
      if (answers === undefined) return;
      // What is answered last may overtake what takes longer, of which there is nothing but the order.
      const calls = sent.filter(isCall).map(({ serial }) => serial);
      expect(calls).toEqual(expect.arrayContaining(answers.filter((serial) => serial !== 0)));
    }),
    fuzzing,
  );
});

test('the client fails cleanly, whatever a daemon sends', { timeout: FUZZ_TIMEOUT_MS }, async () => {
  let attack: Uint8Array = new Uint8Array();
  const daemon = await fakeDaemon(({ procedure, peer, serial }: Heard) => {
    if (procedure !== Remote.connectGetHostname.number) return false;
    // An answer of that call may be among it.
    peer.socket.end(Buffer.concat([attack, encodeFrame({ ...answer, serial, payload: attack })]));
    return true;
  });
  const answer = {
    program: Program.remote,
    version: 1,
    procedure: Remote.connectGetHostname.number,
    type: 1,
    status: 0,
  };
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { maxLength: 3 }), xdrBytes, async (frames, bytes) => {
      attack = Buffer.concat([...frames.map((each) => encodeFrame({ ...each, type: each.type % 4 })), bytes]);
      const connection = await connect(daemon.uri);
      const asked = connection.hostname().catch((error: unknown) => error);
      const [result] = await Promise.all([asked, connection.closed]);
      if (typeof result !== 'string') expect(result).toBeInstanceOf(LibvirtError);
    }),
    { ...fuzzing, numRuns: Math.min(fuzzing.numRuns, 20_000) },
  );
});

const NAMES = [
  ...[
    'domain',
    'name',
    'uuid',
    'memory',
    'currentMemory',
    'vcpu',
    'os',
    'type',
    'kernel',
    'initrd',
    'cmdline',
  ],
  ...[
    'devices',
    'disk',
    'driver',
    'source',
    'target',
    'interface',
    'mac',
    'model',
    'serial',
    'console',
    'rng',
  ],
  ...[
    'backend',
    'memballoon',
    'vsock',
    'cid',
    'watchdog',
    'memoryBacking',
    'hugepages',
    'metadata',
    '__proto__',
  ],
];
const ATTRIBUTES = ['type', 'unit', 'file', 'dev', 'bus', 'address', 'model', 'path', 'mode', 'constructor'];
const VALUES = [
  'kvm',
  'file',
  'virtio',
  'vda',
  '/x',
  '1',
  '-1',
  '9'.repeat(400),
  'MiB',
  'pty',
  'yes',
  '',
  '&#0;',
  '&x;',
  'ü',
];
const text = fc.oneof(fc.constantFrom(...VALUES), fc.string({ maxLength: 8 }));

const { tree } = fc.letrec<{ tree: string }>((tie) => ({
  tree: fc
    .record({
      name: fc.constantFrom(...NAMES),
      attributes: fc.array(fc.tuple(fc.constantFrom(...ATTRIBUTES), text), { maxLength: 3 }),
      children: fc.array(fc.oneof({ depthSize: 'small' }, text, tie('tree')), { maxLength: 5 }),
    })
    .map(({ name, attributes, children }) => {
      const words = attributes.map(([key, value]) => ` ${key}='${value}'`).join('');
      return `<${name}${words}>${children.join('')}</${name}>`;
    }),
}));

/** A document that is right but for what was put somewhere into it. */
const MINIMAL = `<domain type='kvm'><name>a</name><memory>131072</memory><os><type>hvm</type><kernel>/k</kernel></os><devices></devices></domain>`;
const document = fc.oneof(
  tree.map((inside) => `<domain type='kvm'>${inside}</domain>`),
  fc
    .tuple(fc.nat(MINIMAL.length), fc.nat(20), fc.oneof(tree, text))
    .map(([at, cut, inside]) => MINIMAL.slice(0, at) + inside + MINIMAL.slice(at + cut)),
  fc
    .array(tree, { maxLength: 4 })
    .map((inside) => MINIMAL.replace('<devices>', `<devices>${inside.join('')}`)),
);

test('a document is understood or refused as libvirt refuses it', { timeout: FUZZ_TIMEOUT_MS }, () => {
  fc.assert(
    fc.property(document, (xml) => {
      const read = cleanly([LibvirtError, ConfigError], () => readDomainXml(xml));
      if (read) expect(typeof read.name).toBe('string');
    }),
    { ...fuzzing, numRuns: 3 * fuzzing.numRuns },
  );
});

test.each([
  ['nesting', '<domain>'.repeat(400_000)],
  ['elements', `<domain>${'<a/>'.repeat(800_000)}</domain>`],
  ['attributes', `<domain ${Array.from({ length: 200_000 }, (_, i) => `a${i}=''`).join(' ')}/>`],
  ['text', `<domain>${'x'.repeat(3_900_000)}</domain>`],
  ['entities', `<!DOCTYPE d [<!ENTITY a "${'b'.repeat(1000)}">]><domain>${'&a;'.repeat(100_000)}</domain>`],
  ['comments', `<domain>${'<!-- -->'.repeat(100_000)}</domain>`],
  ['references', `<domain>${'&#120;'.repeat(100_000)}</domain>`],
])('a document with very much of %s is refused in bounded memory and time', (_, xml) => {
  const before = process.memoryUsage().heapUsed;
  expect(() => readDomainXml(xml)).toThrow(LibvirtError);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(500 << 20);
});
