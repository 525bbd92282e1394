/** Waiting for what a guest does when it is ready to, or never. */
import { MAX_TIMER_MS } from '../config/limits.ts';
import { VmmError } from './errors.ts';

/** @throws RangeError if that is no time to wait */
export function checkWait(waitMs: number | undefined): void {
  if (waitMs !== undefined && !(waitMs >= 0)) throw new RangeError(`Nobody can wait for ${waitMs} ms`);
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
    let end = () => {};
    const waited = new Promise<void>((resolve, reject) => {
      const giveUp = () => {
        reject(new VmmError(`${late()} within ${timeoutMs} ms`, { code: 'ERR_TSVMM_TIMEOUT' }));
      };
      const timer = setTimeout(giveUp, Math.min(timeoutMs, MAX_TIMER_MS));
      const look = () => {
        if (done()) resolve();
      };
      this.looks.add(look);
      end = () => {
        clearTimeout(timer);
        this.looks.delete(look);
      };
    });
    await waited.finally(end);
  }

  /** Something has changed. */
  tell(): void {
    for (const look of this.looks) look();
  }
}
