/** The API's socket: who may connect, and what is left when it closes. */
import {
  listenStream,
  type StreamConnection,
  type StreamHandlers,
  type StreamListener,
} from '../../host/listen.ts';
import { VmmError } from '../../vmm/errors.ts';
import { Connection } from './connection.ts';
import type { ApiVmm } from './endpoints.ts';
import { encodeTooManyConnections } from './httpResponse.ts';
import type { SocketClaim } from './socketClaim.ts';

const MAX_CONNECTIONS = 10;
/** A client that has said nothing for so long makes room for a new one. */
const STALE_AFTER_MS = 5000;
/** How long closing waits for clients to take their last answers. */
const CLOSE_TIMEOUT_MS = 1000;

export interface RestServer {
  /** Takes no more requests, lets running ones be answered, then closes everything and removes the socket. */
  close(): Promise<void>;
}

/**
 * Serves the API of `vmm` until closed.
 * @throws VmmError if the socket cannot be bound; the claim is given back then
 */
export async function serveRest(vmm: ApiVmm, { socket, release }: SocketClaim): Promise<RestServer> {
  const clients = new Clients(vmm);
  try {
    const listener = await listenStream(socket, (stream) => clients.accept(stream));
    return { close: () => close(listener, clients, release) };
  } catch (error) {
    release();
    const name = 'path' in socket ? socket.path : `descriptor ${socket.fd}`;
    throw new VmmError(`Cannot listen on the API socket ${name}`, { cause: error });
  }
}

class Clients {
  readonly #vmm: ApiVmm;
  readonly #connections = new Set<Connection>();
  #whenQuiet: (() => void) | undefined;

  constructor(vmm: ApiVmm) {
    this.#vmm = vmm;
  }

  accept(stream: StreamConnection): StreamHandlers {
    if (this.#connections.size >= MAX_CONNECTIONS && !this.#makeRoom()) {
      stream.write(encodeTooManyConnections());
      stream.end();
      return { data: () => {}, ended: () => {}, drained: () => {}, closed: () => {} };
    }
    const connection: Connection = new Connection(
      this.#vmm,
      stream,
      () => this.#gone(connection),
      () => this.#quiet(),
    );
    this.#connections.add(connection);
    return connection;
  }

  /** Resolves when no client waits for an answer any more, or after a second. */
  async finish(): Promise<void> {
    if (this.#connections.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
      this.#whenQuiet = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#quiet();
    });
  }

  /** Ten silent clients must not lock everybody else out. */
  #makeRoom(): boolean {
    const oldest = performance.now() - STALE_AFTER_MS;
    for (const connection of this.#connections) {
      if (!connection.idle || connection.lastActive > oldest) continue;
      connection.finish();
      this.#connections.delete(connection);
      return true;
    }
    return false;
  }

  #gone(connection: Connection): void {
    this.#connections.delete(connection);
    this.#quiet();
  }

  #quiet(): void {
    if (this.#whenQuiet === undefined) return;
    for (const connection of this.#connections) {
      if (connection.busy) return;
    }
    this.#whenQuiet();
  }
}

async function close(listener: StreamListener, clients: Clients, release: () => void): Promise<void> {
  listener.close(false);
  release();
  await clients.finish();
  listener.close(true);
}
