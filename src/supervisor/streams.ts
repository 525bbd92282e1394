/**
 * Answers that do not end at once: events, and logs as they grow. A client that does not read events is disconnected.
 */
import { watch } from 'node:fs';
import { VmFile } from '../api/vmhost/folderFiles.ts';
import { VmmError } from '../vmm/errors.ts';
import type { SupervisorEvent } from './eventHistory.ts';
import { LogSender } from './logSender.ts';
import { type RouteRequest, vmOf } from './route.ts';

/** Bytes of events that a client may leave unread. */
const MAX_UNREAD = 1 << 20;
const LOGS: Readonly<Record<string, string>> = { serial: VmFile.serialLog, vmhost: VmFile.log };
const DEFAULT_TAIL = 200;

export function streamEvents({ supervisor, url, request, response }: RouteRequest): undefined {
  // What a browser's EventSource sends when it connects again.
  const after = url.searchParams.get('after') ?? request.headers['last-event-id'];
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  response.flushHeaders();
  const send = (event: SupervisorEvent) => {
    if (response.writableLength <= MAX_UNREAD) {
      response.write(`id: ${event.id}\ndata: ${JSON.stringify(event)}\n\n`);
    } else if (!response.destroyed) {
      supervisor.warn(`A client of ${url.pathname} is disconnected: it does not read its events`);
      response.destroy();
    }
  };
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
  const { folder } = vm.describe();
  const path = `${folder}/${name}`;
  const lines = linesAsked(url.searchParams.get('tail'));
  response.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8' });
  response.flushHeaders();
  const log = new LogSender(path, lines, response);
  if (url.searchParams.get('follow') !== 'true' || !vm.goesOn) {
    void log.finish();
    return undefined;
  }
  void log.send();
  // The folder, because the file may not be there yet.
  const watcher = watch(folder, (_, changed) => changed === name && void log.send());
  const unwatch = supervisor.events.watch(({ vm: of }) => {
    if (of === vm.definition.name && !vm.goesOn) finish();
  });
  const leave = () => {
    watcher.close();
    unwatch();
  };
  const finish = () => {
    leave();
    void log.finish();
  };
  watcher.on('error', finish);
  response.once('close', leave);
  return undefined;
}

function linesAsked(tail: string | null): number {
  if (tail === null) return DEFAULT_TAIL;
  if (tail === 'all') return Number.POSITIVE_INFINITY;
  if (/^\d{1,9}$/.test(tail)) return Number(tail);
  throw new VmmError(`tail=${tail} is neither a number of lines nor "all"`, { kind: 'invalid' });
}
