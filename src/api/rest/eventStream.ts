/** Events of a VMM as Server-Sent Events (HTML Living Standard, 9.2), for one client, as fast as it reads. */
import type { EventLog } from '../../vmm/eventLog.ts';

/** What a client asked for. */
export interface EventsRequest {
  readonly log: EventLog;
  /** Events after this one. */
  readonly after: number;
}

export class EventStream {
  readonly #log: EventLog;
  readonly #unwatch: () => void;
  readonly #write: (text: string) => boolean;
  #last: number;
  #waiting = false;

  /** @param write false if the text has not left: `drained` is called when it has */
  constructor({ log, after }: EventsRequest, write: (text: string) => boolean) {
    this.#log = log;
    this.#last = after;
    this.#write = write;
    this.#unwatch = log.watch(() => this.#send());
    this.#send();
  }

  drained(): void {
    this.#waiting = false;
    this.#send();
  }

  close(): void {
    this.#unwatch();
  }

  /** While the client does not read, events stay in the log; those that the log no longer has are counted. */
  #send(): void {
    if (this.#waiting || this.#last >= this.#log.lastId) return;
    const events = this.#log.after(this.#last);
    const missed = (events[0]?.id ?? 1) - 1 - this.#last;
    const lines = events.map(({ id, record }) => `id: ${id}\ndata: ${JSON.stringify(record)}\n\n`);
    if (missed > 0) lines.unshift(`: ${missed} events are no longer kept\n\n`);
    this.#last = this.#log.lastId;
    this.#waiting = !this.#write(lines.join(''));
  }
}
