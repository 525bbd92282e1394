/** When a VM that has ended by itself is started again. */
import type { Definition } from './definition.ts';

type Policy = Definition['policy']['restart'];

/** Between starts of a VM that ends again and again. */
const BACK_OFF = { firstMs: 1_000, maxMs: 60_000 };
/** After a run of this length, failures are counted anew. */
const WELL_MS = 60_000;

export class Restarts {
  #failures = 0;

  /** Starts that followed an end, since a start was asked for or the VM ran well. */
  get count(): number {
    return this.#failures;
  }

  forget(): void {
    this.#failures = 0;
  }

  /** Counts an end. @returns milliseconds until the VM is started again; undefined if it is not */
  next(policy: Policy, failed: boolean, ranMs: number): number | undefined {
    const { max_retries: most } = policy;
    if (ranMs >= WELL_MS) this.#failures = 0;
    if (!startsAgain(policy, failed) || (most > 0 && this.#failures >= most)) return undefined;
    return Math.min(BACK_OFF.firstMs * 2 ** this.#failures++, BACK_OFF.maxMs);
  }
}

export function startsAgain({ when }: Policy, failed: boolean): boolean {
  return when === 'Always' || (when === 'OnFailure' && failed);
}
