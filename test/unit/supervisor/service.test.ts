import { expect, test, vi } from 'vitest';
import { serviceManager } from '../../../src/supervisor/service.ts';

const PID = String(process.pid);

function managed(environment: NodeJS.ProcessEnv, failure?: Error) {
  const told: string[] = [];
  const warnings: string[] = [];
  const native = {
    sendDatagram: (address: string, bytes: Uint8Array) => {
      if (failure) throw failure;
      told.push(`${address} ${new TextDecoder().decode(bytes)}`);
    },
  };
  const service = serviceManager(native, environment, (message) => void warnings.push(message));
  return { service, told, warnings, environment };
}

test('sockets have the names of their units, and are not passed to processes that are started', () => {
  const environment = { LISTEN_PID: PID, LISTEN_FDS: '3', LISTEN_FDNAMES: 'a.sock:b.sock', KEPT: 'x' };
  const { service } = managed(environment);
  expect([...service.sockets]).toEqual([
    ['a.sock', 3],
    ['b.sock', 4],
    ['unknown', 5],
  ]);
  expect(environment).toEqual({ KEPT: 'x' });
});

test.each([{}, { LISTEN_PID: '1', LISTEN_FDS: '1', LISTEN_FDNAMES: 'a.sock' }])(
  '%j hands nothing over',
  (of) => {
    expect(managed({ ...of }).service.sockets.size).toBe(0);
  },
);

test('a manager that waits for it is told of the beginning, the life and the end', () => {
  vi.useFakeTimers();
  const { service, told } = managed({ NOTIFY_SOCKET: '@n', WATCHDOG_USEC: '60000000', WATCHDOG_PID: PID });
  expect(told).toEqual([]);
  service.ready();
  vi.advanceTimersByTime(60_000);
  service.stopping();
  vi.advanceTimersByTime(600_000);
  expect(told).toEqual(['@n READY=1\n', '@n WATCHDOG=1\n', '@n WATCHDOG=1\n', '@n STOPPING=1\n']);
  vi.useRealTimers();
});

test("another process's watchdog is not fed, and where there is no manager nobody is told", () => {
  vi.useFakeTimers();
  const other = managed({ NOTIFY_SOCKET: '/n', WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' });
  const none = managed({});
  for (const { service } of [other, none]) service.ready();
  vi.advanceTimersByTime(10_000);
  expect(other.told).toEqual(['/n READY=1\n']);
  expect(none.told).toEqual([]);
  vi.useRealTimers();
});

test('a manager that cannot be told is warned of, and stops nothing', () => {
  const { service, warnings } = managed({ NOTIFY_SOCKET: '/n' }, new Error('ECONNREFUSED'));
  service.ready();
  expect(warnings).toEqual(['The service manager cannot be told: ECONNREFUSED']);
});

test.each([
  { full: 3, told: ['READY=1\n'], warnings: [] },
  { full: 1000, told: [], warnings: ['The service manager cannot be told: no room'] },
])(
  'a manager that has no room $full times is told of the beginning again, for 5 s',
  ({ full, ...expected }) => {
    vi.useFakeTimers();
    const told: string[] = [];
    const warnings: string[] = [];
    let tries = 0;
    const native = {
      sendDatagram: (_address: string, bytes: Uint8Array) => {
        if (tries++ < full) throw Object.assign(new Error('no room'), { code: 'EAGAIN' });
        told.push(new TextDecoder().decode(bytes));
      },
    };
    serviceManager(native, { NOTIFY_SOCKET: '/n' }, (message) => void warnings.push(message)).ready();
    expect(warnings).toEqual([]);
    vi.advanceTimersByTime(5_000);
    expect({ told, warnings }).toEqual(expected);
    vi.useRealTimers();
  },
);

test('a manager that was told of the end is not told of the beginning any more', () => {
  vi.useFakeTimers();
  const failure = Object.assign(new Error('no room'), { code: 'EAGAIN' });
  const { service, warnings } = managed({ NOTIFY_SOCKET: '/n' }, failure);
  service.ready();
  service.stopping();
  vi.advanceTimersByTime(60_000);
  expect(warnings).toEqual(['The service manager cannot be told: no room']);
  vi.useRealTimers();
});
