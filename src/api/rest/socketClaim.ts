/**
 * The right to listen on a path, got before a VM starts: what can go wrong with an API's socket is then said first, and
 * the server itself can be loaded while the core is busy with the VM.
 */
import type { NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { claimSocketPath, type SocketPath, type Sockets } from '../../vmm/listeningSocket.ts';

export type ApiSocket = { readonly path: string } | { readonly fd: number };

export interface SocketClaim {
  /** As messages call it. */
  readonly name: string;
  /** Makes the socket. @param closer who closes the descriptor that is returned. @throws Error */
  listen(closer?: 'caller' | 'runtime'): number;
  /** Removes the socket and gives the claim back. Idempotent. */
  release(): void;
}

type ClaimableSockets = Sockets & Pick<NativeAddon, 'disownFile'>;

/**
 * Claims a path; a descriptor listens already.
 * @throws VmmError if another process uses the path, or something else is there
 */
export function claimSocket(sockets: ClaimableSockets, socket: ApiSocket): SocketClaim {
  if (!('path' in socket)) {
    return { name: `descriptor ${socket.fd}`, listen: () => socket.fd, release: () => {} };
  }
  const { path } = socket;
  let claim: SocketPath;
  try {
    claim = claimSocketPath(sockets, path);
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_TSVMM_SOCKET_LOCKED') {
      throw new VmmError(`The API socket ${path} is in use`, { cause: error });
    }
    throw new VmmError(`Cannot listen on the API socket ${path}`, { cause: error });
  }
  const listen: SocketClaim['listen'] = (closer = 'caller') => {
    const fd = claim.listen();
    if (closer === 'runtime') sockets.disownFile(fd);
    return fd;
  };
  return { name: path, listen, release: claim.close };
}
