/** Output to a reader that may be slow, stuck or gone: a bounded buffer, and no waiting. */
import { sleep } from '../host/sleep.ts';

/** What waits for the reader at most; a record that has no room is lost. In bytes. */
const MAX_WAITING = 256 * 1024;
const FIRST_RETRY_MS = 20;
const LAST_RETRY_MS = 1000;
/** How long the end of a process waits for a reader that is slow but reads. */
const CLOSE_TIMEOUT_MS = 1000;

/** Takes as many bytes as it can at once, and says how many. @throws Error where they never can be: a full disk */
export type WriteNow = (bytes: Uint8Array) => number;

export class BoundedOutput {
  readonly #write: WriteNow;
  readonly #lossRecord: (lost: number) => string;
  readonly #onFault: ((error: Error) => void) | undefined;
  readonly #faults = new Set<string>();
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #lost = 0;
  #retryMs = FIRST_RETRY_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param lossRecord says to the reader, once it reads again, how many records it has missed
   * @param onFault gets each kind of error once
   */
  constructor(write: WriteNow, lossRecord: (lost: number) => string, onFault?: (error: Error) => void) {
    this.#write = write;
    this.#lossRecord = lossRecord;
    this.#onFault = onFault;
  }

  /** Records that found no room, and that the reader has not been told of. */
  get lost(): number {
    return this.#lost;
  }

  /** Leaves as a whole, in order, or not at all. */
  write(record: string): void {
    if (this.#waiting.length > 0) this.#flush();
    const bytes = encode(record);
    if (this.#waitingBytes + bytes.length > MAX_WAITING) {
      this.#lost++;
      return;
    }
    this.#push(bytes);
    if (this.#waiting.length === 1) this.#flush();
  }

  /** Waits a second at most until everything has left, and gives up what has not. */
  async close(): Promise<void> {
    const deadline = performance.now() + CLOSE_TIMEOUT_MS;
    for (this.#flush(); this.#waiting.length > 0 && performance.now() < deadline; this.#flush()) {
      await sleep(FIRST_RETRY_MS);
    }
    clearTimeout(this.#timer);
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #push(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
  }

  #flush(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const taken = this.#take(next);
      if (taken === undefined) {
        this.#drop(next);
        continue;
      }
      this.#waitingBytes -= taken;
      if (taken > 0) this.#retryMs = FIRST_RETRY_MS;
      if (taken < next.length) {
        this.#waiting[0] = next.subarray(taken);
        this.#retryLater();
        return;
      }
      this.#waiting.shift();
      if (this.#waiting.length === 0) this.#tellLoss();
    }
  }

  /** @returns undefined where the bytes can never leave: the disk is full, or the descriptor was closed */
  #take(bytes: Uint8Array): number | undefined {
    try {
      return this.#write(bytes);
    } catch (error) {
      this.#tellFault(error as NodeJS.ErrnoException);
      return undefined;
    }
  }

  #drop(record: Uint8Array): void {
    this.#waiting.shift();
    this.#waitingBytes -= record.length;
    this.#lost++;
  }

  #tellFault(error: NodeJS.ErrnoException): void {
    const kind = error.code ?? error.message;
    if (this.#faults.has(kind)) return;
    this.#faults.add(kind);
    this.#onFault?.(error);
  }

  #tellLoss(): void {
    if (this.#lost === 0) return;
    const record = encode(this.#lossRecord(this.#lost));
    this.#lost = 0;
    this.#push(record);
  }

  /** Ever more rarely, because an idle process is to stay idle. */
  #retryLater(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, this.#retryMs);
    this.#timer.unref();
    this.#retryMs = Math.min(2 * this.#retryMs, LAST_RETRY_MS);
  }
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
