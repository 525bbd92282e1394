/** Longer than a timer can be, which is 24 days, is no limit. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** @param ms `Infinity` for never @returns what stops it @throws RangeError if that is no time */
export function afterMs(ms: number, act: () => void): () => void {
  if (!(ms > 0)) throw new RangeError(`A time-out is a number of milliseconds above 0, and not ${ms}`);
  const timer = ms <= MAX_TIMER_MS ? setTimeout(act, ms) : undefined;
  return () => clearTimeout(timer);
}
