/** Stream sockets on a listening UNIX socket, in the same way on Bun and on Node.js. */
import { type BunSocket, bun } from './bun.ts';

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
}

/** What a connection's owner hears. Nothing comes after `closed`. */
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

export type ListenTarget = { readonly path: string } | { readonly fd: number };

/**
 * Accepts connections until closed. A path is bound and must not exist.
 * @throws Error with `code` an errno name if the address cannot be listened on
 */
export async function listenStream(
  target: ListenTarget,
  accept: (connection: StreamConnection) => StreamHandlers,
): Promise<StreamListener> {
  if (bun) return listenOnBun(bun, target, accept);
  const { listenOnNode } = await import('./listenNode.ts');
  return listenOnNode(target, accept);
}

interface BunState {
  handlers: StreamHandlers;
  pending: Uint8Array[];
  ending: boolean;
}

function listenOnBun(
  runtime: NonNullable<typeof bun>,
  target: ListenTarget,
  accept: (connection: StreamConnection) => StreamHandlers,
): StreamListener {
  const address = 'path' in target ? { unix: target.path } : { fd: target.fd };
  const listener = runtime.listen<BunState>({
    ...address,
    // A client may shut its sending side down and still wait for the answer.
    allowHalfOpen: true,
    socket: {
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
    },
  });
  return { close: (connectionsToo) => listener.stop(connectionsToo) };
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
