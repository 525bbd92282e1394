/** A guest under Debian's gdb, and under clients that no gdb would be. */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { expect, test } from 'vitest';
import { encodePacket } from '../../src/api/gdb/packets.ts';
import { Gdb } from './gdbClient.ts';
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

const HAS_AVX = /^flags.* avx /m.test(fs.readFileSync('/proc/cpuinfo', 'utf8'));

interface Debugged {
  readonly vmm: Tsvmm;
  readonly socket: string;
}

/** The payload with two vCPUs; it waits for a debugger. */
async function start(program: string, runtime: Runtime = 'standalone'): Promise<Debugged> {
  const folder = temporaryFolder();
  const socket = path.join(folder, 'gdb.sock');
  const vmm = new Tsvmm(
    [
      ...['--gdb', `path=${socket}`, '--api-socket', path.join(folder, 'api.sock')],
      ...['--kernel', PAYLOAD, '--cmdline', `run=${program}`, '--cpus', 'boot=2', '--memory', 'size=64M'],
      ...['--serial', 'tty', '--console', 'off'],
    ],
    { runtime },
  );
  await vmm.ready();
  await inState(vmm, 'BreakPoint');
  return { vmm, socket };
}

const inState = (vmm: Tsvmm, state: string) =>
  settles(async () => expect((await vmm.api('GET', 'vm.info')).json.state).toBe(state));

test.each(RUNTIMES)(
  '%s: gdb stops, looks, changes, steps and lets go',
  { timeout: 120_000 },
  async (runtime) => {
    const { vmm, socket } = await start('smp', runtime);
    expect(vmm.stdout).toBe('');
    const gdb = await Gdb.on(socket, PAYLOAD);
    gdb.say('info threads', 'echo listed\\n');
    expect(await gdb.waitFor('listed')).toMatch(/Thread 1 \(vCPU 0\)[\s\S]*Thread 2 \(vCPU 1\)/);
    expect(await gdb.print('/x $pc')).toBe(await gdb.print('/x (long)&start32'));
    expect(await gdb.print('/x $cs')).toBe('0x10');
    expect(await gdb.print('$efer')).toBe('0');

    // Ring 0 is emulated on this kind of host, where the emulator looks at breakpoints itself.
    gdb.say('hbreak enter_user', 'continue');
    await gdb.waitFor(/Breakpoint 1, enter_user/);
    await inState(vmm, 'BreakPoint');
    const before = BigInt(await gdb.print('/x $pc'));
    expect(await gdb.print('/x $efer & 0x500')).toBe('0x500'); // long mode
    gdb.say('stepi', 'echo stepped\\n');
    await gdb.waitFor('stepped');
    expect(BigInt(await gdb.print('/x $pc'))).toBe(before + 2n); // xorl %eax, %eax
    expect(await gdb.print('/x $rax')).toBe('0x0');
    gdb.say('set var $rdi = 0x1122334455667788', 'flushregs');
    expect(await gdb.print('/x $rdi')).toBe('0x1122334455667788');
    gdb.say('set var $xmm3.v2_int64[1] = -2', 'flushregs');
    expect(await gdb.print('/x $xmm3.v2_int64')).toBe('{0x0, 0xfffffffffffffffe}');
    if (HAS_AVX) {
      gdb.say('set var $ymm3.v4_int64[3] = -3', 'flushregs');
      expect(await gdb.print('/x $ymm3.v4_int64')).toBe('{0x0, 0xfffffffffffffffe, 0x0, 0xfffffffffffffffd}');
    }
    expect(await gdb.print('/x *(unsigned char*)enter_user@2')).toBe('{0x31, 0xc0}');
    gdb.say('print *(int*)0xffff800000000000', 'echo looked\\n');
    expect(await gdb.waitFor('looked')).toContain('Cannot access memory at address 0xffff800000000000');
    gdb.say('set var $rdi = 0', 'delete', 'detach', 'echo gone\\n');
    await gdb.waitFor('gone');
    await vmm.waitFor('ok smp-count');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(vmm.stdout).not.toContain('not ok');
    expect(fs.existsSync(socket)).toBe(false);
  },
);

test('a running guest is interrupted; the REST API goes on meanwhile', { timeout: 120_000 }, async () => {
  const { vmm, socket } = await start('spin');
  const gdb = await Gdb.on(socket, PAYLOAD);
  gdb.say('continue');
  await vmm.waitFor('...');
  await inState(vmm, 'Running');
  gdb.interrupt();
  await gdb.waitFor('SIGINT');
  await inState(vmm, 'BreakPoint');
  const { length } = vmm.stdout;
  expect(await gdb.print('$_thread')).toBe('1');
  expect(vmm.stdout.length).toBe(length);

  expect((await vmm.api('PUT', 'vm.resume')).text).toContain('A debugger has stopped the guest');
  expect((await vmm.api('PUT', 'vm.pause')).status).toBe(204);
  await inState(vmm, 'Paused');
  gdb.say('continue');
  expect((await vmm.api('PUT', 'vm.resume')).status).toBe(204);
  await until(
    () => vmm.stdout.length > length + 2,
    () => 'the guest does not go on',
  );
  gdb.interrupt();
  await gdb.waitFor('SIGINT');
  expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
  expect((await vmm.api('PUT', 'vm.shutdown')).status).toBe(204);
  await inState(vmm, 'Created');
  expect((await vmm.api('PUT', 'vm.boot')).status).toBe(204);
  await inState(vmm, 'BreakPoint');
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('a debugger that dies leaves the guest as it was, and the next one finds it', {
  timeout: 120_000,
}, async () => {
  const { vmm, socket } = await start('spin');
  const first = await Gdb.on(socket, PAYLOAD);
  first.kill();
  await inState(vmm, 'BreakPoint');
  const second = await Gdb.on(socket, PAYLOAD);
  second.say('continue');
  await vmm.waitFor('...');
  second.kill();
  const { length } = vmm.stdout;
  await until(
    () => vmm.stdout.length > length + 2,
    () => 'the guest does not go on',
  );
  await inState(vmm, 'Running');
  const third = await Gdb.on(socket, PAYLOAD);
  await inState(vmm, 'BreakPoint');
  third.kill();
  await settles(async () => {
    expect((await vmm.api('PUT', 'vm.resume')).status).toBe(204);
  });
  await inState(vmm, 'Running');
  const fourth = await Gdb.on(socket, PAYLOAD);
  fourth.say('kill');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('broken, greedy and silent clients are borne, one at a time', { timeout: 120_000 }, async () => {
  const { vmm, socket } = await start('spin');
  const silent = net.connect(socket);
  await inState(vmm, 'BreakPoint');
  const refused = net.connect(socket);
  await new Promise((resolve) => refused.on('close', resolve));
  silent.destroy();
  const before = openDescriptors(vmm.pid);
  const asked: Buffer[] = [
    Buffer.alloc(1 << 20, '$'),
    Buffer.from(`$${'x'.repeat(1 << 16)}`),
    Buffer.from('$g#00'.repeat(2000)),
    Buffer.concat(Array.from({ length: 300 }, () => Buffer.from(encodePacket('m0,2000')))),
    Buffer.from('-'.repeat(5000)),
    Buffer.from('\x03'.repeat(5000)),
  ];
  for (const bytes of asked) {
    await settles(async () => {
      const client = net.connect(socket);
      client.on('error', () => {});
      // A refused one is closed before it says anything.
      const answered = await new Promise<boolean>((resolve) => {
        client.on('data', () => resolve(true)).on('close', () => resolve(false));
        client.write(encodePacket('qAttached'));
      });
      if (!answered) throw new Error('not served yet');
      client.write(bytes);
      await new Promise((resolve) => setTimeout(resolve, 50));
      client.destroy();
    });
  }
  await settles(() => expect(openDescriptors(vmm.pid)).toBeLessThanOrEqual(before));
  const gdb = await Gdb.on(socket, PAYLOAD);
  expect(await gdb.print('/x $cs')).toMatch(/^0x/);
  gdb.say('detach');
  await vmm.waitFor('...');
  vmm.kill('SIGTERM');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(vmm.stderr).toBe('');
});
