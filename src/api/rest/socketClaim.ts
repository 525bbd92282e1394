/**
 * The right to listen on a path, got before a VM starts: what can go wrong with an API's socket is then said first, and
 * the server itself can be loaded while the core is busy with the VM.
 */
import { VmmError } from '../../vmm/errors.ts';
import { type Closer, claimSocketPath, type SocketPath, type Sockets } from '../../vmm/listeningSocket.ts';

export type ApiSocket = { readonly path: string } | { readonly fd: number };

export interface SocketClaim {
  /** As messages call it. */
  readonly name: string;
  /** Makes the socket. @returns its descriptor. @throws Error */
  listen(closer?: Closer): number;
  /** Removes the socket and gives the claim back. Idempotent. */
  release(): void;
}

/**
 * Claims a path; a descriptor listens already.
 * @throws VmmError if another process uses the path, or something else is there
 */
export function claimSocket(sockets: Sockets, socket: ApiSocket): SocketClaim {
  if (!('path' in socket)) {
    return { name: `descriptor ${socket.fd}`, listen: () => socket.fd, release: () => {} };
  }
  const { path } = socket;
  const { listen, close: release } = claimApiPath(sockets, path);
  return { name: path, listen, release };
}

/** @throws VmmError if another process uses the path, or something else is there */
export function claimApiPath(sockets: Sockets, path: string): SocketPath {
  try {
    return claimSocketPath(sockets, path);
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_TSVMM_SOCKET_LOCKED') {
      throw new VmmError(`The API socket ${path} is in use`, { cause: error });
    }
    throw new VmmError(`Cannot listen on the API socket ${path}`, { cause: error });
  }
}
