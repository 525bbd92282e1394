/** Whom the debugger's socket serves, and until when. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { encodePacket } from '../../../../src/api/gdb/packets.ts';
import { type GdbServer, serveGdb } from '../../../../src/api/gdb/server.ts';
import type { DebuggedVmm } from '../../../../src/api/gdb/session.ts';
import type { Accept, StreamHandlers } from '../../../../src/host/listen.ts';
import type { MachineHandle } from '../../../../src/native.ts';
import type { VmInfo } from '../../../../src/vmm/info.ts';
import { type FakeDebug, fakeDebug } from '../../support/fakeDebug.ts';

const listening = vi.hoisted(() => ({ accept: undefined as Accept | undefined }));

vi.mock('../../../../src/host/listen.ts', () => ({
  listenStream: async (_fd: number, accept: Accept) => {
    listening.accept = accept;
    return { close: () => {} };
  },
}));

const HANDLE = {} as MachineHandle;

interface Client {
  readonly handlers: StreamHandlers;
  readonly received: string;
  readonly terminated: boolean;
}

let server: GdbServer;
let stops: number;
let native: FakeDebug;
let state: VmInfo['state'];
/** The guest does not stop. */
let stuck: boolean;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  stops = 0;
  stuck = false;
  state = 'Running';
  native = fakeDebug();
  const vmm: DebuggedVmm = {
    info: () => ({ state, config: { cpus: { boot_vcpus: 1 } } }) as VmInfo,
    debugStop: async () => {
      stops++;
      state = stuck ? 'Running' : 'BreakPoint';
      if (stuck) throw new Error('vCPU 0 does not leave the guest');
    },
    debugResume: async (traps, orders = ['run']) => {
      native.machineDebugResume(HANDLE, orders, traps);
      state = 'Running';
    },
    debugAccess: async (use) => use({ native, handle: HANDLE }),
    quit: async () => {},
  };
  const sockets = {
    claimSocket: () => ({ lock: 1, lockId: '', name: '' }),
    listenUnix: () => ({ listener: 2, id: '' }),
    placeSocket: () => '',
    removeListeningSocket: () => {},
    closeFile: () => {},
    disownFile: () => {},
  };
  server = await serveGdb(vmm, sockets, '/gdb.sock');
});

afterEach(() => {
  server.close();
  vi.useRealTimers();
});

/** One that never closes its side. */
function connect(): Client {
  const state = { received: '', terminated: false };
  const handlers = listening.accept?.({
    waiting: false,
    write: (bytes) => {
      state.received += Buffer.from(bytes).toString('latin1');
    },
    end: () => {},
    terminate: () => {
      if (state.terminated) return;
      state.terminated = true;
      queueMicrotask(() => handlers?.closed());
    },
    pause: () => {},
    resume: () => {},
    ref: () => {},
    unref: () => {},
  });
  return Object.assign(state, { handlers: handlers as StreamHandlers });
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

it.each([
  ['sends nonsense', (client: Client) => client.handlers.data(Buffer.from(`$${'x'.repeat(1 << 16)}`))],
  ['detaches', (client: Client) => client.handlers.data(Buffer.from('$D#44'))],
  ['outlives the machine', () => server.ended()],
])(
  'a debugger that %s and does not close is closed after a second, and the next one is served',
  async (_what, end) => {
    const first = connect();
    await settled();
    expect(stops).toBe(1);
    end(first);
    await settled();
    expect(connect().terminated).toBe(true);
    vi.advanceTimersByTime(999);
    expect(first.terminated).toBe(false);
    expect(server.attached).toBe(true);
    vi.advanceTimersByTime(1);
    await settled();
    expect(first.terminated).toBe(true);
    expect(server.attached).toBe(false);
    const next = connect();
    next.handlers.data(Buffer.from('$qAttached#8f'));
    await settled();
    expect(next.terminated).toBe(false);
    expect(next.received).toBe('+$1#31');
  },
);

it('one that closes in time is not closed again', async () => {
  const first = connect();
  first.handlers.data(Buffer.from('$D#44'));
  await settled();
  expect(first.received).toBe('+$OK#9a');
  first.handlers.closed();
  vi.advanceTimersByTime(5_000);
  expect(first.terminated).toBe(false);
});

/** One that set a breakpoint, let the guest run, and is gone while that does not stop. */
async function leaveBreakpoint(): Promise<void> {
  const client = connect();
  client.handlers.data(Buffer.concat(['Z0,1000,1', 'c'].map((text) => encodePacket(text))));
  await settled();
  expect([native.ram[0x1000], state]).toEqual([0xcc, 'Running']);
  stuck = true;
  client.handlers.closed();
  await settled();
  expect([native.ram[0x1000], state]).toEqual([0xcc, 'Running']);
}

const FREE = [['run'], { hardware: [], software: [] }];

it('a guest that does not stop when its debugger is lost has its breakpoints removed when it does, and goes on', async () => {
  await leaveBreakpoint();
  vi.advanceTimersByTime(5_000);
  await settled();
  expect(native.ram[0x1000]).toBe(0xcc);
  stuck = false;
  vi.advanceTimersByTime(5_000);
  await settled();
  expect([native.ram[0x1000], state]).toEqual([0, 'Running']);
  expect(native.resumes.at(-1)).toEqual(FREE);
  const before = stops;
  vi.advanceTimersByTime(60_000);
  await settled();
  expect(stops).toBe(before);
});

it('one that meets such a breakpoint goes on without it', async () => {
  await leaveBreakpoint();
  stuck = false;
  state = 'BreakPoint';
  server.stopped({ vcpu: 0, cause: 'breakpoint', address: 0x1000n });
  await settled();
  expect([native.ram[0x1000], state]).toEqual([0, 'Running']);
  expect(native.resumes.at(-1)).toEqual(FREE);
});

it('the next debugger finds the guest free of them', async () => {
  await leaveBreakpoint();
  const refused = connect();
  await settled();
  refused.handlers.closed();
  await settled();
  stuck = false;
  connect();
  await settled();
  expect([native.ram[0x1000], state]).toEqual([0, 'BreakPoint']);
  vi.advanceTimersByTime(60_000);
  await settled();
  expect(state).toBe('BreakPoint');
});

it('a guest that is let go by others is freed of them before, and is not stopped again', async () => {
  await leaveBreakpoint();
  const before = stops;
  await server.leave({ native, handle: HANDLE });
  expect(native.ram[0x1000]).toBe(0);
  stuck = false;
  vi.advanceTimersByTime(60_000);
  await settled();
  expect(stops).toBe(before);
});

it('a new machine has none of them', async () => {
  await leaveBreakpoint();
  const before = stops;
  stuck = false;
  native.ram[0x1000] = 0xcc;
  server.started();
  vi.advanceTimersByTime(60_000);
  await settled();
  connect();
  await settled();
  expect([native.ram[0x1000], stops]).toEqual([0xcc, before + 1]);
});
