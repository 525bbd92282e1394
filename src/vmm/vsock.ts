/** The host end of the socket device: the UNIX socket on which clients of the host reach the guest. */
import type { VsockConfig } from '../config/devices/vsock.ts';
import type { NativeAddon } from '../native.ts';
import { VmmError } from './errors.ts';

export interface VsockListener {
  readonly fd: number;
  /** Stops listening and removes the socket. */
  close(): void;
}

/**
 * Listens on the configured path.
 * @throws VmmError if something is there already, other than the socket of a process that is gone, or it cannot be made
 */
export function openVsock(native: NativeAddon, config: VsockConfig): VsockListener {
  const path = config.socket;
  let fd: number;
  try {
    fd = native.listenUnix(path);
  } catch (error) {
    throw new VmmError(`Cannot listen on the vsock's socket ${path}`, { cause: error });
  }
  const close = () => {
    native.closeFile(fd);
    try {
      native.removeFile(path);
    } catch {
      // Somebody else removed it.
    }
  };
  return { fd, close };
}
