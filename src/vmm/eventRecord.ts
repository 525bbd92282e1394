/** An event as the event monitor writes it. */
import type { VmmEvent } from './events.ts';

const NANOSECONDS = 1_000_000_000n;

export interface EventRecord {
  /** Since the VMM began. */
  readonly timestamp: { readonly secs: number; readonly nanos: number };
  readonly source: VmmEvent['source'];
  readonly event: string;
  readonly properties: VmmEvent['properties'] | null;
}

/** @param elapsed nanoseconds since the VMM began */
export function eventRecord({ source, event, properties }: VmmEvent, elapsed: bigint): EventRecord {
  const timestamp = { secs: Number(elapsed / NANOSECONDS), nanos: Number(elapsed % NANOSECONDS) };
  return { timestamp, source, event, properties: properties ?? null };
}

/** For a reader that has missed `count` events. */
export function lossEvent(count: number): VmmEvent {
  return { source: 'vmm', event: 'events-lost', properties: { count: String(count) } };
}
