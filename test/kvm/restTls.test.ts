/** The REST API on a TCP port: for clients with a certificate of the authority, and for nobody else. */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Authority } from './certificates.ts';
import { freePort } from './freePort.ts';
import { type RawClient, rawClient } from './rawClient.ts';
import {
  openDescriptors,
  PAYLOAD,
  RUNTIMES,
  type Runtime,
  settles,
  Tsvmm,
  temporaryFolder,
  until,
} from './support.ts';

let authority: Authority;
let alice: string;
let bob: string;
let revoked: string;
let stranger: string;

beforeAll(() => {
  const folder = fs.mkdtempSync('/tmp/tsvmm-tls-');
  authority = new Authority(folder);
  authority.server();
  alice = authority.client('/O=Example, Inc/CN=alice');
  bob = authority.client('/O=Example, Inc/CN=bob');
  revoked = authority.client('/O=Example, Inc/CN=alice2');
  authority.revoke(revoked);
  stranger = new Authority(fs.mkdtempSync(path.join(folder, 'other-'))).client('/O=Example, Inc/CN=alice');
  return () => fs.rmSync(folder, { recursive: true });
});

type Connected = RawClient<tls.TLSSocket>;

/** @param folder of its certificate; none for a client without */
function client(port: number, folder?: string, of = authority): Connected {
  const read = (name: string) => fs.readFileSync(path.join(folder as string, name));
  const identity = folder === undefined ? {} : { cert: read('clientcert.pem'), key: read('clientkey.pem') };
  const ca = fs.readFileSync(path.join(of.folder, 'cacert.pem'));
  return rawClient(tls.connect({ port, host: '127.0.0.1', servername: 'localhost', ca, ...identity }));
}

async function serving(
  runtime: Runtime,
  more = '',
  { folder } = authority,
): Promise<{ vmm: Tsvmm; port: number }> {
  const port = await freePort();
  const api = ['--api-socket', path.join(temporaryFolder(), 'api')];
  const options = `address=127.0.0.1:${port},dir=${folder}${more}`;
  const vmm = new Tsvmm([...api, '--api-tls', options, '--api-strict'], { runtime });
  await vmm.ready();
  return { vmm, port };
}

const request = (method: string, name: string, body = '') =>
  `${method} /api/v1/${name} HTTP/1.1\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

/** Answers by now. */
const statuses = (one: Connected) =>
  [...one.text().matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => status);

async function asked(one: Connected, text: string): Promise<string | undefined> {
  const count = statuses(one).length;
  one.socket.write(text);
  await until(
    () => statuses(one).length > count,
    () => `no answer but ${one.text()}`,
  );
  return statuses(one).at(-1);
}

async function quit(vmm: Tsvmm): Promise<void> {
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
}

test('what is said of clients that are refused goes where the log goes', async () => {
  const port = await freePort();
  const folder = temporaryFolder();
  const log = path.join(folder, 'log');
  const tlsOptions = `address=127.0.0.1:${port},dir=${authority.folder}`;
  const api = ['--api-socket', path.join(folder, 'api')];
  const vmm = new Tsvmm([...api, '--api-tls', tlsOptions, '--log-file', log]);
  await vmm.ready();
  const one = client(port);
  await until(
    () => one.isClosed(),
    () => 'a client without a certificate is still there',
  );
  await settles(() =>
    expect(fs.readFileSync(log, 'utf8')).toMatch(/warning: the TLS client .* was refused: /),
  );
  await quit(vmm);
  expect(vmm.stderr).toBe('');
});

describe.each(RUNTIMES)('%s', (runtime) => {
  test('a client with a certificate has the whole API, in order and at once', async () => {
    const { vmm, port } = await serving(runtime);
    const one = client(port, bob);
    const config = {
      payload: { kernel: PAYLOAD, cmdline: `run=idle ${' '.repeat(1 << 20)}` },
      serial: { mode: 'Null' },
      console: { mode: 'Off' },
    };
    // A body of several windows.
    expect(await asked(one, request('PUT', 'vm.create', JSON.stringify(config)))).toBe('204');
    expect(await asked(one, request('PUT', 'vm.delete'))).toBe('204');
    const small = { ...config, payload: { kernel: PAYLOAD, cmdline: 'run=idle' } };
    expect(await asked(one, request('PUT', 'vm.create', JSON.stringify(small)))).toBe('204');
    expect(await asked(one, request('PUT', 'vm.boot'))).toBe('204');
    const before = statuses(one).length;
    // Split anywhere, and several in one go.
    const text = request('GET', 'vm.info') + request('PUT', 'vm.boot') + request('GET', 'vmm.ping');
    for (let at = 0; at < text.length; at += 7) one.socket.write(text.slice(at, at + 7));
    await until(
      () => statuses(one).length === before + 3,
      () => one.text(),
    );
    expect(statuses(one).slice(before)).toEqual(['200', '409', '200']);
    expect((await vmm.api('GET', 'vm.info')).json.state).toBe('Running');
    // A long answer, whose reader takes its time.
    one.socket.pause();
    const many = client(port, alice);
    many.socket.write(request('GET', 'vm.info').repeat(500));
    one.socket.write(request('GET', 'openapi.json').repeat(50));
    await until(
      () => statuses(many).length === 500,
      () => `${statuses(many).length} answers`,
    );
    one.socket.resume();
    await until(
      () => statuses(one).length === before + 53,
      () => `${statuses(one).length} answers`,
    );
    await quit(vmm);
    expect(vmm.stderr).toBe('');
    await settles(() => expect(one.isClosed()).toBe(true));
  });

  test('a client that has ended its side is answered, and then gone', async () => {
    const { vmm, port } = await serving(runtime);
    const one = client(port, alice);
    one.socket.end(request('GET', 'vmm.ping') + request('GET', 'vmm.ping'));
    await settles(() => expect(one.isClosed()).toBe(true));
    expect(statuses(one)).toEqual(['200', '200']);
    const silent = client(port, alice);
    silent.socket.once('secureConnect', () => silent.socket.end());
    await settles(() => expect(silent.isClosed()).toBe(true));
    await quit(vmm);
  });

  test('nobody else has', async () => {
    const { vmm, port } = await serving(runtime, ',allowed_dn=["O=Example\\, Inc,CN=al*"]');
    expect(await asked(client(port, alice), request('GET', 'vmm.ping'))).toBe('200');
    for (const folder of [undefined, bob, revoked, stranger]) {
      const one = client(port, folder);
      one.socket.write(request('PUT', 'vmm.shutdown'));
      await settles(() => expect(one.isClosed()).toBe(true));
      expect(one.text()).toBe('');
    }
    const plain = net.connect(port, '127.0.0.1');
    plain.write(request('PUT', 'vmm.shutdown'));
    let said = '';
    plain.on('data', (bytes) => {
      said += bytes.toString('latin1');
    });
    await new Promise((resolve) => plain.on('close', resolve).on('error', () => {}));
    expect(said).not.toContain('HTTP');
    expect((await vmm.api('GET', 'vmm.ping')).status).toBe(200);
    expect(vmm.stderr).toMatch(/warning: the TLS client 127\.0\.0\.1:\d+ was refused: /);
    await quit(vmm);
  });

  test('clients that never finish a handshake, or say nothing after it, lock nobody out', async () => {
    const { vmm, port } = await serving(runtime);
    const before = openDescriptors(vmm.pid);
    const mute = Array.from({ length: 300 }, () => net.connect(port, '127.0.0.1').on('error', () => {}));
    onTestFinished(() => {
      for (const one of mute) one.destroy();
    });
    const silent = Array.from({ length: 20 }, () => client(port, alice));
    await settles(async () => expect(await asked(client(port, bob), request('GET', 'vmm.ping'))).toBe('200'));
    for (const one of silent) one.socket.destroy();
    for (const one of mute) one.destroy();
    await settles(() => expect(openDescriptors(vmm.pid)).toBeLessThanOrEqual(before + 5));
    await quit(vmm);
  });

  test('renewed certificates are used for the next client, and unusable ones change nothing', async () => {
    const own = new Authority(temporaryFolder());
    own.server();
    const [first, second] = ['carol', 'dave'].map((name) => own.client(`/O=Example/CN=${name}`));
    const { vmm, port } = await serving(runtime, '', own);
    const early = client(port, first, own);
    expect(await asked(early, request('GET', 'vmm.ping'))).toBe('200');
    const serial = () => early.socket.getPeerCertificate().serialNumber;
    const before = serial();
    own.server();
    own.revoke(first as string);
    const refused = async () => {
      const one = client(port, first, own);
      one.socket.write(request('GET', 'vmm.ping'));
      await until(
        () => one.isClosed() || statuses(one).length > 0,
        () => 'neither answered nor refused',
      );
      return one.isClosed();
    };
    await settles(async () => expect(await refused()).toBe(true));
    const late = client(port, second, own);
    expect(await asked(late, request('GET', 'vmm.ping'))).toBe('200');
    expect(late.socket.getPeerCertificate().serialNumber).not.toBe(before);
    // Who is there stays.
    expect(await asked(early, request('GET', 'vmm.ping'))).toBe('200');

    fs.writeFileSync(path.join(own.folder, 'serverkey.pem'), 'no key');
    await vmm.waitFor(/certificates in .* cannot be used: .*; those from before are used/, () => vmm.stderr);
    expect(await asked(client(port, second, own), request('GET', 'vmm.ping'))).toBe('200');
    await quit(vmm);
  });

  test('a port that is taken, and certificates that cannot be used, are said', async () => {
    const { vmm, port } = await serving(runtime);
    const second = new Tsvmm(['--api-tls', `address=127.0.0.1:${port},dir=${authority.folder}`], { runtime });
    expect(await second.exit()).toEqual({ code: 1, signal: null });
    expect(second.stderr).toContain(`Cannot serve the API with TLS on 127.0.0.1:${port}: `);
    const empty = temporaryFolder();
    const third = new Tsvmm(['--api-tls', `address=127.0.0.1:0,dir=${empty}`], { runtime });
    expect(await third.exit()).toEqual({ code: 1, signal: null });
    expect(third.stderr).toContain('cacert.pem');
    await quit(vmm);
  });
});
