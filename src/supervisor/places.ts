/** The folders and sockets of a supervisor. */
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { UsageError } from '../cli/usageError.ts';

/** Also what a service manager calls it that hands it over. */
export const API_SOCKET_NAME = 'tsvmmd.sock';

export interface Places {
  /** Everything else is below it; a VM's folder is `vms/NAME`. */
  readonly root: string;
  /** For programs and the command line. */
  readonly apiSocket: string;
  /** For the processes of VMs, which report here. Its lock makes a supervisor the only one of the folder. */
  readonly childSocket: string;
  /**
   * Where libvirt's clients look for a daemon's sockets, unless they are told where they are; absent where everything
   * is in one folder.
   */
  readonly libvirtFolder?: string;
}

/**
 * @param dir everything below it; unless it or TSVMM_DIR is given, where a system service (root) or a user's own is
 * expected to keep its state and sockets (XDG Base Directory Specification)
 * @throws UsageError
 */
export function supervisorPlaces(dir: string | undefined, environment: NodeJS.ProcessEnv): Places {
  // As where a script's variable is not set: another supervisor's VMs are not meant.
  if (dir === '') throw new UsageError('--dir needs a folder');
  const folder = dir ?? environment.TSVMM_DIR;
  if (folder) return below(resolve(folder), resolve(folder));
  if (process.getuid?.() === 0)
    return { ...below('/var/lib/tsvmm', '/run/tsvmm'), libvirtFolder: '/run/libvirt' };
  const home = absolute(environment.HOME) ?? homedir();
  const state = `${absolute(environment.XDG_STATE_HOME) ?? `${home}/.local/state`}/tsvmm`;
  const runtime = absolute(environment.XDG_RUNTIME_DIR);
  if (!runtime) return below(state, state);
  return { ...below(state, `${runtime}/tsvmm`), libvirtFolder: `${runtime}/libvirt` };
}

/** Others are to be ignored, empty ones too (XDG Base Directory Specification). */
function absolute(path: string | undefined): string | undefined {
  return path?.startsWith('/') ? path : undefined;
}

function below(root: string, runtime: string): Places {
  return { root, apiSocket: `${runtime}/${API_SOCKET_NAME}`, childSocket: `${root}/children.sock` };
}
