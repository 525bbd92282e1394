/** The events of a VMM as an async iterator. */
import type { EventLog } from './eventLog.ts';
import { type EventRecord, eventRecord, lossEvent } from './eventRecord.ts';

export interface EventsOptions {
  /** Begins with those after the event of this id that are still kept: 0 for all. Only those to come unless given. */
  readonly since?: number;
  /** Ends the iteration with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** An event and its number. */
export interface NumberedEvent extends EventRecord {
  /** From 1 on, without gaps; that of the next event for `events-lost`, less one. */
  readonly id: number;
}

/**
 * Every event once and in order. They wait in the log, which keeps the latest: a reader that is too slow gets the
 * number that it missed as an event `events-lost` of the VMM. Ends with the log.
 * @throws RangeError if `since` is no whole number
 */
export function iterateEvents(
  log: EventLog,
  { since = log.lastId, signal }: EventsOptions,
): AsyncGenerator<NumberedEvent, void, undefined> {
  if (!Number.isSafeInteger(since) || since < 0) {
    throw new RangeError(`since is the id of an event, a whole number, and not ${since}`);
  }
  return follow(log, since, signal);
}

async function* follow(
  log: EventLog,
  since: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<NumberedEvent, void, undefined> {
  let last = since;
  for (;;) {
    signal?.throwIfAborted();
    const [first] = log.after(last, 1);
    if (first === undefined) {
      if (log.ended) return;
      await log.next(last, signal);
      continue;
    }
    const missed = first.id - last - 1;
    if (missed > 0) {
      last = first.id - 1;
      yield { id: last, ...eventRecord(lossEvent(missed), log.elapsed()) };
      continue;
    }
    last = first.id;
    yield { id: first.id, ...first.record };
  }
}
