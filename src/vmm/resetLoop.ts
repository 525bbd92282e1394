/** Detects a guest that resets itself again and again. */
import type { ResetCause } from '../native.ts';

/** A guest that ran for longer than this before a reset got somewhere. */
const SHORT_RUN_MS = 10_000;
const RESETS_IN_A_ROW = 10;

const CAUSES: Readonly<Record<ResetCause, string>> = {
  acpi: 'the ACPI reset register',
  i8042: 'the keyboard controller (port 0x64)',
  cmos: 'the CMOS shutdown byte',
  'triple-fault': 'a triple fault, as after a fault of a kernel that has no handler yet',
  watchdog: 'the watchdog, which the guest did not feed',
};

export class ResetLoop {
  #inARow = 0;
  #firstAt = 0;
  #lastAt = Number.NEGATIVE_INFINITY;
  #said = false;

  /**
   * Counts a reset.
   * @param now in milliseconds
   * @returns a warning, once
   */
  count(cause: ResetCause, now: number): string | undefined {
    if (now - this.#lastAt > SHORT_RUN_MS) {
      this.#inARow = 0;
      this.#firstAt = now;
    }
    this.#lastAt = now;
    this.#inARow++;
    if (this.#said || this.#inARow < RESETS_IN_A_ROW) return undefined;
    this.#said = true;
    const perSecond = ((this.#inARow - 1) * 1000) / Math.max(1, now - this.#firstAt);
    const rate = perSecond < 10 ? perSecond.toFixed(1) : perSecond.toFixed(0);
    return (
      `The guest resets itself again and again, ${rate} times a second, by ${CAUSES[cause]}: ` +
      'it gets no further (this is said once)'
    );
  }
}
