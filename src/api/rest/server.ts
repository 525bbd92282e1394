/** The API's socket: who may listen, who may connect, and what is left when it closes. */
import {
  listenStream,
  type StreamConnection,
  type StreamHandlers,
  type StreamListener,
} from '../../host/listen.ts';
import { O_CREAT, O_RDWR, PRIVATE_FILE } from '../../host/openFlags.ts';
import type { NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { Connection } from './connection.ts';
import type { ApiVmm } from './endpoints.ts';
import { encodeTooManyConnections } from './httpResponse.ts';

const MAX_CONNECTIONS = 10;
/** Bytes of sockaddr_un's path, less the terminating zero. */
const MAX_PATH = 107;
/** A client that has said nothing for so long makes room for a new one. */
const STALE_AFTER_MS = 5000;
/** How long closing waits for clients to take their last answers. */
const CLOSE_TIMEOUT_MS = 1000;

export type ApiSocket = { readonly path: string } | { readonly fd: number };

type Files = Pick<NativeAddon, 'openFile' | 'closeFile' | 'lockRange' | 'removeFile'>;

export interface RestServer {
  /** Takes no more requests, lets running ones be answered, then closes everything and removes the socket. */
  close(): Promise<void>;
  /** Removes the socket's file, for a process that must end at once. */
  abandon(): void;
}

/**
 * Serves the API of `vmm` until closed.
 * @throws VmmError if another process serves this socket, or it cannot be bound
 */
export async function serveRest(files: Files, vmm: ApiVmm, socket: ApiSocket): Promise<RestServer> {
  if ('path' in socket && Buffer.byteLength(socket.path) > MAX_PATH) {
    throw new VmmError(`The API socket's path has more than ${MAX_PATH} bytes: ${socket.path}`);
  }
  const release = 'path' in socket ? claimPath(files, socket.path) : () => {};
  const clients = new Clients(vmm);
  try {
    const listener = await listenStream(socket, (stream) => clients.accept(stream));
    return { close: () => close(listener, clients, release), abandon: release };
  } catch (error) {
    release();
    const name = 'path' in socket ? socket.path : `descriptor ${socket.fd}`;
    throw new VmmError(`Cannot listen on the API socket ${name}`, { cause: error });
  }
}

/**
 * Takes the lock beside the socket, and with it the right to remove a socket that an earlier process left.
 * @returns what gives both back; idempotent
 */
function claimPath(files: Files, path: string): () => void {
  const lockPath = `${path}.lock`;
  const fd = openLock(files, lockPath);
  if (!files.lockRange(fd, true, 0, 0)) {
    files.closeFile(fd);
    throw new VmmError(`The API socket ${path} is in use: another process holds ${lockPath}`);
  }
  removeIfPossible(files, path);
  let held = true;
  return () => {
    if (!held) return;
    held = false;
    removeIfPossible(files, path);
    // While locked: otherwise the file of the process that locks it next could be removed.
    removeIfPossible(files, lockPath);
    files.closeFile(fd);
  };
}

function openLock(files: Files, lockPath: string): number {
  try {
    return files.openFile(lockPath, O_RDWR | O_CREAT, PRIVATE_FILE);
  } catch (error) {
    throw new VmmError(`Cannot open the lock file ${lockPath}`, { cause: error });
  }
}

function removeIfPossible(files: Files, path: string): void {
  try {
    files.removeFile(path);
  } catch {
    // Not there; and where it cannot be removed, binding says so.
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
