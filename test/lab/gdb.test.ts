/** A stock kernel under Debian's gdb, which runs beside the lab. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { afterAll, beforeAll, expect, onTestFailed, type TestContext, test } from 'vitest';
import { type Lab, openLab } from '../../scripts/lab/lab.mjs';
import { ROOT } from '../../scripts/lib/paths.mjs';
import { Gdb } from '../kvm/gdbClient.ts';
import { temporaryFolder } from '../kvm/support.ts';
import { api, copyToLab, guestFiles, inLab, VmmSession } from './harness.ts';
import { tunnel } from './tunnel.ts';

const IN_LAB = '/run/gdb.sock';
const API = '/run/gdb-api.sock';
const PROMPT = 'guest# ';
const LAB_MEGABYTES = 1024;
const END_OF_OUTPUT = 2000;

/** More than the idle loop has between two. */
const MAX_STEPS = 40;

let lab: Lab;

beforeAll(async () => {
  lab = await openLab({ debugRegisters: true, megabytes: LAB_MEGABYTES });
});

afterAll(() => lab?.close());

type StopKind = 'break' | 'hbreak' | 'watch';

/**
 * Skips a test where the host's KVM does not tell its users of what it needs, as a program that uses nothing of this
 * project finds. Real processors tell all. QEMU's emulation of SVM (target/i386/tcg) takes a guest's `int3` for `int
 * 3`, which KVM does not intercept.
 */
async function needs(context: TestContext, wanted: readonly StopKind[]): Promise<void> {
  const program = path.join(temporaryFolder(), 'debugProbe');
  const source = path.join(ROOT, 'test/lab/debugProbe.c');
  execFileSync('gcc', ['-O1', '-Wall', '-Wextra', '-Werror', '-static', '-o', program, source]);
  const copy = await copyToLab(lab, program, '/run/debugProbe');
  const told = (await inLab(lab, `chmod +x ${copy} && ${copy}`)).trim().split('\n');
  const missing = wanted.filter((kind) => !told.includes(kind));
  if (missing.length === 0) return;
  const why = `the host's KVM does not report a guest's ${missing.join(', ')}`;
  console.log(`skipped: ${why}`);
  context.skip(why);
}

/** A guest with two vCPUs and a gdb at it, which looks at it before its first instruction. */
class DebuggedGuest {
  readonly vm: VmmSession;
  readonly gdb: Gdb;

  private constructor(vm: VmmSession, gdb: Gdb) {
    this.vm = vm;
    this.gdb = gdb;
  }

  static async start(cmdline = ''): Promise<DebuggedGuest> {
    const vm = new VmmSession(lab, [
      ...['--kernel', guestFiles.vmlinux, '--initramfs', guestFiles.initramfs],
      ...['--cmdline', `console=ttyS0 quiet ${cmdline}`, '--cpus', 'boot=2', '--memory', 'size=256M'],
      ...['--serial', 'tty', '--console', 'off', '--api-socket', API, '--gdb', `path=${IN_LAB}`],
    ]);
    const state = () => stateOfVm().catch(() => '');
    await expect.poll(state, { timeout: 60_000 }).toBe('BreakPoint');
    const gdb = await Gdb.on(tunnel(lab, IN_LAB));
    onTestFailed(() => console.error(`gdb said at the end:\n${gdb.output.slice(-END_OF_OUTPUT)}`));
    return new DebuggedGuest(vm, gdb);
  }

  async addressOf(name: string): Promise<string> {
    await this.vm.type(`grep -E ' ${name}$' /proc/kallsyms; echo symbols-''end`);
    await this.vm.expect('symbols-end\r\n');
    const found = new RegExp(`([0-9a-f]{16}) \\w ${name}\\r`).exec(this.vm.text);
    if (found === null) throw new Error(`the guest's kernel has no symbol ${name}`);
    return `0x${found[1]}`;
  }

  /** Types a line, whose end may not come before the guest goes on. */
  async type(line: string): Promise<void> {
    await this.vm.type(line, PROMPT);
  }

  /** Tells gdb something, and waits for it to be done. @returns what it said */
  async tell(...lines: string[]): Promise<string> {
    this.gdb.say(...lines, 'echo <told>\\n');
    return this.gdb.waitFor('<told>');
  }

  async detach(): Promise<void> {
    await this.tell('delete', 'detach');
  }

  async powerOff(): Promise<void> {
    await this.type('poweroff -f');
    expect(await this.vm.exitCode()).toBe(0);
  }
}

async function stateOfVm(): Promise<string> {
  const { body } = await api(lab, API, 'GET', 'vm.info');
  return (body as { state: string }).state;
}

/** Steps to an instruction that says where it jumps to, and over it. @returns whether it led there */
async function stepIntoJump(guest: DebuggedGuest): Promise<boolean> {
  for (let steps = 0; steps < MAX_STEPS; steps++) {
    const [, target] = /:\s+(?:call|jmp)q?\s+(0x[0-9a-f]+)/.exec(await guest.tell('x/i $pc')) ?? [];
    await guest.tell('stepi');
    if (target !== undefined) return (await guest.gdb.print('/x $pc')) === target;
  }
  throw new Error(`no jump within ${MAX_STEPS} steps:\n${guest.gdb.output}`);
}

test('gdb stops a stock kernel, looks at its memory and registers, steps, and lets it go', async () => {
  const guest = await DebuggedGuest.start();
  const { gdb, vm } = guest;
  gdb.say('continue');
  await vm.expect('is up: 2 vCPU');
  const banner = await guest.addressOf('linux_banner');

  gdb.interrupt();
  await gdb.waitFor('SIGINT');
  expect(await stateOfVm()).toBe('BreakPoint');
  expect(await guest.tell(`x/s ${banner}`)).toContain('Linux version ');

  expect(await gdb.print('/x $cr0 & 0x80000001')).toBe('0x80000001');
  expect(await stepIntoJump(guest)).toBe(true);
  expect(await stateOfVm()).toBe('BreakPoint');
  await guest.detach();
  await guest.powerOff();
});

test('gdb has breakpoints in a stock kernel, in its text and before there is any', async (context) => {
  await needs(context, ['break', 'hbreak']);
  const guest = await DebuggedGuest.start('nokaslr');
  const { gdb, vm } = guest;
  gdb.say('continue');
  await vm.expect('is up: 2 vCPU');
  const entry = await guest.addressOf('start_kernel');
  const call = await guest.addressOf('__x64_sys_sethostname');

  gdb.interrupt();
  await gdb.waitFor('SIGINT');
  await guest.tell(`break *${call}`);
  gdb.say('continue');
  // Of either vCPU.
  for (const [index, name] of ['one', 'two'].entries()) {
    await guest.type(`taskset ${index + 1} hostname ${name}`);
    await gdb.waitFor('Breakpoint 1, ');
    expect(await gdb.print('$_thread')).toBe(String(index + 1));
    expect(await gdb.print('/x $pc')).toBe(call);
    await guest.tell('stepi');
    expect(await gdb.print('/x $pc')).not.toBe(call);
    gdb.say('continue');
  }
  await guest.type("echo host-''is $(hostname)");
  await vm.expect('host-is two\r\n');

  // Again from the beginning, where nothing is mapped at the kernel's addresses yet.
  await guest.type('reboot -f');
  await gdb.waitFor('SIGTRAP');
  expect(await gdb.print('/x $cr0 & 0x80000000')).toBe('0x0');
  // Not before: a kernel that is up has filled this memory with 0xcc, which gdb takes for a breakpoint of its own.
  await guest.tell(`break *${entry}`);
  gdb.say('continue');
  await gdb.waitFor('Breakpoint 2, ');
  expect(await gdb.print('/x $pc')).toBe(entry);
  gdb.say('continue');
  // On the way the kernel tries an `int3` of its own.
  await vm.expect('is up: 2 vCPU');
  await guest.type('hostname three');
  await gdb.waitFor('Breakpoint 1, ');
  await guest.detach();
  await guest.powerOff();
});

test('gdb has the processor stop a stock kernel where it is, and what it writes', async (context) => {
  await needs(context, ['hbreak', 'watch']);
  const guest = await DebuggedGuest.start();
  const { gdb, vm } = guest;
  gdb.say('continue');
  await vm.expect('is up: 2 vCPU');
  const call = await guest.addressOf('__x64_sys_sethostname');
  const variable = await guest.addressOf('panic_timeout');

  gdb.interrupt();
  await gdb.waitFor('SIGINT');
  await guest.tell(`hbreak *${call}`, `watch *(int*)${variable}`);
  gdb.say('continue');
  for (const index of [0, 1]) {
    await guest.type(`taskset ${index + 1} hostname any; echo ${index + 7} >/proc/sys/kernel/panic`);
    await gdb.waitFor('Breakpoint 1, ');
    expect(await gdb.print('$_thread')).toBe(String(index + 1));
    expect(await gdb.print('/x $pc')).toBe(call);
    // pt_regs.ip: where the program is that has called, in memory that SMAP keeps from the kernel.
    expect(await guest.tell('x/2i *(long*)($rdi + 0x80)')).not.toContain('Cannot access memory');
    gdb.say('continue');
    await gdb.waitFor(`New value = ${index + 7}`);
    gdb.say('continue');
  }
  await guest.type("echo panic-''is $(cat /proc/sys/kernel/panic)");
  await vm.expect('panic-is 8\r\n');
  gdb.interrupt();
  await gdb.waitFor('SIGINT');
  await guest.detach();
  await guest.powerOff();
});
