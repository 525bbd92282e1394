/** What a start leaves behind in the executable's heap, given back once the start is over. */
import { bun } from './bun.ts';

/** After a boot, until a garbage collection delays nothing. */
const SETTLE_MS = 200;

let timer: ReturnType<typeof setTimeout> | undefined;

/**
 * After a boot: collects garbage, else Bun's collector would come back for it and wake an idle process seconds later;
 * and drops the linked code of all functions, most of which run once. One that is called again is linked again. The
 * latest call counts: a guest that reboots again and again is left alone.
 */
export function settleAfterBoot(): void {
  if (!bun) return;
  clearTimeout(timer);
  timer = setTimeout(() => bun?.shrink(), SETTLE_MS);
}
