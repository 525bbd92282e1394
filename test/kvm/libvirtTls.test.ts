/** Debian's own `virsh` against `tsvmmd` over TLS, with an authority of the test's. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Authority } from './certificates.ts';
import { freePort } from './freePort.ts';
import { temporaryFolder, until } from './support.ts';
import { documentFile, type Host, host, type Ran, run } from './virsh.ts';

const REFUSED = /server verification \(of our certificate or IP address\) failed/;
const ALLOWED = ['C=DE,O=Example\\, Inc,CN=a*', 'CN=root?'];

interface TlsHost extends Host {
  readonly port: number;
  /** By a client's folder; words are virsh's. */
  from(client: string, ...words: string[]): Promise<Ran>;
}

async function tlsHost(authority: Authority, args: readonly string[] = []): Promise<TlsHost> {
  const port = await freePort();
  const started = await host(['--listen-tls', `127.0.0.1:${port}`, '--tls-dir', authority.folder, ...args]);
  // Nothing that a client would find wrong with its own certificate is in the way of what the server says.
  const from = (client: string, ...words: string[]) =>
    run('virsh', ['-c', `tsvmm+tls://localhost:${port}/system?pkipath=${client}&no_sanity=1`, ...words]);
  return { ...started, port, from };
}

const subjectAsLibvirtHasIt = (client: string) =>
  execFileSync('virt-pki-query-dn', [path.join(client, 'clientcert.pem')], { encoding: 'utf8' }).trim();

test('clients with a certificate of the authority come by TLS, if their subject is on the list', async () => {
  const authority = new Authority(temporaryFolder());
  authority.server();
  const alice = authority.client('/C=DE/O=Example, Inc/CN=alice');
  const bob = authority.client('/C=DE/O=Example, Inc/CN=bob');
  expect(ALLOWED).toContain(subjectAsLibvirtHasIt(alice).replace('alice', 'a*'));
  const { daemon, folder, from } = await tlsHost(
    authority,
    ALLOWED.flatMap((each) => ['--tls-allowed-dn', each]),
  );
  const definition = documentFile(folder, 'one', 'run=idle');
  expect(await from(alice, 'define', definition)).toMatchObject({ code: 0 });
  expect(await from(alice, 'start', 'one')).toMatchObject({ code: 0 });
  expect((await from(alice, 'list', '--name')).stdout.trim()).toBe('one');
  expect((await from(alice, 'uri')).stdout).toMatch(/^tsvmm\+tls:\/\/localhost/);
  expect((await from(alice, '-r', 'destroy', 'one')).stderr).toMatch(/error/);
  expect(await from(alice, 'destroy', 'one')).toMatchObject({ code: 0 });
  expect((await from(bob, 'list')).stderr).toMatch(REFUSED);
  await until(
    () => /subject is C=DE,O=Example\\, Inc,CN=bob, which is not on the list/.test(daemon.stderr),
    () => daemon.stderr,
  );
});

test('clients without a certificate, with one of another authority and with a revoked one are refused', async () => {
  const authority = new Authority(temporaryFolder());
  authority.server();
  const stranger = new Authority(temporaryFolder(), 'somebody else').client('/CN=alice');
  fs.copyFileSync(path.join(authority.folder, 'cacert.pem'), path.join(stranger, 'cacert.pem'));
  const nobody = temporaryFolder();
  fs.copyFileSync(path.join(authority.folder, 'cacert.pem'), path.join(nobody, 'cacert.pem'));
  const mallory = authority.client('/CN=mallory');
  authority.revoke(mallory);
  const alice = authority.client('/CN=alice');
  const { daemon, port, from } = await tlsHost(authority);
  for (const client of [stranger, nobody, mallory]) {
    const { code, stderr } = await from(client, 'list');
    expect(code, client).toBe(1);
    expect(stderr).toMatch(REFUSED);
  }
  // One line a second tells of them.
  expect(daemon.stderr).toMatch(/its certificate is not accepted|it has no certificate/);
  expect(await from(alice, 'list')).toMatchObject({ code: 0 });
  // Without any TLS a client is not heard.
  const plain = net.connect({ host: '127.0.0.1', port });
  onTestFinished(() => void plain.destroy());
  let answer = 0;
  plain.on('data', (bytes) => {
    answer += bytes.length;
  });
  const closed = new Promise((resolve) => plain.on('error', () => {}).once('close', resolve));
  plain.write(Buffer.from('0000001c200080860000000100000042000000000000000000000000', 'hex'));
  await closed;
  expect(answer).toBeLessThan(16);
});

test('certificates are read anew at SIGHUP, and those that cannot be used change nothing', async () => {
  const authority = new Authority(temporaryFolder());
  authority.server();
  const [alice, mallory] = [authority.client('/CN=alice'), authority.client('/CN=mallory')];
  const { daemon, from } = await tlsHost(authority);
  const told = (what: RegExp) =>
    until(
      () => what.test(daemon.stderr),
      () => daemon.stderr,
    );
  expect(await from(mallory, 'list')).toMatchObject({ code: 0 });
  authority.revoke(mallory);
  process.kill(daemon.pid, 'SIGHUP');
  await told(/was read anew/);
  expect((await from(mallory, 'list')).stderr).toMatch(REFUSED);
  expect(await from(alice, 'list')).toMatchObject({ code: 0 });
  fs.copyFileSync(path.join(alice, 'clientkey.pem'), path.join(authority.folder, 'serverkey.pem'));
  process.kill(daemon.pid, 'SIGHUP');
  await told(/nothing was read anew: The certificates in .* cannot be used/);
  expect((await from(mallory, 'list')).stderr).toMatch(REFUSED);
  expect(await from(alice, 'list')).toMatchObject({ code: 0 });
});

test('handshakes that are begun and left keep nobody out', async () => {
  const authority = new Authority(temporaryFolder());
  authority.server();
  const alice = authority.client('/CN=alice');
  const { port, from } = await tlsHost(authority);
  const silent = Array.from({ length: 300 }, () => net.connect({ host: '127.0.0.1', port }));
  onTestFinished(() => silent.forEach((socket) => void socket.destroy()));
  let closed = 0;
  for (const socket of silent) socket.on('error', () => {}).once('close', () => closed++);
  await until(
    () => closed >= 300 - 128,
    () => `${closed} were closed`,
  );
  expect(await from(alice, 'list')).toMatchObject({ code: 0 });
});

test('what TLS cannot be served with is said before anything is served', async () => {
  const { daemon } = await host();
  await daemon.kill('SIGTERM');
  await daemon.start(['--pool', '0', '--listen-tls', '127.0.0.1:0', '--tls-dir', temporaryFolder()]);
  expect(await daemon.exited).toBe(1);
  expect(daemon.stderr).toMatch(/cacert\.pem/);
  await daemon.start(['--pool', '0', '--listen-tls', '127.0.0.1:99999']);
  expect(await daemon.exited).toBe(2);
  expect(daemon.stderr).toMatch(/--listen-tls 127\.0\.0\.1:99999 is no ADDRESS\[:PORT\]/);
  await daemon.start(['--pool', '0', '--tls-allowed-dn', 'CN=*']);
  expect(await daemon.exited).toBe(2);
});
