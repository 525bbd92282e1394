/** Waiting, with a timeout, for what a guest may do at any time or never. */
import { MAX_TIMER_MS } from '../config/limits.ts';
import type { Abortable } from '../host/abort.ts';
import { VmmError } from './errors.ts';

/** When a wait is given up: after so many milliseconds, or on an abort. */
export interface WaitLimits extends Abortable {
  readonly timeoutMs: number;
}

/** @throws RangeError if that is no time to wait */
export function checkWait(waitMs: number | undefined): void {
  if (waitMs !== undefined && !(waitMs >= 0)) throw new RangeError(`Nobody can wait for ${waitMs} ms`);
}

/** What `work` ends with, the error of `late`, or the signal's reason; what was begun goes on. */
export async function within<T>(
  work: Promise<T>,
  { timeoutMs, signal }: WaitLimits,
  late: () => Error,
): Promise<T> {
  signal?.throwIfAborted();
  let stop = () => {};
  const timeout = new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, Math.min(timeoutMs, MAX_TIMER_MS));
    const abort = () => reject(signal?.reason);
    signal?.addEventListener('abort', abort);
    stop = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
  });
  const tooLate = timeout.then(() => {
    throw late();
  });
  return Promise.race([work, tooLate]).finally(stop);
}

/** Waits for conditions that depend on the same things. */
export class Waiting {
  private readonly looks = new Set<() => void>();

  /**
   * Resolves when `done` holds, which is looked at now and whenever something changes.
   * @param late what has not happened then
   * @throws VmmError if that takes longer; the signal's reason
   */
  async until(done: () => boolean, limits: WaitLimits, late: () => string): Promise<void> {
    if (done()) return;
    const { timeoutMs } = limits;
    let look = () => {};
    const happened = new Promise<void>((resolve) => {
      look = () => {
        if (done()) resolve();
      };
      this.looks.add(look);
    });
    const timeoutError = () =>
      new VmmError(`${late()} within ${timeoutMs} ms`, { code: 'ERR_TSVMM_TIMEOUT' });
    try {
      await within(happened, limits, timeoutError);
    } finally {
      this.looks.delete(look);
    }
  }

  /** Something has changed. */
  tell(): void {
    for (const look of this.looks) look();
  }
}
