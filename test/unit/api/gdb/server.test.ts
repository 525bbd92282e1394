/** Whom the debugger's socket serves, and until when. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type GdbServer, serveGdb } from '../../../../src/api/gdb/server.ts';
import type { DebuggedVmm } from '../../../../src/api/gdb/session.ts';
import type { Accept, StreamHandlers } from '../../../../src/host/listen.ts';
import type { MachineHandle } from '../../../../src/native.ts';
import type { VmInfo } from '../../../../src/vmm/info.ts';
import { fakeDebug } from '../../support/fakeDebug.ts';

const listening = vi.hoisted(() => ({ accept: undefined as Accept | undefined }));

vi.mock('../../../../src/host/listen.ts', () => ({
  listenStream: async (_fd: number, accept: Accept) => {
    listening.accept = accept;
    return { close: () => {} };
  },
}));

interface Client {
  readonly handlers: StreamHandlers;
  readonly received: string;
  readonly terminated: boolean;
}

let server: GdbServer;
let stops: number;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  stops = 0;
  const native = fakeDebug();
  const vmm: DebuggedVmm = {
    info: () => ({ config: { cpus: { boot_vcpus: 1 } } }) as VmInfo,
    debugStop: async () => {
      stops++;
    },
    debugResume: async () => {},
    debugAccess: async (use) => use({ native, handle: {} as MachineHandle }),
    quit: async () => {},
  };
  const sockets = {
    claimSocket: () => ({ lock: 1, lockId: '' }),
    listenUnix: () => ({ listener: 2, id: '' }),
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
