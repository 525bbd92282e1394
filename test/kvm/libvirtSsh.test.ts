/** Debian's own `virsh` against `tsvmmd` at the other end of an SSH connection, with an sshd of the test's. */
import { expect, test } from 'vitest';
import { sshd } from './sshd.ts';
import { documentFile, host, run } from './virsh.ts';

test('clients come by SSH, through what they run at its other end', async () => {
  const { daemon, folder, virsh } = await host();
  const { authority, key } = await sshd();
  const uri = (more: string) =>
    `tsvmm+ssh://${authority}/system?keyfile=${key}&no_verify=1&no_tty=1&known_hosts=/dev/null&${more}`;
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
