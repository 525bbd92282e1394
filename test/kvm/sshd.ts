/** An SSH server for the user who runs the test, and that user's one key. */
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { freePort } from './freePort.ts';
import { temporaryFolder, until } from './support.ts';

export interface SshHost {
  /** `user@address:port`. */
  readonly authority: string;
  /** The file of that user's key. */
  readonly key: string;
  /** Parameters of a URI by which a client comes in. */
  readonly parameters: string;
}

export async function sshd(): Promise<SshHost> {
  const folder = temporaryFolder();
  const file = (name: string) => path.join(folder, name);
  for (const name of ['host', 'client']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file(name)], { stdio: 'pipe' });
  }
  const port = await freePort();
  const lines = [
    ...[`Port ${port}`, 'ListenAddress 127.0.0.1', `HostKey ${file('host')}`, `PidFile ${file('pid')}`],
    ...[`AuthorizedKeysFile ${file('client.pub')}`, 'StrictModes no', 'UsePAM no', 'PermitRootLogin yes'],
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
  return {
    authority: `${os.userInfo().username}@127.0.0.1:${port}`,
    key: file('client'),
    parameters: `keyfile=${file('client')}&known_hosts=${file('known')}&known_hosts_verify=auto&no_tty=1`,
  };
}
