/** What a VMM does for a debugger, and what the rest of it may do meanwhile. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { errorChain } from '../../../src/vmm/errors.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

const NO_TRAPS = { hardware: [], software: [] };

let folder: string;
let native: FakeNative;
let vmm: Vmm;
let heard: string[];
let attached: boolean;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  native = fakeNative(folder);
  writeFileSync(join(folder, 'kernel'), makeElf());
  heard = [];
  attached = false;
  vmm = new Vmm({ native, onEvent: ({ event }) => heard.push(`${event}: ${vmm.state}`) });
  vmm.debugger = {
    get attached() {
      return attached;
    },
    leave: async ({ native: addon }) => {
      heard.push(`leave: ${addon === native ? vmm.info().state : 'nobody'}`);
    },
    stopped: ({ cause }) => heard.push(`${cause}: ${vmm.info().state}`),
    started: () => heard.push('started'),
    ended: () => heard.push('ended'),
  };
});

afterEach(async () => {
  await vmm.quit();
  expect([...native.files.open]).toEqual([]);
  rmSync(folder, { recursive: true });
});

async function boot(gdb = true): Promise<void> {
  const payload = { kernel: join(folder, 'kernel') };
  await vmm.create(
    decode(vmConfig, { payload, console: { mode: 'Off' }, cpus: { boot_vcpus: 2, max_vcpus: 2 }, gdb }),
  );
  await vmm.boot();
}

it('a VM that asks for a debugger waits for it, and goes on as it says', async () => {
  await boot();
  expect(native.machines[0]?.boot?.held).toBe(true);
  expect(vmm.info().state).toBe('BreakPoint');
  expect(heard).toContain('started');
  await vmm.debugResume(NO_TRAPS, ['step', 'hold']);
  expect(vmm.info().state).toBe('Running');
  native.machines[0]?.emit({ type: 'debug-stop', vcpu: 0, cause: 'step', address: 1n });
  expect(heard).toContain('step: BreakPoint');
  await vmm.debugResume(NO_TRAPS);
  expect(native.debug.resumes).toEqual([
    [['step', 'hold'], NO_TRAPS],
    [['run', 'run'], NO_TRAPS],
  ]);
  await vmm.debugStop();
  expect(vmm.info().state).toBe('BreakPoint');
});

it('a guest that does not stop at its breakpoint runs, and is told to', async () => {
  await boot();
  await vmm.debugResume(NO_TRAPS);
  let told: string | undefined;
  vmm.watchInfo(() => {
    told = vmm.state;
  });
  native.machineDebugStop = async () => {
    native.machines[0]?.emit({ type: 'debug-stop', vcpu: 0, cause: 'breakpoint', address: 1n });
    told = undefined;
    throw new Error('vCPU 1 does not leave the guest');
  };
  await expect(vmm.debugStop()).rejects.toThrow('vCPU 1 does not leave the guest');
  expect(vmm.info().state).toBe('Running');
  // What was remembered meanwhile is not answered any more.
  expect(told).toBe('running');
});

it('one that does not starts at once', async () => {
  await boot(false);
  expect(native.machines[0]?.boot).not.toHaveProperty('held');
  expect(vmm.info().state).toBe('Running');
});

it('pause, resume and shutdown go on while the debugger has the guest', async () => {
  await boot();
  attached = true;
  await vmm.pause();
  expect(vmm.info().state).toBe('Paused');
  await vmm.resume();
  expect(vmm.info().state).toBe('BreakPoint');
  await expect(vmm.resume()).rejects.toMatchObject({
    message: expect.stringContaining('A debugger has stopped the guest, and is connected'),
  });
  await vmm.shutdown();
  expect(vmm.info().state).toBe('Created');
  expect(heard.at(-1)).toBe('shutdown: created');
  expect(heard).toContain('ended');
  await vmm.boot();
  expect(vmm.info().state).toBe('BreakPoint');
});

it('vm.resume lets a guest go that no debugger comes for any more', async () => {
  await boot();
  await vmm.resume();
  expect(heard).toContain('leave: BreakPoint');
  expect(native.debug.resumes).toEqual([[['run', 'run'], NO_TRAPS]]);
  expect(vmm.info().state).toBe('Running');
  expect(heard.at(-1)).toBe('resumed: running');
});

it('a guest that starts anew waits for a debugger that is there, and for no other', async () => {
  await boot();
  await vmm.resume();
  await vmm.reboot();
  expect(vmm.info().state).toBe('Running');
  attached = true;
  await vmm.reboot();
  expect(vmm.info().state).toBe('BreakPoint');
  expect(heard.filter((one) => one === 'started')).toHaveLength(2);
  expect(heard).not.toContain('ended');
});

it('a VMM without a place for debuggers refuses a VM that wants one', async () => {
  const other = new Vmm({ native });
  const payload = { kernel: join(folder, 'kernel') };
  await other.create(decode(vmConfig, { payload, console: { mode: 'Off' }, gdb: true }));
  const failure = await other.boot().catch((error) => error);
  expect(errorChain(failure).at(-1)).toBe('gdb needs a VMM that was started with --gdb path=SOCKET');
  expect(failure.kind).toBe('invalid');
  await other.quit();
});
