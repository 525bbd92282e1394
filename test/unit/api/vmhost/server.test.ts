import net from 'node:net';
import { expect, test, vi } from 'vitest';
import { serve, talk } from './support.ts';

const ask = (socketPath: string, request: unknown) => talk(socketPath, [`${JSON.stringify(request)}\n`]);

test.each([
  ['status', {}, '{"ok":true,"state":"running"}\n'],
  ['info', {}, '{"ok":true,"state":"running","backend":"tsvmm"}\n'],
  ['info', { sshPort: 2222 }, '{"ok":true,"state":"running","ssh_port":2222,"backend":"tsvmm"}\n'],
  ['status', { paused: true }, '{"ok":true,"state":"running","paused":true}\n'],
  ['status', { state: 'error' }, '{"ok":true,"state":"error"}\n'],
  ['nonsense', {}, '{"ok":false,"error":"unknown method: nonsense"}\n'],
  ['toString', {}, '{"ok":false,"error":"unknown method: toString"}\n'],
])('%s of a VM that is %j is answered %s', async (method, vm, answer) => {
  const { socketPath, controller } = await serve();
  Object.assign(controller, vm);
  expect(await ask(socketPath, { method })).toBe(answer);
});

test('a request may come in pieces, without a newline, and with fields that nobody knows', async () => {
  const { socketPath } = await serve();
  const pieces = ['  \n{"jsonrpc":"2.0","params":{"a":["}"', ']},"method":"st', 'atus"}'];
  expect(await talk(socketPath, pieces)).toBe('{"ok":true,"state":"running"}\n');
});

test('what follows the request is ignored', async () => {
  const { socketPath, controller } = await serve();
  expect(await talk(socketPath, ['{"method":"status"}{"method":"force_stop"}'])).toBe(
    '{"ok":true,"state":"running"}\n',
  );
  expect(controller.stops).toEqual([]);
});

test.each([
  ['status\n', 'not a JSON object'],
  ['[]', 'not a JSON object'],
  ['{"method":}', expect.stringContaining('Unexpected token')],
  ['{"method":5}', 'it names no method'],
  ['{}', 'it names no method'],
  ['{"method":"stop","timeout_seconds":"5"}', 'timeout_seconds is not a whole number'],
  ['{"method":"stop","timeout_seconds":1.5}', 'timeout_seconds is not a whole number'],
  ['{"method":"status"', 'it ends before it is complete'],
  ['', 'it ends before it is complete'],
  [`{"method":"${'x'.repeat(70_000)}"}`, 'longer than 65536 bytes'],
  [Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), expect.any(String)],
])('%j is no request', async (text, reason) => {
  const { socketPath, controller } = await serve();
  const answer = JSON.parse(await talk(socketPath, [text], { halfClose: true }));
  expect(answer).toEqual({ ok: false, error: expect.stringMatching(/^invalid request: /) });
  expect(answer.error.slice('invalid request: '.length)).toEqual(reason);
  expect(controller.stops).toEqual([]);
});

test.each([
  [undefined, 30_000],
  [null, 30_000],
  [0, 30_000],
  [-5, 30_000],
  [7, 7_000],
  // What a timer can hold: a longer time must not become none.
  [1e12, 2_147_483_000],
])('a stop with timeout_seconds %j gives the guest %d ms', async (seconds, ms) => {
  const { socketPath, controller } = await serve();
  const answer = await ask(socketPath, { method: 'stop', timeout_seconds: seconds });
  expect(answer).toBe('{"ok":true,"state":"stopping"}\n');
  expect(controller.stops).toEqual([ms]);
});

test('a restart is passed on, and one that fails is logged', async () => {
  const { socketPath, controller, lines } = await serve();
  expect(await ask(socketPath, { method: 'restart' })).toBe('{"ok":true,"state":"running"}\n');
  controller.failure = new Error('no machine');
  expect(await ask(socketPath, { method: 'restart' })).toBe('{"ok":true,"state":"running"}\n');
  expect(controller.restarts).toBe(2);
  await vi.waitFor(() => expect(lines).toContain('restart failed: no machine'));
});

test('status answers while a stop runs; a second stop changes nothing; force_stop forces at once', async () => {
  const { socketPath, controller } = await serve();
  await ask(socketPath, { method: 'stop', timeout_seconds: 60 });
  expect(await ask(socketPath, { method: 'status' })).toBe('{"ok":true,"state":"running"}\n');
  expect(await ask(socketPath, { method: 'stop', timeout_seconds: 1 })).toBe(
    '{"ok":true,"state":"stopping"}\n',
  );
  expect(controller.stops).toEqual([60_000]);
  expect(await ask(socketPath, { method: 'force_stop' })).toBe('{"ok":true,"state":"stopping"}\n');
  expect(await ask(socketPath, { method: 'force_stop' })).toBe('{"ok":true,"state":"stopping"}\n');
  expect(controller.stops).toEqual([60_000, 'force']);
});

test('a stop that failed is told to the log and may be asked for again', async () => {
  const { socketPath, controller, lines } = await serve();
  controller.failure = new Error('no such button');
  await ask(socketPath, { method: 'stop' });
  await vi.waitFor(() => expect(lines).toContain('stop failed: no such button'));
  controller.failure = undefined;
  await ask(socketPath, { method: 'stop' });
  expect(controller.stops).toHaveLength(2);
});

test('silent clients lock no other client out', async () => {
  const { socketPath } = await serve();
  const silent = Array.from({ length: 300 }, () => net.connect({ path: socketPath }).on('error', () => {}));
  await Promise.all(silent.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  expect(await ask(socketPath, { method: 'status' })).toBe('{"ok":true,"state":"running"}\n');
  for (const socket of silent) socket.destroy();
});

test('many clients at once are all answered', async () => {
  const { socketPath } = await serve();
  const answers = await Promise.all(Array.from({ length: 100 }, () => ask(socketPath, { method: 'status' })));
  expect(new Set(answers)).toEqual(new Set(['{"ok":true,"state":"running"}\n']));
});

/** Lines of a watcher as they come, until the connection is closed. */
function watch(socketPath: string): { lines: unknown[]; socket: net.Socket; closed: Promise<unknown> } {
  const lines: unknown[] = [];
  const socket = net.connect({ path: socketPath }).setEncoding('utf8');
  let rest = '';
  socket.on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop() as string;
    for (const part of parts) lines.push(JSON.parse(part));
  });
  socket.write('{"method":"watch"}\n');
  return { lines, socket, closed: new Promise((resolve) => socket.once('close', resolve)) };
}

test('a watcher gets the events of the VM, and at last how it ended', async () => {
  const { socketPath, controller } = await serve();
  const { lines, closed } = watch(socketPath);
  await vi.waitFor(() => expect(lines).toEqual([{ ok: true, state: 'running', uptime_seconds: 5 }]));
  for (const tell of controller.watchers) tell({ source: 'vm', event: 'paused' });
  await vi.waitFor(() => expect(lines[1]).toEqual({ event: { source: 'vm', event: 'paused' } }));
  controller.end();
  await closed;
  expect(lines[2]).toEqual({ exit: { reason: 'request', code: 0 } });
  await vi.waitFor(() => expect(controller.watchers.size).toBe(0));
});

test('a watcher that has gone, or does not read, is forgotten', async () => {
  const { socketPath, controller } = await serve();
  const gone = watch(socketPath);
  const deaf = watch(socketPath);
  await vi.waitFor(() => expect(controller.watchers.size).toBe(2));
  deaf.socket.pause();
  gone.socket.destroy();
  await vi.waitFor(() => expect(controller.watchers.size).toBe(1));
  const event = { source: 'vm', event: 'x'.repeat(10_000) } as const;
  for (let i = 0; i < 3_000; i++) for (const tell of controller.watchers) tell(event);
  await vi.waitFor(() => expect(controller.watchers.size).toBe(0));
});

test('watchers are not pushed out by clients that say nothing', async () => {
  const { socketPath, controller } = await serve();
  const { lines } = watch(socketPath);
  await vi.waitFor(() => expect(controller.watchers.size).toBe(1));
  const silent = Array.from({ length: 300 }, () => net.connect({ path: socketPath }).on('error', () => {}));
  await Promise.all(silent.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  await ask(socketPath, { method: 'status' });
  for (const tell of controller.watchers) tell({ source: 'vm', event: 'paused' });
  await vi.waitFor(() => expect(lines).toHaveLength(2));
  for (const socket of silent) socket.destroy();
});
