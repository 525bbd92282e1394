/** The interface of a service manager (sd_listen_fds(3), sd_notify(3)). */
import type { NativeAddon } from '../native.ts';

/** The first descriptor that is handed over (SD_LISTEN_FDS_START). */
const FIRST_FD = 3;
/** Of a millisecond. */
const MICROSECONDS = 1_000;
/** The socket of a manager with many notifications at once is full for a while, and READY is sent only once. */
const READY_TRIES = 100;
const READY_RETRY_MS = 50;

/** Variables that are about this process, and must not reach those that it starts. */
const OWN = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'NOTIFY_SOCKET', 'WATCHDOG_PID', 'WATCHDOG_USEC'];

export interface ServiceManager {
  /** Listening sockets by the names of their units (FileDescriptorName=). */
  readonly sockets: ReadonlyMap<string, number>;
  /** Begins to report that the process is alive, if the manager has a watchdog. */
  ready(): void;
  stopping(): void;
}

/** Reads the environment, and takes out of it what is not for others. */
export function serviceManager(
  native: Pick<NativeAddon, 'sendDatagram'>,
  environment: NodeJS.ProcessEnv,
  warn: (message: string) => void,
): ServiceManager {
  const { NOTIFY_SOCKET: address, WATCHDOG_USEC, WATCHDOG_PID } = environment;
  const sockets = handedOver(environment);
  const watched = WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid);
  const watchdogMs = watched ? Number(WATCHDOG_USEC ?? 0) / MICROSECONDS : 0;
  for (const name of OWN) delete environment[name];
  let again: ReturnType<typeof setTimeout> | undefined;
  const tell = (state: string, tries = 1) => {
    if (!address) return;
    try {
      native.sendDatagram(address, new TextEncoder().encode(state));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN' && tries > 1) again = setTimeout(() => tell(state, tries - 1), READY_RETRY_MS);
      else warn(`The service manager cannot be told: ${message}`);
    }
  };
  let watchdog: ReturnType<typeof setInterval> | undefined;
  return {
    sockets,
    ready: () => {
      tell('READY=1\n', READY_TRIES);
      // Twice in its time, as is recommended.
      if (watchdogMs > 0) watchdog = setInterval(() => tell('WATCHDOG=1\n'), watchdogMs / 2);
    },
    stopping: () => {
      clearInterval(watchdog);
      clearTimeout(again);
      tell('STOPPING=1\n');
    },
  };
}

function handedOver({ LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = '' }: NodeJS.ProcessEnv): Map<string, number> {
  // They may have been another's, whose environment this process has.
  if (LISTEN_PID !== String(process.pid)) return new Map();
  const names = LISTEN_FDNAMES.split(':');
  const count = Number(LISTEN_FDS ?? 0);
  return new Map(Array.from({ length: count }, (_, i) => [names[i] || 'unknown', FIRST_FD + i]));
}
