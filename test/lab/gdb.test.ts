/** A stock kernel under Debian's gdb, which runs beside the lab. */
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Lab } from '../../scripts/lab/lab.mjs';
import { Gdb } from '../kvm/gdbClient.ts';
import { temporaryFolder } from '../kvm/support.ts';
import { api, guestFiles, sharedLab, VmmSession } from './harness.ts';

const IN_LAB = '/run/gdb.sock';

/** A socket of this machine whose connections are ones to a socket in the lab. */
function tunnel(lab: Lab): string {
  const file = path.join(temporaryFolder(), 'gdb.sock');
  const server = net.createServer((socket) => {
    const job = lab.start({
      command: ['socat', '-', `UNIX-CONNECT:${IN_LAB}`],
      onStdout: (bytes) => {
        socket.write(bytes);
      },
      onStderr: () => {},
    });
    socket.on('data', (bytes) => job.write(bytes));
    socket.on('error', () => {}).on('close', () => job.kill(9));
    job.exited.then(
      () => socket.destroy(),
      () => socket.destroy(),
    );
  });
  server.listen(file);
  onTestFinished(() => {
    server.close();
  });
  return file;
}

test('gdb stops a stock kernel, looks at its memory and registers, and lets it go', async () => {
  const lab = await sharedLab();
  const vm = new VmmSession(lab, [
    ...['--kernel', guestFiles.vmlinux, '--initramfs', guestFiles.initramfs],
    ...['--cmdline', 'console=ttyS0 quiet', '--cpus', 'boot=2', '--memory', 'size=256M'],
    ...['--serial', 'tty', '--console', 'off', '--api-socket', '/run/gdb-api.sock'],
    ...['--gdb', `path=${IN_LAB}`],
  ]);
  const state = async () => {
    const { body } = await api(lab, '/run/gdb-api.sock', 'GET', 'vm.info');
    return (body as { state: string }).state;
  };
  await expect.poll(() => state().catch(() => ''), { timeout: 60_000 }).toBe('BreakPoint');
  const gdb = await Gdb.on(tunnel(lab));
  gdb.say('continue');
  await vm.expect('is up: 2 vCPU');
  await vm.type("grep -E ' (linux_banner)$' /proc/kallsyms; echo symbols-''end");
  await vm.expect('symbols-end\r\n');
  const addressOf = (name: string) =>
    `0x${new RegExp(`([0-9a-f]{16}) \\w ${name}\\r`).exec(vm.text)?.[1] ?? 'none'}`;

  gdb.interrupt();
  await gdb.waitFor('SIGINT');
  expect(await state()).toBe('BreakPoint');
  gdb.say(`x/s ${addressOf('linux_banner')}`, 'echo shown\\n');
  expect(await gdb.waitFor('shown')).toContain('Linux version ');

  expect(await gdb.print('/x $cr0 & 0x80000001')).toBe('0x80000001');
  gdb.say('detach', 'echo gone\\n');
  await gdb.waitFor('gone');
  await vm.type('poweroff -f');
  expect(await vm.exitCode()).toBe(0);
});
