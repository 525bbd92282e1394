/** The latest events of a VMM, numbered, for those who come later or missed some. */
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

  get lastId(): number {
    return this.#lastId;
  }

  /** Listeners at present. */
  get watchers(): number {
    return this.#listeners.size;
  }

  add(event: VmmEvent): void {
    this.#events.push({ id: ++this.#lastId, event, elapsed: process.hrtime.bigint() - this.#start });
    if (this.#events.length > MAX_KEPT) this.#events.shift();
    for (const listener of this.#listeners) listener();
  }

  /** Those after `id` that are still kept, the oldest first. */
  after(id: number): { readonly id: number; readonly record: EventRecord }[] {
    return this.#events
      .filter((one) => one.id > id)
      .map((one) => ({ id: one.id, record: eventRecord(one.event, one.elapsed) }));
  }

  /** Calls `listener` after each event. @returns what ends that */
  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
