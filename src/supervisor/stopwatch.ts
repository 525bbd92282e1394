/** The time since an event, and when that was by the host's clock, which may be set meanwhile. */

/** What is taken for a clock that was put, rather than for one that is kept right. */
const JUMP_MS = 1_000;

export class Stopwatch {
  readonly #begunAt: number;
  #begunBy: number;

  /** @param elapsedMs what has passed already */
  constructor(elapsedMs = 0) {
    this.#begunAt = performance.now() - elapsedMs;
    this.#begunBy = Date.now() - elapsedMs;
  }

  get elapsedMs(): number {
    return performance.now() - this.#begunAt;
  }

  /** When it began, by what the host's clock says now. */
  get begun(): Date {
    const begunBy = Date.now() - this.elapsedMs;
    if (Math.abs(begunBy - this.#begunBy) > JUMP_MS) this.#begunBy = begunBy;
    return new Date(this.#begunBy);
  }
}
