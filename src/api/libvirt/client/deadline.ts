/** Timers of the client. */
import { MAX_TIMER_MS } from '../../../config/limits.ts';

/**
 * @param ms `Infinity` for never; longer than a timer can be is no limit, either
 * @returns what stops it
 * @throws RangeError if that is no time
 */
export function afterMs(ms: number, act: () => void): () => void {
  if (!(ms > 0)) throw new RangeError(`A time-out is a number of milliseconds above 0, and not ${ms}`);
  const timer = ms <= MAX_TIMER_MS ? setTimeout(act, ms) : undefined;
  return () => clearTimeout(timer);
}
