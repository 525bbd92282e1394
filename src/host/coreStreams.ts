/**
 * Connections that the core keeps (native/host/stream_server.h), in the way in which `listen.ts` has those of the
 * runtimes.
 */
import { MAX_TIMER_MS } from '../config/limits.ts';
import type { NativeAddon, StreamEvent, StreamServerHandle } from '../native.ts';
import type { Accept, StreamConnection, StreamHandlers, StreamListener } from './listen.ts';

type CoreSockets = Pick<
  NativeAddon,
  | 'openStreams'
  | 'streamListen'
  | 'streamAdopt'
  | 'streamTake'
  | 'streamWrite'
  | 'streamEnd'
  | 'streamAbort'
  | 'stopListening'
  | 'closeStreams'
  | 'closeFile'
>;

/** A timer that keeps the process alive, and practically never fires. */
const NEVER_MS = MAX_TIMER_MS;

export class CoreStreams {
  readonly #sockets: CoreSockets;
  readonly #connections = new Map<number, CoreConnection>();
  #server: StreamServerHandle | undefined;
  #accept: Accept | undefined;
  /** Keeps the process alive, which events of the core do not. */
  #alive: ReturnType<typeof setInterval> | undefined;

  constructor(sockets: CoreSockets) {
    this.#sockets = sockets;
  }

  get listens(): boolean {
    return this.#accept !== undefined;
  }

  /** @param fd of a connected stream socket, closed here @throws Error if it is none */
  adopt(fd: number, accept: Accept): void {
    try {
      this.#add(this.#sockets.streamAdopt(this.#open(), fd), accept);
    } finally {
      this.#sockets.closeFile(fd);
      this.#settle();
    }
  }

  /**
   * Once.
   * @param fd of a stream socket that listens, closed here
   * @param limit of connections at once
   * @throws Error if it does not
   */
  listen(fd: number, limit: number, accept: Accept): StreamListener {
    try {
      this.#sockets.streamListen(this.#open(), fd, limit);
      this.#accept = accept;
    } finally {
      this.#sockets.closeFile(fd);
      this.#settle();
    }
    return { close: (connectionsToo) => this.#stopListening(connectionsToo) };
  }

  #stopListening(connectionsToo: boolean): void {
    if (this.#server === undefined || this.#accept === undefined) return;
    this.#accept = undefined;
    this.#sockets.stopListening(this.#server);
    if (connectionsToo) for (const connection of this.#connections.values()) connection.terminate();
    this.#settle();
  }

  #open(): StreamServerHandle {
    this.#server ??= this.#sockets.openStreams((id, event) => this.#event(id, event));
    return this.#server;
  }

  #add(id: number, accept: Accept): void {
    const changed = () => this.#settle();
    const connection = new CoreConnection(this.#sockets, this.#open(), id, changed);
    this.#connections.set(id, connection);
    connection.handlers = accept(connection);
  }

  #event(id: number, event: StreamEvent): void {
    if (event === 'opened') {
      // It may have been accepted just before the server stopped listening.
      if (this.#accept) this.#add(id, this.#accept);
      else if (this.#server) this.#sockets.streamAbort(this.#server, id);
    } else {
      const connection = this.#connections.get(id);
      if (connection) this.#tell(id, connection, event);
    }
    if (event === 'opened' || event === 'closed') this.#settle();
  }

  #tell(id: number, connection: CoreConnection, event: StreamEvent): void {
    if (event === 'received') connection.receive();
    else if (event === 'drained') connection.drained();
    else if (event === 'closed') {
      this.#connections.delete(id);
      connection.handlers.closed();
    }
  }

  /** The process lives for what is referenced, and the core's thread for what there is. */
  #settle(): void {
    const referenced = this.listens || [...this.#connections.values()].some((each) => each.referenced);
    if (!referenced) {
      clearInterval(this.#alive);
      this.#alive = undefined;
    } else {
      this.#alive ??= setInterval(() => {}, NEVER_MS);
    }
    // Not while an event of it is being told.
    if (this.#isIdle()) setImmediate(() => this.#closeIfIdle()).unref();
  }

  #isIdle(): boolean {
    return this.#server !== undefined && !this.listens && this.#connections.size === 0;
  }

  #closeIfIdle(): void {
    if (!this.#isIdle()) return;
    this.#sockets.closeStreams(this.#server as StreamServerHandle);
    this.#server = undefined;
  }
}

const noHandlers: StreamHandlers = { data: () => {}, ended: () => {}, drained: () => {}, closed: () => {} };

class CoreConnection implements StreamConnection {
  handlers = noHandlers;
  referenced = true;
  waiting = false;
  readonly #sockets: CoreSockets;
  readonly #server: StreamServerHandle;
  readonly #id: number;
  readonly #referencesChanged: () => void;
  #paused = false;
  /** The core has said that there is something, and says so once. */
  #told = false;
  #ended = false;
  #ending = false;

  constructor(sockets: CoreSockets, server: StreamServerHandle, id: number, referencesChanged: () => void) {
    this.#sockets = sockets;
    this.#server = server;
    this.#id = id;
    this.#referencesChanged = referencesChanged;
  }

  write(bytes: Uint8Array): void {
    if (!this.#ending && this.#sockets.streamWrite(this.#server, this.#id, bytes) === 'waiting')
      this.waiting = true;
  }

  end(): void {
    this.#ending = true;
    this.#sockets.streamEnd(this.#server, this.#id);
  }

  terminate(): void {
    this.#ending = true;
    this.#sockets.streamAbort(this.#server, this.#id);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#told) queueMicrotask(() => this.receive());
  }

  ref(): void {
    this.#refer(true);
  }

  unref(): void {
    this.#refer(false);
  }

  #refer(referenced: boolean): void {
    this.referenced = referenced;
    this.#referencesChanged();
  }

  receive(): void {
    this.#told = true;
    while (this.#told && !this.#paused && !this.#ending) this.#take();
  }

  #take(): void {
    const { bytes, descriptors, more, ended, gone } = this.#sockets.streamTake(this.#server, this.#id);
    // None is asked for.
    for (const fd of descriptors) this.#sockets.closeFile(fd);
    this.#told = more;
    if (bytes.length > 0) this.handlers.data(bytes);
    if (more || this.#ending) return;
    if (ended && !this.#ended) {
      this.#ended = true;
      this.handlers.ended();
    }
    if (gone) this.terminate();
  }

  drained(): void {
    this.waiting = false;
    if (!this.#ending) this.handlers.drained();
  }
}
