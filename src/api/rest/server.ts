/** The API's socket: who may connect, and what is left when it closes. */
import type { NativeAddon, StreamEvent, StreamServerHandle } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import type { EventLog } from '../../vmm/eventLog.ts';
import { Connection, type ConnectionContext, type Streams } from './connection.ts';
import { Descriptors } from './descriptors.ts';
import type { ApiVmm } from './endpoint.ts';
import { answerRequest } from './endpoints.ts';
import type { ErrorStyle } from './errorStyle.ts';
import type { HttpRequest } from './httpRequest.ts';
import type { Answer } from './httpResponse.ts';
import { MemoryBudget } from './memoryBudget.ts';
import { referenceErrors } from './referenceErrors.ts';
import { RememberedAnswers, type RememberingStreams } from './rememberedAnswers.ts';
import type { SocketClaim } from './socketClaim.ts';

const MAX_CONNECTIONS = 512;
/** Of bodies that are on their way, of all clients together: four of the largest. */
const MAX_BODIES = 16 * 1024 * 1024;
/** How long closing waits for clients to take their last answers. */
const CLOSE_TIMEOUT_MS = 1000;

export interface RestServer {
  /** Takes no more requests, lets running ones be answered, then closes everything and removes the socket. */
  close(): Promise<void>;
}

export type ServerStreams = Streams &
  RememberingStreams &
  Pick<NativeAddon, 'serveStreams' | 'streamLongestIdle' | 'stopListening' | 'closeStreams'>;

export interface RestOptions {
  /** What `vm.events` tells; without it there is no such endpoint. */
  readonly events?: EventLog;
  /** As the reference does unless given. */
  readonly errors?: ErrorStyle;
}

/** Accepts connections, once there is a listener for them. */
export interface Source {
  readonly streams: Streams & Pick<ServerStreams, 'streamLongestIdle' | 'closeStreams'>;
  readonly handle: StreamServerHandle;
  /** What keeps answers, if anything does. */
  readonly remembering?: RememberingStreams;
  stopListening(): void;
}

type OpenSource = (onEvent: (connection: number, event: StreamEvent) => void) => Source;

/**
 * Serves the API of `vmm` until closed.
 * @throws VmmError if the socket cannot be listened on; the claim is given back then
 */
export function serveRest(
  vmm: ApiVmm,
  claim: SocketClaim,
  streams: ServerStreams,
  options: RestOptions = {},
): RestServer {
  const { name, listen, release } = claim;
  const open: OpenSource = (onEvent) => {
    const fd = listen();
    let handle: StreamServerHandle;
    try {
      handle = streams.serveStreams(fd, onEvent);
    } finally {
      streams.closeFile(fd);
    }
    const stopListening = () => {
      streams.stopListening(handle);
      release();
    };
    return { streams, handle, remembering: streams, stopListening };
  };
  try {
    return new Server(vmm, options, open);
  } catch (error) {
    release();
    throw new VmmError(`Cannot listen on the API socket ${name}`, { cause: error });
  }
}

export class Server implements RestServer {
  readonly #vmm: ApiVmm;
  readonly #source: Source;
  readonly #context: ConnectionContext;
  readonly #forgetVmm: () => void;
  readonly #connections = new Map<number, Connection>();
  #whenQuiet: (() => void) | undefined;

  constructor(vmm: ApiVmm, { events, errors = referenceErrors }: RestOptions, open: OpenSource) {
    this.#vmm = vmm;
    this.#source = open((id, event) => this.#event(id, event));
    const { streams, handle, remembering } = this.#source;
    const remembered =
      remembering && new RememberedAnswers(remembering, handle, (request) => this.#answerNow(request));
    this.#context = {
      vmm,
      streams,
      server: handle,
      events,
      errors,
      remembered,
      bodies: new MemoryBudget(MAX_BODIES),
      onQuiet: () => this.#quiet(),
    };
    this.#forgetVmm = remembered ? vmm.watchInfo(() => remembered.refresh()) : () => {};
  }

  async close(): Promise<void> {
    this.#forgetVmm();
    this.#source.stopListening();
    await this.#answered();
    this.#source.streams.closeStreams(this.#source.handle);
  }

  #answerNow(request: HttpRequest): Answer | undefined {
    const answer = answerRequest(this.#vmm, request, new Descriptors(this.#source.streams));
    return answer instanceof Promise ? undefined : answer;
  }

  #event(id: number, event: StreamEvent): void {
    if (event === 'opened') {
      this.#accept(id);
      return;
    }
    this.#connections.get(id)?.[event]();
    if (event !== 'closed') return;
    this.#connections.delete(id);
    this.#quiet();
  }

  #accept(id: number): void {
    const full = this.#isFull() && !this.#makeRoom(id);
    const connection = new Connection(this.#context, id);
    this.#connections.set(id, connection);
    if (full) connection.refuse(this.#context.errors.encodeTooManyConnections());
  }

  /** Clients that have left, whose connections the core has not reported as closed yet, do not count. */
  #isFull(): boolean {
    if (this.#connections.size < MAX_CONNECTIONS) return false;
    let open = 0;
    for (const { finished } of this.#connections.values()) if (!finished) open++;
    return open >= MAX_CONNECTIONS;
  }

  /** Clients that say nothing must not lock everybody else out. */
  #makeRoom(newest: number): boolean {
    const id = this.#source.streams.streamLongestIdle(this.#source.handle);
    if (id === null || id === newest) return false;
    this.#connections.get(id)?.finish();
    this.#connections.delete(id);
    return true;
  }

  /** Resolves when no client waits for an answer any more, or after a second. */
  async #answered(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
      this.#whenQuiet = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#quiet();
    });
  }

  #quiet(): void {
    if (this.#whenQuiet === undefined) return;
    for (const connection of this.#connections.values()) {
      if (connection.busy) return;
    }
    this.#whenQuiet();
  }
}
