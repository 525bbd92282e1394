/** The type of an endpoint: an entry of the table in `endpoints.ts`. */
import type { ObjectShape } from '../../config/schema.ts';
import type { Abortable } from '../../host/abort.ts';
import type { EventLog } from '../../vmm/eventLog.ts';
import type { Vmm } from '../../vmm/vmm.ts';
import type { Descriptors } from './descriptors.ts';
import type { Method } from './httpRequest.ts';
import { type Answer, noContent } from './httpResponse.ts';

/** The part of the internal API that this front end uses. */
export type ApiVmm = Pick<
  Vmm,
  | 'create'
  | 'delete'
  | 'boot'
  | 'shutdown'
  | 'reboot'
  | 'pause'
  | 'resume'
  | 'powerButton'
  | 'nmi'
  | 'resize'
  | 'resizeDisk'
  | 'resizeZone'
  | 'addDevice'
  | 'removeDevice'
  | 'snapshot'
  | 'coredump'
  | 'restore'
  | 'sendMigration'
  | 'receiveMigration'
  | 'info'
  | 'counters'
  | 'countedMachine'
  | 'machineMemory'
  | 'vcpuStatistics'
  | 'quit'
  | 'watchInfo'
>;

export interface Call {
  readonly vmm: ApiVmm;
  /** The body as JSON; undefined for endpoints that take none. */
  readonly json: unknown;
  /** What came with the request. What is not taken is closed. */
  readonly descriptors: Descriptors;
  /** Undefined if no events are kept. */
  readonly events: EventLog | undefined;
  /** Behind the question mark; '' for endpoints that take none. */
  readonly query: string;
  /** The client: the signal is aborted when it has left. */
  readonly client: Abortable;
  /** The header Last-Event-ID. */
  readonly lastEventId: string | undefined;
}

export interface Endpoint {
  readonly method: Method;
  /** `refused`: a body is an error; `ignored`: it is not looked at; a shape: there must be one of that shape. */
  readonly body: 'refused' | 'ignored' | ObjectShape;
  /** PATCH and DELETE are answered without a body, as the reference does on some paths. */
  readonly silent?: true;
  /** Takes a query: others are unknown with one, as in the reference. */
  readonly query?: true;
  /** @throws RequestError, JsonError, ConfigError, VmmError */
  handle(call: Call): Answer | Promise<Answer>;
}

export type Endpoints = Readonly<Record<string, Endpoint>>;

/** An endpoint that takes nothing and answers nothing. */
export function action(run: (vmm: ApiVmm) => Promise<void>): Endpoint {
  return {
    method: 'PUT',
    body: 'refused',
    silent: true,
    handle: ({ vmm }) => run(vmm).then(() => noContent),
  };
}

/** An endpoint that takes something and answers nothing. */
export function order(body: ObjectShape, run: (call: Call) => Promise<void>): Endpoint {
  return { method: 'PUT', body, silent: true, handle: (call) => run(call).then(() => noContent) };
}

/**
 * Makes what a body says of descriptors be as if it were not there: their numbers mean nothing between processes, and
 * only those count that came with the request.
 */
export function dropDescriptorNumbers(value: unknown, ...keys: readonly string[]): void {
  if (typeof value !== 'object' || value === null) return;
  for (const key of keys) delete (value as Record<string, unknown>)[key];
}
