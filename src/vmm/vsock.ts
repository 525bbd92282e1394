/** The host end of the socket device: the UNIX socket on which clients of the host reach the guest. */
import type { VsockConfig } from '../config/devices/vsock.ts';
import type { NativeAddon } from '../native.ts';
import { VmmError } from './errors.ts';
import { listenAt, type SocketOwner } from './listeningSocket.ts';

/**
 * Listens on the configured path.
 * @throws VmmError if something is there already, other than the socket of a process that is gone, or it cannot be made
 */
export function openVsock(native: NativeAddon, config: VsockConfig): SocketOwner {
  const path = config.socket;
  try {
    return listenAt(native, path);
  } catch (error) {
    throw new VmmError(`Cannot listen on the vsock's socket ${path}`, { cause: error });
  }
}
