/** A stock kernel under Debian's gdb, which runs beside the lab. */
import { expect, test } from 'vitest';
import { Gdb } from '../kvm/gdbClient.ts';
import { api, guestFiles, sharedLab, VmmSession } from './harness.ts';
import { tunnel } from './tunnel.ts';

const IN_LAB = '/run/gdb.sock';

/** More than the idle loop has between two. */
const MAX_STEPS = 40;

/** Steps to an instruction that says where it jumps to, and over it. @returns whether it led there */
async function stepIntoJump(gdb: Gdb): Promise<boolean> {
  for (let steps = 0; steps < MAX_STEPS; steps++) {
    gdb.say('x/i $pc', 'echo shown\\n');
    const [, target] = /:\s+(?:call|jmp)q?\s+(0x[0-9a-f]+)/.exec(await gdb.waitFor('shown')) ?? [];
    gdb.say('stepi', 'echo stepped\\n');
    await gdb.waitFor('stepped');
    if (target !== undefined) return (await gdb.print('/x $pc')) === target;
  }
  throw new Error(`no jump within ${MAX_STEPS} steps:\n${gdb.output}`);
}

/**
 * Breakpoints are what the lab cannot show. QEMU's emulation of SVM (target/i386/tcg) takes a guest's `int3` for `int
 * 3`, which KVM does not intercept, and arms nothing by the DR7 that a guest is entered with.
 */
test('gdb stops a stock kernel, looks at its memory and registers, steps, and lets it go', async () => {
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
  const gdb = await Gdb.on(tunnel(lab, IN_LAB));
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
  expect(await stepIntoJump(gdb)).toBe(true);
  expect(await state()).toBe('BreakPoint');
  gdb.say('detach', 'echo gone\\n');
  await gdb.waitFor('gone');
  await vm.type('poweroff -f');
  expect(await vm.exitCode()).toBe(0);
});
