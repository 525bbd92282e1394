/** UNIX sockets of the host that this process listens on. */
import type { NativeAddon } from '../native.ts';

/** Who closes a descriptor: who asked for it, or what of the runtime it is given to. */
export type Closer = 'caller' | 'runtime';

/** The exclusive right to listen on a path, whether there is a socket yet or not. */
export interface SocketPath {
  /** Makes the socket, once. @returns its descriptor. @throws Error */
  listen(closer?: Closer): number;
  /** Where a server binds that makes its socket itself. */
  readonly bindName: string;
  /** Gives that socket the path, once, when it listens. @throws Error, and the socket has no name any more */
  place(): void;
  /** Removes the socket and gives the claim back. Idempotent. */
  close(): void;
}

export interface SocketOwner {
  readonly listener: number;
  /** Removes the socket and closes it. Idempotent. */
  close(): void;
}

export type Sockets = Pick<
  NativeAddon,
  'claimSocket' | 'listenUnix' | 'placeSocket' | 'removeListeningSocket' | 'closeFile' | 'disownFile'
>;

/** @throws Error of `claimSocket` */
export function claimSocketPath(native: Sockets, path: string): SocketPath {
  const { lock, lockId, name } = native.claimSocket(path);
  let open = true;
  let id = '';
  return {
    listen: (closer = 'caller') => {
      const socket = native.listenUnix(path);
      id = socket.id;
      if (closer === 'runtime') native.disownFile(socket.listener);
      return socket.listener;
    },
    bindName: name,
    place: () => {
      id = native.placeSocket(name, path);
    },
    close: () => {
      if (!open) return;
      open = false;
      // First, because the lock is what keeps the next process from the path.
      native.removeListeningSocket(path, id, lockId);
      native.closeFile(lock);
    },
  };
}

/** @throws Error of `claimSocket` or `listenUnix`, with nothing left behind */
export function listenAt(native: Sockets, path: string): SocketOwner {
  const claim = claimSocketPath(native, path);
  try {
    const listener = claim.listen();
    let open = true;
    const close = () => {
      if (!open) return;
      open = false;
      claim.close();
      native.closeFile(listener);
    };
    return { listener, close };
  } catch (error) {
    claim.close();
    throw error;
  }
}
