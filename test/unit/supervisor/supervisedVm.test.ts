import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { StreamConnection } from '../../../src/host/listen.ts';
import { Child } from '../../../src/supervisor/children.ts';
import { readDefinition } from '../../../src/supervisor/definition.ts';
import type { DefinitionProblem } from '../../../src/supervisor/definitionStore.ts';
import { processesBelow, processOf } from '../../../src/supervisor/foundChild.ts';
import { identify } from '../../../src/supervisor/processIdentity.ts';
import { SupervisedVm } from '../../../src/supervisor/supervisedVm.ts';

interface Fake {
  readonly vm: SupervisedVm;
  readonly events: string[];
  /** Whether the VM went on when each event was told. */
  readonly states: string[];
  readonly processes: ChildProcess[];
  readonly children: Child[];
  /** Answers the start of the newest process, or lets it end. */
  up(): void;
  end(exit?: object): Promise<void>;
}

/** Nobody is at its other end. */
const connection: StreamConnection = {
  waiting: false,
  write: () => {},
  end: () => {},
  terminate: () => {},
  pause: () => {},
  resume: () => {},
  ref: () => {},
  unref: () => {},
};

/** VMs whose processes are `sleep`, and say what the test lets them say. They are there once `ready` is resolved. */
function fake(
  policy: object = {},
  ready: Promise<unknown> = Promise.resolve(),
  problem?: DefinitionProblem,
): Fake {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-supervised-'));
  const events: string[] = [];
  const states: string[] = [];
  const processes: ChildProcess[] = [];
  const children: Child[] = [];
  const vm = new SupervisedVm(
    { definition: readDefinition({ name: 'one', config: {}, policy }), ...(problem && { problem }) },
    {
      folder,
      runId: () => 1,
      startChild: async () => {
        await ready;
        const process = spawn('sleep', ['600'], { stdio: 'ignore' });
        processes.push(process);
        const child = new Child(identify(process.pid as number), connection);
        process.once('exit', () => child.lost());
        children.push(child);
        return child;
      },
      limit: () => undefined,
      wanted: () => false,
      reload: () => {},
      setWanted: (wanted) => events.push(`wanted ${wanted}`),
      report: ({ event, properties }) => {
        states.push(`${event}: ${vm.goesOn}`);
        events.push([event, properties?.reason].filter(Boolean).join(' '));
      },
    },
  );
  onTestFinished(() => {
    vm.detach();
    for (const process of processes) process.kill('SIGKILL');
    fs.rmSync(folder, { recursive: true, force: true });
  });
  return {
    vm,
    events,
    states,
    processes,
    children,
    up: () => children.at(-1)?.deliver({ ok: true, state: 'running' }),
    end: async (exit) => {
      if (exit) children.at(-1)?.deliver({ exit } as never);
      const last = processes.at(-1) as ChildProcess;
      const gone = new Promise((resolve) => last.once('exit', resolve));
      last.kill('SIGKILL');
      await gone;
    },
  };
}

async function started(policy: object = {}): Promise<Fake> {
  const one = fake(policy);
  const starting = one.vm.start();
  await vi.waitFor(() => expect(one.children).toHaveLength(1));
  one.up();
  await starting;
  return one;
}

test('a VM whose policy is broken while it runs is treated by the one that was read', async () => {
  const { vm, events, end } = await started({ restart: { when: 'Always' }, stop_timeout: 77 });
  const definition = readDefinition({ name: 'one', config: {} });
  vm.redefine({ definition, problem: { reason: 'cut off', config: false, policy: true } });
  expect(vm.stopTimeout).toBe(77);
  await end();
  await vi.waitFor(() => expect(events).toContain('restarting'));
  expect(events).not.toContain('wanted false');
});

test('nothing is done by a policy that could never be read', async () => {
  const problem = { reason: 'cut off', config: false, policy: true };
  const { vm } = fake({ restart: { when: 'Always' } }, undefined, problem);
  expect(() => vm.stopTimeout).toThrow(
    'The definition of the VM one is broken: cut off: say how many seconds a stop may take, or end it by force',
  );
  await expect(vm.restart(1)).rejects.toMatchObject({ kind: 'conflict' });
  await vm.stop(0, true);
});

test('a start is answered when the guest runs', async () => {
  const { vm, events, processes } = await started();
  expect(vm.describe()).toMatchObject({ name: 'one', state: 'running', pid: processes[0]?.pid, restarts: 0 });
  expect(events).toEqual(['wanted true', 'started']);
  await expect(vm.start()).rejects.toMatchObject({ kind: 'conflict', message: 'The VM one is running' });
});

test('a start that the process refuses is answered with its reason, once the process is gone', async () => {
  const one = fake();
  const starting = one.vm.start();
  starting.catch(() => {});
  await vi.waitFor(() => expect(one.children).toHaveLength(1));
  one.children[0]?.deliver({ ok: false, error: 'no such kernel' });
  await one.end();
  await expect(starting).rejects.toMatchObject({ cause: { message: 'no such kernel' } });
  expect(one.vm.describe()).toMatchObject({
    state: 'failed',
    error: 'no such kernel',
    last_exit: { reason: 'start-failed', code: 1, message: 'no such kernel' },
  });
});

test('a start takes no longer than its policy says', async () => {
  const one = fake({ start_timeout: 1 });
  await expect(one.vm.start()).rejects.toMatchObject({ cause: { message: 'It was not up after 1 s' } });
  await vi.waitFor(() => expect(one.vm.state).toBe('failed'));
  expect(one.processes[0]?.signalCode).toBe('SIGKILL');
});

test('a guest that powers off is a VM that has stopped', async () => {
  const one = await started({ restart: { when: 'OnFailure' } });
  await one.end({ reason: 'power-off', code: 0 });
  await vi.waitFor(() =>
    expect(one.vm.describe()).toMatchObject({ state: 'stopped', last_exit: { reason: 'power-off' } }),
  );
});

test.each([
  ['Never', 'failed'],
  ['OnFailure', 'waiting'],
  ['Always', 'waiting'],
])('a process that is killed: restart %s makes it %s', async (when, state) => {
  const one = await started({ restart: { when } });
  await one.end();
  await vi.waitFor(() => expect(one.vm.describe()).toMatchObject({ state, last_exit: { reason: 'killed' } }));
});

test('it is started again, later each time, and given up after its retries', async () => {
  const one = await started({ restart: { when: 'Always', max_retries: 2 } });
  for (let run = 1; run <= 2; run++) {
    await one.end({ reason: 'power-off', code: 0 });
    await vi.waitFor(() => expect(one.vm.state).toBe('waiting'));
    expect(one.vm.describe().restarts).toBe(run);
    await vi.waitFor(() => expect(one.children).toHaveLength(run + 1), { timeout: 30_000 });
    one.up();
    await vi.waitFor(() => expect(one.vm.state).toBe('running'));
  }
  await one.end();
  await vi.waitFor(() => expect(one.vm.state).toBe('failed'));
  expect(one.events.slice(-2)).toEqual(['wanted false', 'stopped killed']);
});

test('a stop while it waits for its next start ends that', async () => {
  const one = await started({ restart: { when: 'Always' } });
  await one.end();
  await vi.waitFor(() => expect(one.vm.state).toBe('waiting'));
  await one.vm.stop(30);
  expect(one.vm.state).toBe('stopped');
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(one.children).toHaveLength(1);
});

test('a process that cannot be asked to stop is killed, and not started again', async () => {
  const one = await started({ restart: { when: 'Always' } });
  await one.vm.stop(30);
  expect(one.vm.describe()).toMatchObject({ state: 'stopped', last_exit: { reason: 'killed' } });
  expect(one.vm.describe().pid).toBeUndefined();
  expect(one.processes).toHaveLength(1);
});

test('events are told after the state has changed', async () => {
  const one = await started({ restart: { when: 'Always', max_retries: 1 } });
  await one.end();
  await vi.waitFor(() => expect(one.children).toHaveLength(2), { timeout: 30_000 });
  one.up();
  await one.end();
  await vi.waitFor(() => expect(one.vm.state).toBe('failed'));
  expect(one.states).toEqual([
    ...['started: true', 'stopped: true', 'restarting: true'],
    ...['started: true', 'stopped: false'],
  ]);
});

test('a VM that is stopped while it waits for its next start tells so', async () => {
  const one = await started({ restart: { when: 'Always' } });
  await one.end();
  await vi.waitFor(() => expect(one.vm.state).toBe('waiting'));
  await one.vm.stop(1);
  expect(one.states.at(-1)).toBe('restart-cancelled: false');
});

test('a VM that is restarted is started when it has stopped, unless somebody stops it meanwhile', async () => {
  const one = await started();
  const restarted = one.vm.restart(30);
  await vi.waitFor(() => expect(one.children).toHaveLength(2), { timeout: 30_000 });
  one.up();
  await restarted;
  expect(one.vm.state).toBe('running');

  const again = one.vm.restart(30);
  const stopped = one.vm.stop(30);
  await expect(again).rejects.toMatchObject({
    kind: 'conflict',
    message: 'The VM one was stopped meanwhile, and is not started again',
  });
  await stopped;
  expect(one.vm.state).toBe('stopped');
  expect(one.children).toHaveLength(2);
});

test('a VM that is stopped before its process has reported does not start', async () => {
  let ready = () => {};
  const one = fake({}, new Promise<void>((resolve) => (ready = resolve)));
  const starting = one.vm.start();
  starting.catch(() => {});
  const stopping = one.vm.stop(30, true);
  await vi.waitFor(() => expect(one.vm.state).toBe('stopping'));
  ready();
  await stopping;
  await expect(starting).rejects.toThrow('could not start');
  expect(one.vm.state).toBe('stopped');
  expect(one.processes[0]?.signalCode).toBe('SIGKILL');
});

/** What a VM's process has among its words. */
const VM_WORDS = ['vmhost', '--backend', 'tsvmm'];

/** A process that looks like a VM's in `cwd`, and answers nothing. */
function silentProcess(cwd: string, words: readonly string[] = VM_WORDS): ChildProcess {
  const silent = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 600_000)', ...words], {
    cwd,
    stdio: 'ignore',
  });
  onTestFinished(() => void silent.kill('SIGKILL'));
  return silent;
}

test('a process that was found and does not answer is gone after a stop', { timeout: 60_000 }, async () => {
  const { vm } = fake();
  const process = silentProcess(vm.folder);
  fs.writeFileSync(`${vm.folder}/vmhost.pid`, String(process.pid));
  await vm.adopt();
  expect(vm.describe()).toMatchObject({ state: 'unresponsive', pid: process.pid });
  await vm.stop(0, true);
  expect(process.signalCode).toBe('SIGKILL');
  expect(vm.describe()).toMatchObject({ state: 'stopped', last_exit: { reason: 'killed' } });
});

test("a process id that another VM's process has now is not taken for this one's", async () => {
  const { vm } = fake();
  const process = silentProcess(os.tmpdir());
  fs.writeFileSync(`${vm.folder}/vmhost.pid`, String(process.pid));
  await vm.adopt();
  expect(vm.state).toBe('stopped');
  expect(vm.pid).toBeUndefined();
});

test('who works in the folder of a VM and has its word, as a search has, is no process of it', () => {
  const { vm } = fake();
  const root = path.dirname(vm.folder);
  const searching = silentProcess(vm.folder, ['vmhost', 'vmhost.log']);
  fs.writeFileSync(`${vm.folder}/vmhost.pid`, String(searching.pid));
  expect(processOf(vm.folder)).toBeUndefined();
  expect([...processesBelow(root).keys()]).not.toContain(vm.folder);
  const own = silentProcess(vm.folder);
  expect(processesBelow(root).get(vm.folder)?.pid).toBe(own.pid);
});

/** Answers `watch` with the first of these lines and those behind it, and ends with the last. */
const processThatSays = (first: readonly string[], last: string) => `
  const line = (text) => text + '\\n';
  require('node:net').createServer((socket) => {
    process.once('SIGUSR2', () => {
      socket.write(line(${JSON.stringify(last)}));
      socket.end(() => process.exit(0));
    });
    for (const text of ${JSON.stringify(first)}) socket.write(line(text));
  }).listen('vmhost.sock', () => require('node:fs').writeFileSync('vmhost.pid', String(process.pid)));
`;

test.each([
  // Nothing of pauses, or of how long the VM has been up.
  ['before', ['{"ok":true,"state":"running"}'], '{"exit":{"reason":"power-off","code":0}}', 'power-off', []],
  // It says more, and has other kinds of lines, events and ends.
  [
    'behind',
    [
      '{"ok":true,"state":"running","uptime_seconds":5,"mood":{"good":true}}',
      '{"mood":"better"}',
      '{"event":{"source":"vm","event":"dreamt","properties":{"of":"sheep"},"depth":2}}',
      '{"event":{"source":"dream","event":"ended"}}',
    ],
    '{"exit":{"reason":"hibernated","code":0,"until":"spring"}}',
    'hibernated',
    ['dreamt', 'ended'],
  ],
] as const)(
  'a process of the release %s is found, watched, and its end heard of',
  async (_, lines, last, reason, heard) => {
    const { vm, events } = fake();
    const words = ['-e', processThatSays(lines, last), ...VM_WORDS];
    const other = spawn(process.execPath, words, { cwd: vm.folder, stdio: 'ignore' });
    onTestFinished(() => void other.kill('SIGKILL'));
    const named = () => fs.readFileSync(`${vm.folder}/vmhost.pid`, 'utf8');
    await vi.waitFor(() => expect(named()).toBe(String(other.pid)), { timeout: 30_000 });
    await vm.adopt();
    expect(vm.describe()).toMatchObject({
      state: 'running',
      pid: other.pid,
      uptime_seconds: expect.any(Number),
    });
    expect(vm.paused).toBe(false);
    for (const event of heard) {
      await vi.waitFor(() => expect(events.some((one) => one.startsWith(event))).toBe(true), {
        timeout: 30_000,
      });
    }
    other.kill('SIGUSR2');
    await vi.waitFor(() => expect(vm.alive).toBe(false), { timeout: 30_000 });
    expect(vm.describe()).toMatchObject({ state: 'stopped', last_exit: { reason, code: 0 } });
    expect(events.slice(-1)).toEqual([`stopped ${reason}`]);
  },
);
