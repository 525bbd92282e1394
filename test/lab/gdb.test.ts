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

/** Lets the guest go on until it opens `name`, which is in the second argument of the function at the breakpoint. */
async function untilItOpens(gdb: Gdb, name: string): Promise<void> {
  for (;;) {
    gdb.say('continue');
    await gdb.waitFor(/Breakpoint \d+, /);
    gdb.say('x/s $rsi', 'echo shown\\n');
    if ((await gdb.waitFor('shown')).includes(`"${name}"`)) return;
  }
}

test('breakpoints, registers, memory, steps and watchpoints of a stock kernel', async () => {
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
  await vm.type("grep -E ' (do_sys_openat2|linux_banner|jiffies)$' /proc/kallsyms; echo symbols-end");
  await vm.expect('symbols-end\r\n');
  const addressOf = (name: string) =>
    `0x${new RegExp(`([0-9a-f]{16}) \\w ${name}\\r`).exec(vm.text)?.[1] ?? 'none'}`;

  await vm.type('(while :; do cat /no/such/file 2>/dev/null; usleep 100000; done) & echo looping');
  await vm.expect('looping\r\n');
  gdb.interrupt();
  await gdb.waitFor('SIGINT');
  expect(await state()).toBe('BreakPoint');
  gdb.say(`x/s ${addressOf('linux_banner')}`, 'echo shown\\n');
  expect(await gdb.waitFor('shown')).toContain('Linux version ');

  const open = addressOf('do_sys_openat2');
  for (const kind of ['hbreak', 'break']) {
    gdb.say(`${kind} *${open}`);
    await untilItOpens(gdb, '/no/such/file');
    expect(await gdb.print('/x $pc')).toBe(open);
    expect(await gdb.print('/x $cs')).toBe('0x10');
    expect(await gdb.print('/x $cr0 & 0x80000001')).toBe('0x80000001');
    gdb.say('stepi', 'stepi', 'echo stepped\\n');
    await gdb.waitFor('stepped');
    const offset = BigInt(await gdb.print('/x $pc')) - BigInt(open);
    expect(offset > 0n && offset < 64n, `at ${offset}`).toBe(true);
    gdb.say('delete');
  }

  const before = BigInt(await gdb.print(`*(unsigned long*)${addressOf('jiffies')}`));
  gdb.say(`watch *(unsigned long*)${addressOf('jiffies')}`, 'continue');
  await gdb.waitFor(/Hardware watchpoint \d+: [\s\S]*New value/);
  expect(BigInt(await gdb.print(`*(unsigned long*)${addressOf('jiffies')}`))).toBeGreaterThan(before);
  gdb.say('delete', 'detach');
  await vm.type('poweroff -f');
  expect(await vm.exitCode()).toBe(0);
});
