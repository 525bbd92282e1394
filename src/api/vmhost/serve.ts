/** A VM's socket and PID file, from the moment when it is up until it is gone. */
import type { NativeAddon } from '../../native.ts';
import type { VmmExit } from '../../vmm/events.ts';
import { claimSocket, type SocketClaim } from '../rest/socketClaim.ts';
import type { VmController } from './controller.ts';
import { writePidFile } from './pidFile.ts';
import { listenVmhost, type VmhostServerOptions } from './server.ts';

export interface VmhostPaths {
  readonly socketPath: string;
  readonly pidPath: string;
}

export interface VmhostService {
  /** Closes the connections and removes both files. Idempotent; also done when the VM is gone or the process ends. */
  close(): Promise<void>;
}

/**
 * Serves until the VM is gone. A pair that a dead process left is replaced.
 * @throws VmmError if another process serves the socket, or one of the two cannot be made
 */
export function serveVmhost(
  native: NativeAddon,
  controller: VmController,
  { socketPath, pidPath }: VmhostPaths,
  options: VmhostServerOptions = {},
): Promise<VmhostService> {
  return serveClaimed(claimSocket(native, { path: socketPath }), controller, pidPath, options);
}

/** The same with a socket that was claimed before the VM started, so that no other process could start it as well. */
export async function serveClaimed(
  claim: SocketClaim,
  controller: VmController,
  pidPath: string,
  options: VmhostServerOptions = {},
): Promise<VmhostService> {
  let removePid = () => {};
  const release = () => {
    removePid();
    claim.release();
  };
  process.on('exit', release);
  try {
    removePid = writePidFile(pidPath);
    const listener = await listenVmhost(controller, claim, options);
    let closed: Promise<void> | undefined;
    const close = (exit?: VmmExit) => {
      release();
      process.off('exit', release);
      closed ??= listener.close(exit);
      return closed;
    };
    void controller.exited.then(close);
    return { close: () => close() };
  } catch (error) {
    release();
    process.off('exit', release);
    throw error;
  }
}
