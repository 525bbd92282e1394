/** What displays that are refreshed at an interval have in common. */
import { UsageError } from '../usageError.ts';

const MIN_INTERVAL = 0.1;
const MAX_INTERVAL = 3600;

/** Between looks. @returns seconds @throws UsageError */
export function readInterval(text = '1'): number {
  const seconds = Number(text);
  if (text !== '' && seconds >= MIN_INTERVAL && seconds <= MAX_INTERVAL) return seconds;
  throw new UsageError(`--interval ${text} is not from ${MIN_INTERVAL} to ${MAX_INTERVAL} seconds`);
}

/** @param left resolves when the user quits; absent where a signal is what ends it */
export async function leftWithin(left: Promise<void> | undefined, ms: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const time = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  const over = await Promise.race([time, ...(left ? [left.then(() => true)] : [])]);
  clearTimeout(timer);
  return over;
}
