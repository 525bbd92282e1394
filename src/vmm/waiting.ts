/** Waiting for what a guest does when it is ready to, or never. */
import { MAX_TIMER_MS } from '../config/limits.ts';
import { VmmError } from './errors.ts';

/** @throws RangeError if that is no time to wait */
export function checkWait(waitMs: number | undefined): void {
  if (waitMs !== undefined && !(waitMs >= 0)) throw new RangeError(`Nobody can wait for ${waitMs} ms`);
}

/** What `work` ends with, or the error of `late` if that takes longer; what was begun goes on. */
export function within<T>(work: Promise<T>, timeoutMs: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.min(timeoutMs, MAX_TIMER_MS));
  });
  const tooLate = timeout.then(() => {
    throw late();
  });
  return Promise.race([work, tooLate]).finally(() => clearTimeout(timer));
}

/** Those who wait for the same things to change. */
export class Waiting {
  private readonly looks = new Set<() => void>();

  /**
   * Resolves when `done` holds, which is looked at now and whenever something changes.
   * @param late what has not happened then
   * @throws VmmError if that takes longer
   */
  async until(done: () => boolean, timeoutMs: number, late: () => string): Promise<void> {
    if (done()) return;
    let look = () => {};
    const happened = new Promise<void>((resolve) => {
      look = () => {
        if (done()) resolve();
      };
      this.looks.add(look);
    });
    const timeoutError = () =>
      new VmmError(`${late()} within ${timeoutMs} ms`, { code: 'ERR_TSVMM_TIMEOUT' });
    await within(happened, timeoutMs, timeoutError).finally(() => this.looks.delete(look));
  }

  /** Something has changed. */
  tell(): void {
    for (const look of this.looks) look();
  }
}
