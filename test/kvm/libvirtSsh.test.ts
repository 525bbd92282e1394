/** Debian's own `virsh` against `tsvmmd` at the other end of an SSH connection, with an sshd of the test's. */
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { temporaryFolder, until } from './support.ts';
import { documentFile, host, run } from './virsh.ts';

interface SshHost {
  readonly port: number;
  /** The client's key. */
  readonly key: string;
}

/** A server for this user, who has one key. */
async function sshd(): Promise<SshHost> {
  const folder = temporaryFolder();
  const file = (name: string) => path.join(folder, name);
  for (const name of ['host', 'client']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file(name)], { stdio: 'pipe' });
  }
  fs.copyFileSync(file('client.pub'), file('authorized_keys'));
  const port = await freePort();
  const lines = [
    ...[`Port ${port}`, 'ListenAddress 127.0.0.1', `HostKey ${file('host')}`, `PidFile ${file('pid')}`],
    ...[
      `AuthorizedKeysFile ${file('authorized_keys')}`,
      'StrictModes no',
      'UsePAM no',
      'PermitRootLogin yes',
    ],
    ...['PasswordAuthentication no', 'KbdInteractiveAuthentication no'],
  ];
  fs.writeFileSync(file('config'), `${lines.join('\n')}\n`);
  // sshd wants to be called by its whole path, and a folder of its own when it is root's.
  if (process.getuid?.() === 0) fs.mkdirSync('/run/sshd', { recursive: true });
  const server = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', file('config')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  onTestFinished(() => void server.kill('SIGTERM'));
  let said = '';
  server.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await until(
    () => said.includes('Server listening') || server.exitCode !== null,
    () => `sshd does not listen: ${said}`,
  );
  return { port, key: file('client') };
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test('clients come by SSH, through what they run at its other end', async () => {
  const { daemon, folder, virsh } = await host();
  const { port, key } = await sshd();
  const user = os.userInfo().username;
  const uri = (more: string) =>
    `tsvmm+ssh://${user}@127.0.0.1:${port}/system?keyfile=${key}&no_verify=1&no_tty=1&known_hosts=/dev/null&${more}`;
  const socket = `socket=${daemon.dir}/virttsvmmd-sock`;
  const ask = (more: string, ...words: string[]) => run('virsh', ['-c', uri(more), ...words]);
  expect(await ask(socket, 'define', documentFile(folder, 'one', 'run=idle'))).toMatchObject({ code: 0 });
  expect(await ask(socket, 'start', 'one')).toMatchObject({ code: 0 });
  expect((await ask(socket, 'list', '--name')).stdout.trim()).toBe('one');
  expect(await virsh('domstate', 'one')).toBe('running');
  // By the read-only socket.
  const refused = await ask(`${socket}-ro`, 'destroy', 'one');
  expect(refused.stderr).toMatch(/read only access prevents virDomainDestroy/);
  // Somebody without a key does not get as far as that.
  const stranger = await run('virsh', ['-c', uri(socket).replace(key, '/dev/null'), 'list']);
  expect(stranger.code).not.toBe(0);
  expect(stranger.stderr).toMatch(/Permission denied|failed to connect/);
});
