/** Output to a descriptor whose reader may be slow: no byte is lost, and nothing blocks. */
import { loadNative } from '../../native.ts';

const FIRST_RETRY_MS = 2;
const LAST_RETRY_MS = 50;

export class FlowOutput {
  readonly #fd: number;
  readonly #drained: () => void;
  #waiting: Uint8Array[] = [];
  #retryMs = FIRST_RETRY_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param drained everything has left, after some of it had to wait */
  constructor(fd: number, drained: () => void) {
    this.#fd = fd;
    this.#drained = drained;
  }

  get waiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Bytes leave in order. */
  write(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    if (this.#waiting.length === 1) this.#flush();
  }

  /** What has not left is lost. */
  close(): void {
    clearTimeout(this.#timer);
    this.#waiting = [];
  }

  #flush(): void {
    const waited = this.#timer !== undefined;
    this.#timer = undefined;
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const taken = loadNative().writeNow(this.#fd, next);
      if (taken > 0) this.#retryMs = FIRST_RETRY_MS;
      if (taken < next.length) {
        this.#waiting[0] = next.subarray(taken);
        this.#timer = setTimeout(() => this.#flush(), this.#retryMs);
        this.#retryMs = Math.min(2 * this.#retryMs, LAST_RETRY_MS);
        return;
      }
      this.#waiting.shift();
    }
    if (waited) this.#drained();
  }
}
