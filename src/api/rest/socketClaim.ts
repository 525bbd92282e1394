/**
 * The right to listen on a path, got before a VM starts: what can go wrong with the API socket is then said first, and
 * the server itself can be loaded while the core is busy with the VM.
 */
import { O_CREAT, O_RDWR, PRIVATE_FILE } from '../../host/openFlags.ts';
import type { NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';

export type ApiSocket = { readonly path: string } | { readonly fd: number };

export interface SocketClaim {
  readonly socket: ApiSocket;
  /** Removes the socket and gives the claim back. Idempotent. */
  release(): void;
}

type Files = Pick<NativeAddon, 'openFile' | 'closeFile' | 'lockRange' | 'removeFile'>;

/** Bytes of sockaddr_un's path, less the terminating zero. */
const MAX_PATH = 107;

/**
 * Takes the lock beside the socket, and with it the right to remove a socket that an earlier process left. Descriptors
 * need no claim.
 * @throws VmmError if another process holds the lock, or a socket of that path cannot be made
 */
export function claimSocket(files: Files, socket: ApiSocket): SocketClaim {
  if (!('path' in socket)) return { socket, release: () => {} };
  const { path } = socket;
  if (Buffer.byteLength(path) > MAX_PATH) {
    throw new VmmError(`The API socket's path has more than ${MAX_PATH} bytes: ${path}`);
  }
  const lockPath = `${path}.lock`;
  const fd = openLock(files, lockPath);
  try {
    if (!files.lockRange(fd, true, 0, 0)) {
      throw new VmmError(`The API socket ${path} is in use: another process holds ${lockPath}`);
    }
    removeStale(files, path);
  } catch (error) {
    files.closeFile(fd);
    throw error;
  }
  let held = true;
  const release = () => {
    if (!held) return;
    held = false;
    removeIfPossible(files, path);
    // While locked: otherwise the file of the process that locks it next could be removed.
    removeIfPossible(files, lockPath);
    files.closeFile(fd);
  };
  return { socket, release };
}

function openLock(files: Files, lockPath: string): number {
  try {
    return files.openFile(lockPath, O_RDWR | O_CREAT, PRIVATE_FILE);
  } catch (error) {
    throw new VmmError(`Cannot open the lock file ${lockPath}`, { cause: error });
  }
}

function removeStale(files: Files, path: string): void {
  try {
    files.removeFile(path);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return;
    throw new VmmError(`Cannot listen on the API socket ${path}`, { cause: error });
  }
}

function removeIfPossible(files: Files, path: string): void {
  try {
    files.removeFile(path);
  } catch {
    // Somebody else removed it.
  }
}
