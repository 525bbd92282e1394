/** The library's client of libvirt's protocol over TLS and SSH, with `tsvmmd` and with Debian's `libvirtd`. */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { connect, type LibvirtConnection, LibvirtError } from '../../src/libvirt.ts';
import { Authority } from './certificates.ts';
import { Daemon } from './daemon.ts';
import { freePort } from './freePort.ts';
import { Libvirtd } from './libvirtd.ts';
import { sshd } from './sshd.ts';
import { settles, temporaryFolder } from './support.ts';

async function opened(uri: string): Promise<LibvirtConnection> {
  const connection = await connect(uri);
  onTestFinished(() => connection.close());
  return connection;
}

async function refusal(uri: string): Promise<LibvirtError> {
  const error = await connect(uri).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LibvirtError);
  return error as LibvirtError;
}

test('TLS to tsvmmd: both sides show certificates, and each of them counts', async () => {
  const authority = new Authority(temporaryFolder());
  authority.server();
  const alice = authority.client('/O=Example/CN=alice');
  const bob = authority.client('/O=Example/CN=bob');
  const daemon = new Daemon();
  // The certificate is for 127.0.0.1 and localhost.
  const port = await freePort();
  const tls = ['--listen-tls', `0.0.0.0:${port}`, '--tls-dir', authority.folder];
  await daemon.start(['--pool', '0', ...tls, '--tls-allowed-dn', '*CN=alice']);
  const uri = (host: string, folder: string) => `tsvmm+tls://${host}:${port}/system?pkipath=${folder}`;
  const connection = await opened(uri('localhost', alice));
  expect(connection.secure).toBe(true);
  expect(await connection.listDomains()).toEqual([]);
  expect(await (await opened(uri('127.0.0.1', alice))).type()).toBe('TSVMM');
  expect((await refusal(uri('127.0.0.2', alice))).message).toMatch(
    /IP: 127\.0\.0\.2 is not in the cert's list/,
  );
  expect(await (await opened(`${uri('127.0.0.2', alice)}&no_verify=1`)).type()).toBe('TSVMM');
  // Of the authority, but not on the list.
  expect(await refusal(uri('localhost', bob))).toMatchObject({
    code: 45,
    message: 'authentication failed: server verification (of our certificate or IP address) failed',
  });
  const nobody = path.join(temporaryFolder());
  expect((await refusal(uri('localhost', nobody))).message).toMatch(
    /^Cannot read CA certificate '.*cacert.pem'/,
  );
  fs.copyFileSync(path.join(authority.folder, 'cacert.pem'), path.join(nobody, 'cacert.pem'));
  expect(await refusal(uri('localhost', nobody))).toBeInstanceOf(LibvirtError);
  // One side's authority is not the other's.
  const stranger = new Authority(temporaryFolder(), 'another');
  const mallory = stranger.client('/O=Example/CN=alice');
  fs.copyFileSync(path.join(authority.folder, 'cacert.pem'), path.join(mallory, 'cacert.pem'));
  expect(await refusal(uri('localhost', mallory))).toBeInstanceOf(LibvirtError);
  fs.copyFileSync(path.join(stranger.folder, 'cacert.pem'), path.join(alice, 'cacert.pem'));
  expect((await refusal(uri('localhost', alice))).message).toMatch(
    /unable to verify|unable to get|self-signed/,
  );
});

test("TLS to Debian's libvirtd", async () => {
  const authority = new Authority(temporaryFolder());
  authority.server();
  const alice = authority.client('/O=Example/CN=alice');
  const files = temporaryFolder();
  fs.chmodSync(files, 0o755);
  for (const name of ['cacert.pem', 'servercert.pem', 'serverkey.pem']) {
    fs.copyFileSync(path.join(authority.folder, name), path.join(files, name));
    fs.chmodSync(path.join(files, name), 0o644);
  }
  const libvirtd = new Libvirtd();
  const port = await freePort();
  await libvirtd.start(
    [
      ...['listen_tls = 1', `tls_port = "${port}"`, 'listen_addr = "127.0.0.1"', 'auth_tls = "none"'],
      ...[`ca_file = "${files}/cacert.pem"`, `cert_file = "${files}/servercert.pem"`],
      `key_file = "${files}/serverkey.pem"`,
    ],
    ['--listen'],
  );
  // Its UNIX socket, which was waited for, is there first.
  await settles(async () => {
    const probe = net.connect(port, '127.0.0.1');
    await once(probe, 'connect');
    probe.destroy();
  });
  const connection = await opened(`test+tls://localhost:${port}/default?pkipath=${alice}`);
  expect((await connection.listDomains()).map(({ name }) => name)).toEqual(['test']);
  const stranger = new Authority(temporaryFolder()).client('/O=Example/CN=alice');
  expect(await refusal(`test+tls://localhost:${port}/default?pkipath=${stranger}`)).toBeInstanceOf(
    LibvirtError,
  );
});

test('SSH, through what the client runs at its other end', async () => {
  const daemon = new Daemon();
  await daemon.start();
  const { authority, parameters } = await sshd();
  const uri = (more: string) => `tsvmm+ssh://${authority}/system?${parameters}&${more}`;
  const socket = `${daemon.dir}/virttsvmmd-sock`;
  const connection = await opened(uri(`socket=${socket}`));
  expect(connection.secure).toBe(true);
  expect(await connection.type()).toBe('TSVMM');
  const libvirtd = new Libvirtd();
  await libvirtd.start();
  const theirs = await opened(
    `test+ssh://${authority}/default?${parameters}&socket=${libvirtd.socket}&proxy=netcat`,
  );
  expect((await theirs.listDomains()).map(({ name }) => name)).toEqual(['test']);
  // What is printed there is the reason.
  expect((await refusal(uri('socket=/nonexistent/socket'))).message).toMatch(/No such file or directory/);
  expect((await refusal(uri('proxy=native&name=odd%3A%2F%2F%2Fsystem'))).message).toMatch(
    /^End of file while reading data: .*(virt-ssh-helper|socket)/s,
  );
  expect((await refusal(uri('command=/nonexistent/ssh'))).message).toMatch(/Cannot run '\/nonexistent\/ssh'/);
  const relay = path.join(temporaryFolder(), 'relay');
  fs.writeFileSync(relay, `#!/bin/sh\nexec nc -U ${socket}\n`, { mode: 0o755 });
  expect(await (await opened(`tsvmm+ext:///system?command=${relay}`)).type()).toBe('TSVMM');
});
