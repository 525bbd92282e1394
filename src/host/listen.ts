/** Stream sockets on a listening UNIX socket, in the same way on Bun and on Node.js. */
import { type BunSocket, type BunSocketHandlers, bun } from './bun.ts';
import { adoptOnNode, listenOnNode } from './listenNode.ts';

/** One accepted connection. */
export interface StreamConnection {
  /** Queues bytes; they leave in order, as fast as the peer takes them. */
  write(bytes: Uint8Array): void;
  /** True if bytes written have not left this process yet. */
  readonly waiting: boolean;
  /** Closes after everything written has left. */
  end(): void;
  /** Closes at once; what has not left is lost. */
  terminate(): void;
  /** Stops and goes on with reading. */
  pause(): void;
  resume(): void;
  /** Whether the connection keeps the process alive; it does at first. */
  ref(): void;
  unref(): void;
}

/** Events of a connection. None follows `closed`. */
export interface StreamHandlers {
  data(bytes: Uint8Array): void;
  /** The peer will send no more, but may still read. */
  ended(): void;
  /** Everything written so far has left, after some of it had to wait. */
  drained(): void;
  closed(): void;
}

export interface StreamListener {
  /** Stops listening; connections live on unless `connectionsToo`. */
  close(connectionsToo: boolean): void;
}

/** Says who serves a new connection. Only the connection itself may be used before it has returned. */
export type Accept = (connection: StreamConnection) => StreamHandlers;

/**
 * Accepts connections until closed.
 * @param fd a UNIX stream socket that is bound; the listener's from now on
 * @throws Error with `code` an errno name if the descriptor cannot be listened on
 */
export async function listenStream(fd: number, accept: Accept): Promise<StreamListener> {
  if (bun) return listenOnBun(bun, fd, accept);
  return listenOnNode(fd, accept);
}

/**
 * Makes a connection of a connected stream socket's descriptor, which is the connection's from then on. A descriptor
 * that is none is a connection that closes.
 */
export type AdoptStream = (fd: number, accept: Accept) => void;

/** How that is done on this runtime. */
export function streamAdopter(): AdoptStream {
  if (!bun) return adoptOnNode;
  const runtime = bun;
  return (fd, accept) => adoptOnBun(runtime, fd, accept);
}

function adoptOnBun(runtime: NonNullable<typeof bun>, fd: number, accept: Accept): void {
  let opened = false;
  const socket = bunHandlers((connection) => {
    opened = true;
    return accept(connection);
  });
  runtime.connect<BunState>({ fd, allowHalfOpen: true, socket }).catch(() => {
    if (!opened) accept(noConnection).closed();
  });
}

const noConnection: StreamConnection = {
  waiting: false,
  write: () => {},
  end: () => {},
  terminate: () => {},
  pause: () => {},
  resume: () => {},
  ref: () => {},
  unref: () => {},
};

interface BunState {
  handlers: StreamHandlers;
  pending: Uint8Array[];
  ending: boolean;
}

function listenOnBun(runtime: NonNullable<typeof bun>, fd: number, accept: Accept): StreamListener {
  const listener = runtime.listen<BunState>({
    fd,
    // A client may shut its sending side down and still wait for the answer.
    allowHalfOpen: true,
    socket: bunHandlers(accept),
  });
  return { close: (connectionsToo) => listener.stop(connectionsToo) };
}

function bunHandlers(accept: Accept): BunSocketHandlers<BunState> {
  return {
    open: (socket) => {
      const handlers = accept(bunConnection(socket));
      // `accept` may write at once, and has then made the state.
      bunState(socket).handlers = handlers;
    },
    data: (socket, bytes) => socket.data.handlers.data(bytes),
    drain: flush,
    end: (socket) => socket.data.handlers.ended(),
    close: (socket) => socket.data.handlers.closed(),
    error: (socket) => socket.terminate(),
  };
}

const noHandlers: StreamHandlers = { data: () => {}, ended: () => {}, drained: () => {}, closed: () => {} };

function bunState(socket: BunSocket<BunState>): BunState {
  socket.data ??= { handlers: noHandlers, pending: [], ending: false };
  return socket.data;
}

function bunConnection(socket: BunSocket<BunState>): StreamConnection {
  return {
    get waiting() {
      return bunState(socket).pending.length > 0;
    },
    write: (bytes) => {
      const state = bunState(socket);
      if (state.pending.length > 0) state.pending.push(bytes);
      else keepRest(state, bytes, socket.write(bytes));
    },
    end: () => {
      const state = bunState(socket);
      state.ending = true;
      if (state.pending.length === 0) socket.end();
    },
    terminate: () => socket.terminate(),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    ref: () => socket.ref(),
    unref: () => socket.unref(),
  };
}

/** Keeps what the kernel did not take. A closed socket takes -1: its bytes are lost anyway. */
function keepRest(state: BunState, bytes: Uint8Array, taken: number): void {
  if (taken >= 0 && taken < bytes.length) state.pending.push(bytes.subarray(taken));
}

function flush(socket: BunSocket<BunState>): void {
  const state = bunState(socket);
  if (state.pending.length === 0) return;
  const waiting = state.pending;
  state.pending = [];
  for (const bytes of waiting) {
    if (state.pending.length > 0) state.pending.push(bytes);
    else keepRest(state, bytes, socket.write(bytes));
  }
  if (state.pending.length > 0) return;
  if (state.ending) socket.end();
  else state.handlers.drained();
}
