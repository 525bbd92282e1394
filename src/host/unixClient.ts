/** Connecting to UNIX stream sockets of other processes. */
import type { NativeAddon } from '../native.ts';
import { sleep } from './sleep.ts';

/** A server that is busy, with a full queue, is asked again. */
const RETRY_MS = 20;

export interface ConnectWithin {
  /** In `performance.now()`'s time. */
  readonly deadline: number;
  /** To a console: nothing will be sent. */
  readonly reader?: boolean;
}

/**
 * @returns the caller's descriptor
 * @throws Error why it is not served, `EAGAIN` if the server accepts no connection until the deadline
 */
export async function connectWithin(
  sockets: Pick<NativeAddon, 'connectUnix'>,
  path: string,
  { deadline, reader = false }: ConnectWithin,
): Promise<number> {
  for (;;) {
    try {
      return sockets.connectUnix(path, reader);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || performance.now() >= deadline) throw error;
    }
    await sleep(RETRY_MS);
  }
}
