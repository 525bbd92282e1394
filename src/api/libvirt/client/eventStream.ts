/** A queue of events for one reader. */
import type { Abortable } from '../../../host/abort.ts';
import { Code, Domain, LibvirtError } from '../libvirtError.ts';

/** Ends a subscription; `released` is called once. */
interface Lifetime extends Abortable {
  readonly maxBuffered: number;
  readonly released: () => Promise<void>;
}

type Waiting<T> = {
  readonly resolve: (result: IteratorResult<T, undefined>) => void;
  readonly reject: (error: unknown) => void;
};

/**
 * Iterates over events in their order. It ends when its connection is closed by this side, and throws when the
 * connection is lost, or when more events came than it may hold. Leaving a `for await` loop ends it.
 */
export class EventStream<T> implements AsyncIterableIterator<T, undefined, undefined> {
  readonly #lifetime: Lifetime;
  readonly #events: T[] = [];
  readonly #waiting: Waiting<T>[] = [];
  #ended = false;
  /** Thrown once, after the events that came before it. */
  #failure: { readonly error: unknown } | undefined;
  readonly #abort = () => this.fail(this.#lifetime.signal?.reason);

  /** @internal */
  constructor(lifetime: Lifetime) {
    this.#lifetime = lifetime;
    lifetime.signal?.addEventListener('abort', this.#abort);
    if (lifetime.signal?.aborted) this.#abort();
  }

  /** @internal */
  add(event: T): void {
    if (this.#ended) return;
    const waiting = this.#waiting.shift();
    if (waiting) waiting.resolve({ done: false, value: event });
    else if (this.#events.length < this.#lifetime.maxBuffered) this.#events.push(event);
    else this.fail(tooMany(this.#lifetime.maxBuffered));
  }

  /** Ends it in order, or with an error. @internal */
  fail(error?: unknown): void {
    if (this.#ended) return;
    const waiting = this.#waiting.splice(0);
    const first = error === undefined ? undefined : waiting.shift();
    if (first) first.reject(error);
    else if (error !== undefined) this.#failure = { error };
    for (const { resolve } of waiting) resolve({ done: true, value: undefined });
    void this.#end();
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const event = this.#events.shift();
    if (event !== undefined) return Promise.resolve({ done: false, value: event });
    if (this.#failure) {
      const { error } = this.#failure;
      this.#failure = undefined;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    this.#events.length = 0;
    this.#failure = undefined;
    for (const { resolve } of this.#waiting.splice(0)) resolve({ done: true, value: undefined });
    await this.#end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async #end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#lifetime.signal?.removeEventListener('abort', this.#abort);
    await this.#lifetime.released();
  }
}

function tooMany(limit: number): LibvirtError {
  return new LibvirtError(
    Code.overflow,
    Domain.event,
    `more than ${limit} events waited to be read, and the next are lost`,
  );
}
