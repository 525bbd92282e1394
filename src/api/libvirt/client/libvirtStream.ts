/** Bytes of a console or a channel, both ways, on a connection that others use as well. */
import { Duplex } from 'node:stream';
import { tell } from '../../../vmm/listener.ts';
import { MAX_PACKET, Status } from '../frames.ts';
import { Code, Domain, LibvirtError } from '../libvirtError.ts';

/** What a stream needs of its connection. */
export interface StreamChannel {
  /** @param sent is called when the bytes have left */
  send(status: number, payload: Uint8Array, sent?: () => void): void;
  /** Whether reading is to pause, because the stream is not read. */
  setFull(full: boolean): void;
  decodeError(payload: Uint8Array): LibvirtError;
  /** What comes for the stream is dropped from now on. */
  forget(): void;
}

/** Bytes that may wait for a reader. */
const HIGH_WATER_MARK = 1 << 20;
/** How long the daemon may take to agree that a stream ends. */
const FINISH_MS = 10_000;
const empty = new Uint8Array();

/**
 * A stream of a domain. `end` finishes it in order; `destroy`, as leaving a `for await` loop does, breaks it off. When
 * 1 MiB waits to be read, nothing is taken from the connection until it is read: a program that may not read for long
 * gives a stream a connection of its own.
 */
export class LibvirtStream extends Duplex {
  readonly #channel: StreamChannel;
  /** Nothing more is sent or awaited. */
  #over = false;
  #peerEnded = false;
  #finished: ((error?: Error | null) => void) | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @internal */
  constructor(channel: StreamChannel) {
    // A peer that has ended waits for us to do the same.
    super({ allowHalfOpen: false, readableHighWaterMark: HIGH_WATER_MARK });
    this.#channel = channel;
  }

  /** A packet of the daemon. @internal */
  hear(status: number, payload: Uint8Array): void {
    if (this.#over) return;
    if (status === Status.continue) {
      this.#take(payload);
    } else if (status === Status.ok) {
      this.#settle();
      this.#take(empty);
    } else {
      this.#settle(this.#channel.decodeError(payload));
    }
  }

  /** Nothing is the end. A listener may be called at once: what it throws is its own. */
  #take(bytes: Uint8Array): void {
    if (this.#peerEnded) return;
    this.#peerEnded = bytes.length === 0;
    const chunk = this.#peerEnded ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    tell(() => {
      if (!this.push(chunk) && !this.#peerEnded) this.#channel.setFull(true);
    });
  }

  override _read(): void {
    this.#channel.setFull(false);
  }

  override _write(bytes: Uint8Array, _encoding: string, done: () => void): void {
    if (bytes.length === 0 || this.#over) done();
    else this.#sendAll(bytes, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#over) done();
    else this.#finish(done);
  }

  #sendAll(bytes: Uint8Array, done: () => void): void {
    for (let at = 0; at < bytes.length; at += MAX_PACKET) {
      const last = at + MAX_PACKET >= bytes.length;
      this.#channel.send(Status.continue, bytes.subarray(at, at + MAX_PACKET), last ? done : undefined);
    }
  }

  #finish(done: (error?: Error | null) => void): void {
    this.#finished = done;
    this.#timer = setTimeout(() => {
      this.#settle(
        new LibvirtError(Code.operationTimeout, Domain.streams, 'the daemon does not end the stream'),
      );
    }, FINISH_MS);
    this.#channel.send(Status.ok, empty);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#over) {
      this.#channel.send(Status.error, empty);
      this.#settle();
    }
    done(error);
  }

  #settle(error?: Error): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#channel.forget();
    const finished = this.#finished;
    this.#finished = undefined;
    finished?.(error);
    if (error && !finished) this.destroy(error);
  }
}
