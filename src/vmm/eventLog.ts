/** The latest events of a VMM, numbered, for readers that come later or have missed some. */
import { type EventRecord, eventRecord } from './eventRecord.ts';
import type { VmmEvent } from './events.ts';

const MAX_KEPT = 1024;

interface LoggedEvent {
  /** From 1, without gaps. */
  readonly id: number;
  readonly event: VmmEvent;
  /** Nanoseconds since the log began. */
  readonly elapsed: bigint;
}

export class EventLog {
  readonly #start = process.hrtime.bigint();
  readonly #listeners = new Set<() => void>();
  #events: LoggedEvent[] = [];
  #lastId = 0;
  #ended = false;

  get lastId(): number {
    return this.#lastId;
  }

  /** Listeners at present. */
  get watchers(): number {
    return this.#listeners.size;
  }

  /** No event comes any more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Nanoseconds since it began. */
  elapsed(): bigint {
    return process.hrtime.bigint() - this.#start;
  }

  add(event: VmmEvent): void {
    this.#events.push({ id: ++this.#lastId, event, elapsed: this.elapsed() });
    if (this.#events.length > MAX_KEPT) this.#events.shift();
    this.#tell();
  }

  end(): void {
    this.#ended = true;
    this.#tell();
  }

  /** Those after `id` that are still kept, the oldest first; at most `limit`. */
  after(id: number, limit = MAX_KEPT): { readonly id: number; readonly record: EventRecord }[] {
    const oldest = this.#lastId - this.#events.length;
    const begin = Math.max(0, id - oldest);
    return this.#events
      .slice(begin, begin + limit)
      .map((one) => ({ id: one.id, record: eventRecord(one.event, one.elapsed) }));
  }

  /** Calls `listener` after each event, and at the end. @returns what ends that */
  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when there is one after `id`, or none comes any more. @throws the signal's reason */
  next(id: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (end: () => void) => {
        unwatch();
        signal?.removeEventListener('abort', abort);
        end();
      };
      const abort = () => settle(() => reject(signal?.reason));
      const unwatch = this.watch(() => {
        if (this.#lastId > id || this.#ended) settle(resolve);
      });
      signal?.addEventListener('abort', abort);
    });
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
