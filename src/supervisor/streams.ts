/** Answers that go on: events, and logs as they grow. A client that does not read is disconnected. */
import { closeSync, fstatSync, openSync, readSync, watch } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { VmmError } from '../vmm/errors.ts';
import type { SupervisorEvent } from './eventHistory.ts';
import { type RouteRequest, vmOf } from './routes.ts';

/** Bytes that a client may leave unread. */
const MAX_UNREAD = 1 << 20;
const LOGS: Readonly<Record<string, string>> = { serial: 'serial.log', vmhost: 'vmhost.log' };
const DEFAULT_TAIL = 200;
const MAX_TAIL_BYTES = 1 << 20;
const CHUNK = 65_536;

export function streamEvents({ supervisor, url, request, response }: RouteRequest): undefined {
  // What a browser's EventSource sends when it connects again.
  const after = url.searchParams.get('after') ?? request.headers['last-event-id'];
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  response.flushHeaders();
  const send = (event: SupervisorEvent) =>
    write(response, `id: ${event.id}\ndata: ${JSON.stringify(event)}\n\n`);
  if (after !== undefined && after !== null) supervisor.events.after(Number(after)).forEach(send);
  response.once('close', supervisor.events.watch(send));
  return undefined;
}

export function streamLog({ supervisor, parameters, url, response }: RouteRequest): undefined {
  const vm = vmOf(supervisor, parameters);
  const which = url.searchParams.get('file') ?? 'serial';
  const name = Object.hasOwn(LOGS, which) ? LOGS[which] : undefined;
  if (name === undefined)
    throw new VmmError(`There is no log "${which}", only serial and vmhost`, { kind: 'invalid' });
  const path = `${vm.describe().folder}/${name}`;
  const tail = Number(url.searchParams.get('tail') ?? DEFAULT_TAIL);
  response.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8' });
  response.flushHeaders();
  let offset = tailStart(path, Number.isFinite(tail) ? tail : DEFAULT_TAIL);
  const more = () => {
    offset = copyFrom(path, offset, response);
  };
  more();
  if (url.searchParams.get('follow') !== 'true') {
    response.end();
    return undefined;
  }
  // The folder, because the file may not be there yet.
  const watcher = watch(vm.describe().folder, (_, changed) => changed === name && more());
  const unwatch = supervisor.events.watch(({ vm: of, event }) => {
    if (of !== vm.definition.name || event !== 'stopped') return;
    more();
    response.end();
  });
  response.once('close', () => {
    watcher.close();
    unwatch();
  });
  return undefined;
}

function write(response: ServerResponse, data: string | Uint8Array): void {
  if (response.writableLength > MAX_UNREAD) response.destroy();
  else response.write(data);
}

/** Where the last lines of a file begin. */
function tailStart(path: string, lines: number): number {
  return withFile(path, 0, (fd, size) => {
    const from = Math.max(0, size - MAX_TAIL_BYTES);
    const bytes = Buffer.alloc(size - from);
    readSync(fd, bytes, 0, bytes.length, from);
    let at = bytes.length - 1;
    for (let left = lines; left > 0 && at >= 0; left--) at = bytes.lastIndexOf(0x0a, at - 1);
    return from + at + 1;
  });
}

/** Sends what is there from an offset on; a file that became shorter is begun anew. @returns where it ends */
function copyFrom(path: string, offset: number, response: ServerResponse): number {
  return withFile(path, offset, (fd, size) => {
    let at = size < offset ? 0 : offset;
    const chunk = Buffer.alloc(CHUNK);
    while (at < size && !response.destroyed) {
      const count = readSync(fd, chunk, 0, chunk.length, at);
      if (count === 0) break;
      write(response, Buffer.from(chunk.subarray(0, count)));
      at += count;
    }
    return at;
  });
}

function withFile<T>(path: string, missing: T, work: (fd: number, size: number) => T): T {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return missing;
  }
  try {
    return work(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}
