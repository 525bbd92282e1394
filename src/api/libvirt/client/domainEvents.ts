/** Events of domains: their contents, and the delivery to listeners. */
import { type Abortable, unlessAborted } from '../../../host/abort.ts';
import { DomainEventMessages } from '../signatures/eventMessages.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom, ValueOf } from '../types.ts';
import { XdrReader } from '../xdr.ts';
import { EventStream } from './eventStream.ts';
import { type LifecycleEventDetail, type LifecycleEventName, lifecycleNames, nameIn } from './names.ts';
import type { RpcClient } from './rpcClient.ts';
import { type Parameters, parametersOf } from './values.ts';

type WatchdogAction =
  | 'none'
  | 'pause'
  | 'reset'
  | 'poweroff'
  | 'shutdown'
  | 'debug'
  | 'inject-nmi'
  | 'unknown';
type IoErrorAction = 'none' | 'pause' | 'report' | 'unknown';

interface GraphicsPeer {
  readonly node: string;
  readonly service: string;
}

interface BlockJobResult {
  readonly job: 'unknown' | 'pull' | 'copy' | 'commit' | 'active commit' | 'backup';
  readonly status: 'completed' | 'failed' | 'canceled' | 'ready' | 'unknown';
}

interface IoError {
  readonly path: string;
  readonly device: string;
  readonly action: IoErrorAction;
}

/** What each kind of event, by the name that `virsh event` has for it, tells beside its kind and domain. */
export interface DomainEventContents {
  lifecycle: { readonly event: LifecycleEventName; readonly detail: LifecycleEventDetail };
  reboot: object;
  'rtc-change': { readonly offsetSeconds: number };
  watchdog: { readonly action: WatchdogAction };
  'io-error': IoError;
  graphics: {
    readonly phase: 'connect' | 'initialize' | 'disconnect' | 'unknown';
    readonly local: GraphicsPeer;
    readonly remote: GraphicsPeer;
    readonly authScheme: string;
  };
  'io-error-reason': IoError & { readonly reason: string };
  'control-error': object;
  'block-job': BlockJobResult & { readonly path: string };
  'disk-change': {
    readonly oldPath: string | undefined;
    readonly newPath: string | undefined;
    readonly device: string;
    readonly reason: 'changed' | 'dropped' | 'unknown';
  };
  'tray-change': { readonly device: string; readonly reason: 'opened' | 'closed' | 'unknown' };
  pmwakeup: object;
  pmsuspend: object;
  'balloon-change': { readonly memoryKib: number };
  'pmsuspend-disk': object;
  'device-removed': { readonly device: string };
  'block-job-2': BlockJobResult & { readonly target: string };
  tunable: { readonly parameters: Parameters };
  'agent-lifecycle': {
    readonly state: 'unknown' | 'connected' | 'disconnected';
    readonly reason: 'unknown' | 'domain started' | 'channel event';
  };
  'device-added': { readonly device: string };
  'migration-iteration': { readonly iteration: number };
  'job-completed': { readonly parameters: Parameters };
  'device-removal-failed': { readonly device: string };
  'metadata-change': {
    readonly type: 'description' | 'title' | 'element' | 'unknown';
    /** Of an element. */
    readonly namespace: string | undefined;
  };
  'block-threshold': {
    readonly target: string;
    readonly path: string | undefined;
    readonly thresholdBytes: number;
    readonly excessBytes: number;
  };
  'memory-failure': {
    readonly recipient: 'hypervisor' | 'guest' | 'unknown';
    readonly action: 'ignore' | 'inject' | 'fatal' | 'reset' | 'unknown';
  };
  'memory-device-size-change': { readonly device: string; readonly sizeKib: number };
}

export type DomainEventKind = keyof DomainEventContents;

/** @typeParam D what it calls a domain */
export type EventOf<D, K extends DomainEventKind = DomainEventKind> = {
  [P in K]: { readonly kind: P; readonly domain: D } & DomainEventContents[P];
}[K];

type Body<K extends DomainEventKind> = ValueOf<(typeof DomainEventMessages)[K]['body']>;

const watchdogAction = nameIn(['none', 'pause', 'reset', 'poweroff', 'shutdown', 'debug', 'inject-nmi']);
const ioErrorAction = nameIn(['none', 'pause', 'report']);
const graphicsPhase = nameIn(['connect', 'initialize', 'disconnect']);
const blockJobType = nameIn(['unknown', 'pull', 'copy', 'commit', 'active commit', 'backup']);
const blockJobStatus = nameIn(['completed', 'failed', 'canceled', 'ready']);
const agentState = nameIn(['unknown', 'connected', 'disconnected']);
const agentReason = nameIn(['unknown', 'domain started', 'channel event']);
const metadataType = nameIn(['description', 'title', 'element']);
const diskChange = nameIn(['changed', 'dropped']);
const trayChange = nameIn(['opened', 'closed']);
const failureRecipient = nameIn(['hypervisor', 'guest']);
const failureAction = nameIn(['ignore', 'inject', 'fatal', 'reset']);

/** From what the messages have. */
const contents: { readonly [K in DomainEventKind]: (body: Body<K>) => DomainEventContents[K] } = {
  lifecycle: ({ event, detail }) => lifecycleNames(event, detail),
  reboot: () => ({}),
  'rtc-change': ({ offset }) => ({ offsetSeconds: Number(offset) }),
  watchdog: ({ action }) => ({ action: watchdogAction(action) }),
  'io-error': ({ srcPath, devAlias, action }) => ({
    path: srcPath,
    device: devAlias,
    action: ioErrorAction(action),
  }),
  graphics: ({ phase, local, remote, authScheme }) => ({
    phase: graphicsPhase(phase),
    local: { node: local.node, service: local.service },
    remote: { node: remote.node, service: remote.service },
    authScheme,
  }),
  'io-error-reason': ({ srcPath, devAlias, action, reason }) => ({
    path: srcPath,
    device: devAlias,
    action: ioErrorAction(action),
    reason,
  }),
  'control-error': () => ({}),
  'block-job': ({ path, type, status }) => ({
    path,
    job: blockJobType(type),
    status: blockJobStatus(status),
  }),
  'disk-change': ({ oldSrcPath, newSrcPath, devAlias, reason }) => ({
    oldPath: oldSrcPath,
    newPath: newSrcPath,
    device: devAlias,
    reason: diskChange(reason),
  }),
  'tray-change': ({ devAlias, reason }) => ({
    device: devAlias,
    reason: trayChange(reason),
  }),
  pmwakeup: () => ({}),
  pmsuspend: () => ({}),
  'balloon-change': ({ actual }) => ({ memoryKib: Number(actual) }),
  'pmsuspend-disk': () => ({}),
  'device-removed': ({ devAlias }) => ({ device: devAlias }),
  'block-job-2': ({ dst, type, status }) => ({
    target: dst,
    job: blockJobType(type),
    status: blockJobStatus(status),
  }),
  tunable: ({ params }) => ({ parameters: parametersOf(params) }),
  'agent-lifecycle': ({ state, reason }) => ({
    state: agentState(state),
    reason: agentReason(reason),
  }),
  'device-added': ({ devAlias }) => ({ device: devAlias }),
  'migration-iteration': ({ iteration }) => ({ iteration }),
  'job-completed': ({ params }) => ({ parameters: parametersOf(params) }),
  'device-removal-failed': ({ devAlias }) => ({ device: devAlias }),
  'metadata-change': ({ type, nsuri }) => ({
    type: metadataType(type),
    namespace: nsuri,
  }),
  'block-threshold': ({ dev, path, threshold, excess }) => ({
    target: dev,
    path,
    thresholdBytes: Number(threshold),
    excessBytes: Number(excess),
  }),
  'memory-failure': ({ recipient, action }) => ({
    recipient: failureRecipient(recipient),
    action: failureAction(action),
  }),
  'memory-device-size-change': ({ alias, size }) => ({
    device: alias,
    sizeKib: Number(size),
  }),
};

const KIND_OF_MESSAGE: ReadonlyMap<number, DomainEventKind> = new Map(
  Object.entries(DomainEventMessages).map(([kind, { message }]) => [message, kind as DomainEventKind]),
);

export interface EventsOptions extends Abortable {
  /** Of one domain; of all where none is given. Its `uuid` counts. */
  readonly domain?: { readonly name: string; readonly uuid: string; readonly id: number } | undefined;
  /** Events that may wait for the reader; 1,024 unless given. */
  readonly maxBuffered?: number | undefined;
}

const MAX_BUFFERED = 1_024;

/** One registration with the daemon, which refuses a second one of the same. */
interface Registration<D> {
  readonly kind: DomainEventKind;
  readonly readers: Set<EventStream<EventOf<D>>>;
  /** The callback's id. */
  readonly ready: Promise<number>;
}

/** The listeners to a connection's events. @typeParam D what events call a domain */
export class DomainEvents<D> {
  readonly #rpc: RpcClient;
  readonly #makeDomain: (dom: Dom) => D;
  readonly #registrations = new Map<string, Registration<D>>();
  readonly #leaving = new Map<string, Promise<unknown>>();
  readonly #byCallback = new Map<number, Registration<D>>();

  constructor(rpc: RpcClient, makeDomain: (dom: Dom) => D) {
    this.#rpc = rpc;
    this.#makeDomain = makeDomain;
  }

  /**
   * Returns when the daemon has agreed: what happens from then on is in the stream.
   * @throws LibvirtError if it does not
   */
  async subscribe<K extends DomainEventKind>(
    kinds: readonly K[],
    { domain, maxBuffered = MAX_BUFFERED, signal }: EventsOptions,
  ): Promise<EventStream<EventOf<D, K>>> {
    signal?.throwIfAborted();
    if (!(maxBuffered >= 1)) throw new RangeError(`maxBuffered is a number from 1, and not ${maxBuffered}`);
    const joined: (() => Promise<void>)[] = [];
    const released = async () => {
      await Promise.all(joined.map((leave) => leave()));
    };
    const stream = new EventStream<EventOf<D>>({ signal, maxBuffered, released });
    try {
      await unlessAborted({ signal }, async () => {
        const registrations = [...new Set(kinds)].map((kind) => this.#join(kind, domain, stream));
        joined.push(...registrations.map(({ leave }) => leave));
        await Promise.all(registrations.map(({ ready }) => ready));
      });
    } catch (error) {
      await stream.return();
      throw error;
    }
    return stream as unknown as EventStream<EventOf<D, K>>;
  }

  /** A message of the daemon; others than events are left alone. */
  hear(procedure: number, payload: Uint8Array): void {
    const kind = KIND_OF_MESSAGE.get(procedure);
    if (kind === undefined) return;
    const event = this.#read(kind, payload);
    const registration = this.#byCallback.get(event.callbackID);
    if (registration?.kind !== kind) return;
    for (const reader of registration.readers) reader.add(event.event);
  }

  #read(kind: DomainEventKind, payload: Uint8Array): { callbackID: number; event: EventOf<D> } {
    const body = DomainEventMessages[kind].body.read(new XdrReader(payload));
    const told = (contents[kind] as (from: typeof body) => object)(body);
    const event = { kind, domain: this.#makeDomain(body.dom), ...told } as EventOf<D>;
    return { callbackID: body.callbackID, event };
  }

  /** The connection has ended. @param error unless this side has closed it */
  end(error: Error | undefined): void {
    const readers = [...this.#registrations.values()].flatMap((each) => [...each.readers]);
    this.#registrations.clear();
    this.#byCallback.clear();
    for (const reader of new Set(readers)) reader.fail(error);
  }

  #join(kind: DomainEventKind, domain: Dom | undefined, reader: EventStream<EventOf<D>>) {
    const key = `${kind} ${domain?.uuid ?? ''}`;
    const registration = this.#registrations.get(key) ?? this.#register(key, kind, domain);
    registration.readers.add(reader);
    const leave = async () => {
      registration.readers.delete(reader);
      if (registration.readers.size === 0) await this.#deregister(key, registration);
    };
    return { ready: registration.ready, leave };
  }

  #register(key: string, kind: DomainEventKind, domain: Dom | undefined): Registration<D> {
    const readers = new Set<EventStream<EventOf<D>>>();
    const args = { eventID: DomainEventMessages[kind].id, dom: domain };
    const taken = ({ callbackID }: { callbackID: number }) => {
      this.#byCallback.set(callbackID, registration);
      return callbackID;
    };
    const tooLate = ({ callbackID }: { callbackID: number }) => void this.#leave(callbackID).catch(() => {});
    const ready = (async () => {
      await this.#leaving.get(key);
      return this.#rpc.callAnd(Remote.connectDomainEventCallbackRegisterAny, args, {}, { taken, tooLate });
    })();
    const registration: Registration<D> = { kind, readers, ready };
    this.#registrations.set(key, registration);
    ready.catch(() => {
      if (this.#registrations.get(key) === registration) this.#registrations.delete(key);
    });
    return registration;
  }

  #leave(callbackID: number): Promise<unknown> {
    return this.#rpc.call(Remote.connectDomainEventCallbackDeregisterAny, { callbackID });
  }

  async #deregister(key: string, registration: Registration<D>): Promise<void> {
    if (this.#registrations.get(key) !== registration) return;
    this.#registrations.delete(key);
    const left = registration.ready
      .then((callbackID) => {
        this.#byCallback.delete(callbackID);
        return this.#leave(callbackID);
      })
      // Where the connection has ended, or never had it, there is nothing to leave.
      .catch(() => {});
    this.#leaving.set(key, left);
    await left;
    if (this.#leaving.get(key) === left) this.#leaving.delete(key);
  }
}
