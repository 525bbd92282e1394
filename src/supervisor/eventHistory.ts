/** The events of all VMs as one stream, of which the latest are kept. */
import { EventEmitter } from 'node:events';
import type { VmmEvent } from '../vmm/events.ts';

export interface SupervisorEvent {
  /** Grows by one. */
  readonly id: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  /** The VM's name. */
  readonly vm: string;
  /** `supervisor`, or as a VM's own event monitor has it. */
  readonly source: 'supervisor' | VmmEvent['source'];
  readonly event: string;
  readonly properties?: Readonly<Record<string, string>>;
}

/** Kept for clients that ask for events that they missed. */
const KEPT = 1_000;

export class EventHistory {
  readonly #emitter = new EventEmitter<{ event: [SupervisorEvent] }>().setMaxListeners(0);
  #kept: SupervisorEvent[] = [];
  // Ids go on growing when the supervisor is restarted: there are never a thousand events a second for long.
  #lastId = Date.now();

  add(
    vm: string,
    { source, event, properties }: Pick<SupervisorEvent, 'source' | 'event' | 'properties'>,
  ): void {
    const entry = {
      id: ++this.#lastId,
      time: Date.now(),
      vm,
      source,
      event,
      ...(properties && { properties }),
    };
    this.#kept.push(entry);
    if (this.#kept.length >= 2 * KEPT) this.#kept = this.#kept.slice(-KEPT);
    this.#emitter.emit('event', entry);
  }

  /**
   * Those that are kept, after an id; all of them after one that is yet to come: the host's clock was put back since.
   */
  after(id: number): readonly SupervisorEvent[] {
    const kept = this.#kept.slice(-KEPT);
    return id > this.#lastId ? kept : kept.filter((entry) => entry.id > id);
  }

  /** @returns ends it */
  watch(listener: (event: SupervisorEvent) => void): () => void {
    this.#emitter.on('event', listener);
    return () => this.#emitter.off('event', listener);
  }
}
