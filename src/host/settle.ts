/** What a start leaves behind in the executable's heap, given back once the start is over. */
import { bun } from './bun.ts';

/** After a boot, until a garbage collection delays nothing. */
const SETTLE_MS = 200;
/** In a process that waits for its VM: who starts it for that asks at once, or later. */
const SETTLE_EMPTY_MS = 20;

let timer: ReturnType<typeof setTimeout> | undefined;

/**
 * After a boot: collects garbage, else Bun's collector would come back for it and wake an idle process seconds later;
 * and drops the linked code of all functions, most of which run once. One that is called again is linked again.
 */
export function settleAfterBoot(): void {
  after(SETTLE_MS, () => bun?.shrink());
}

/** Without a VM: collects garbage, else the first boot would wait for it, 2.5 ms. Code stays: the boot runs it. */
export function settleWithoutVm(isEmpty: () => boolean): void {
  after(SETTLE_EMPTY_MS, () => isEmpty() && bun?.gc(true));
}

/** The latest call counts: a guest that reboots again and again is left alone. */
function after(milliseconds: number, settle: () => unknown): void {
  if (!bun) return;
  clearTimeout(timer);
  timer = setTimeout(settle, milliseconds);
}
