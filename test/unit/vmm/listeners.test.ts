/** Listeners that throw: the exception is uncaught, and everything else is as if they had not. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { VirtualMachine } from '../../../src/index.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

let folder: string;
let kernel: string;
let native: FakeNative;
let uncaught: string[];
let others: NodeJS.UncaughtExceptionListener[];
const onUncaught = (error: Error) => uncaught.push(error.message);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  kernel = join(folder, 'kernel');
  native = fakeNative(folder);
  writeFileSync(kernel, makeElf());
  uncaught = [];
  others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException').on('uncaughtException', onUncaught);
});

afterEach(() => {
  process.off('uncaughtException', onUncaught);
  for (const listener of others) process.on('uncaughtException', listener);
  rmSync(folder, { recursive: true });
});

it.each([
  'booted',
  'paused',
  'resumed',
  'rebooted',
  'shutdown',
  'exit',
  'warning',
  'panic',
  'event',
] as const)('of %s', async (name) => {
  const vm = await VirtualMachine.create({ kernel }, { native });
  const states: string[] = [];
  vm.on(name, () => {
    states.push(vm.state);
    throw new Error(`from a listener of ${name}`);
  });
  // Who listens to everything hears of everything, too.
  const events: string[] = [];
  if (name !== 'event') vm.on('event', ({ event }) => events.push(event));

  await vm.boot();
  expect(vm.state).toBe('running');
  await expect(vm.boot()).rejects.toThrow('The VM could not boot');
  native.machines[0]?.emit({ type: 'device-failed', id: '_disk0', reason: 'bad ring' });
  native.machines[0]?.emit({ type: 'guest-panic', event: 'panic' });
  await vm.pause();
  expect(vm.state).toBe('paused');
  await vm.resume();
  expect(vm.state).toBe('running');
  await vm.reboot();
  native.machines[1]?.emit({ type: 'reset', cause: 'triple-fault' });
  await expect.poll(() => native.machines.length).toBe(3);
  await vm.shutdown();
  expect(vm.state).toBe('created');
  await vm.boot();
  await vm.close();
  await vm.close();
  expect(await vm.exited).toEqual({ reason: 'request', code: 0 });
  expect(native.machines.map(({ calls }) => calls.at(-1))).toEqual(Array(4).fill('destroy'));

  const heard: Record<string, string[]> = {
    booted: ['running', 'running'],
    paused: ['paused'],
    resumed: ['running'],
    rebooted: ['running', 'running'],
    shutdown: ['created', 'created'],
    exit: ['none'],
    warning: ['running', 'running'],
    panic: ['running'],
  };
  if (name in heard) expect(states).toEqual(heard[name]);
  await expect.poll(() => uncaught).toEqual(states.map(() => `from a listener of ${name}`));
  if (name !== 'event') {
    expect(
      events.filter((event) => !['booting', 'pausing', 'resuming', 'rebooting'].includes(event)),
    ).toEqual([
      ...['booted', 'failed', 'panic', 'paused', 'resumed', 'rebooted', 'reset', 'rebooted', 'shutdown'],
      ...['booted', 'shutdown', 'deleted', 'shutdown'],
    ]);
  }
});

it('of a front end: its events, warnings and notes', async () => {
  const fail = (): never => {
    throw new Error('from the front end');
  };
  const vmm = new Vmm({ native, onEvent: fail, onWarning: fail, onNote: fail });
  const { configFromOptions } = await import('../../../src/config/libraryOptions.ts');
  await vmm.create(configFromOptions({ kernel }));
  await vmm.boot();
  native.machines[0]?.emit({ type: 'device-failed', id: '_disk0', reason: 'bad ring' });
  await vmm.quit();
  expect(await vmm.exited).toEqual({ reason: 'request', code: 0 });
  // booting, booted, failed and its warning, shutdown, deleted, and the VMM's own end.
  await expect.poll(() => uncaught).toEqual(Array(7).fill('from the front end'));
});

it('of a front end that is warned of a guest that resets itself again and again', async () => {
  const onWarning = (): never => {
    throw new Error('from the front end');
  };
  const vmm = new Vmm({ native, onWarning });
  const { configFromOptions } = await import('../../../src/config/libraryOptions.ts');
  await vmm.create(configFromOptions({ kernel }));
  await vmm.boot();
  for (let resets = 1; resets <= 11; resets++) {
    native.machines.at(-1)?.emit({ type: 'reset', cause: 'acpi' });
    await expect.poll(() => [native.machines.length, vmm.state]).toEqual([resets + 1, 'running']);
  }
  expect(uncaught).toEqual(['from the front end']);
  await vmm.quit();
});

it('even if a machine cannot be ended, the VMM comes to its end', async () => {
  const vm = await VirtualMachine.create({ kernel }, { native });
  await vm.boot();
  native.machineDestroy = async () => {
    throw new Error('it does not end');
  };
  await expect(vm.close()).rejects.toThrow('it does not end');
  expect(await vm.exited).toEqual({
    reason: 'request',
    code: 1,
    message: 'The VM could not be ended in order: it does not end',
    incomplete: true,
  });
  expect(vm.state).toBe('none');
});
