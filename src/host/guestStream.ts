/** A guest's serial port or console as a stream of this process. */
import { Duplex } from 'node:stream';
import type { AdoptStream, StreamConnection } from './listen.ts';

/** Of output that an ended machine left, bytes that are kept for a reader who is late; more is dropped. */
const MAX_LEFT = 8 << 20;

/** The stream's end of a socket whose other end a machine has. */
interface Link {
  readonly connection: StreamConnection;
  /** The machine is about to end: what it has written is taken whether somebody reads or not. */
  draining: boolean;
  /** Of the write that has not left yet. */
  written?: (() => void) | undefined;
}

/**
 * Reads what the guest writes and writes what the guest reads. A reader that does not keep up holds the guest up and loses
 * nothing, also of a guest that is gone by then, up to 8 MiB. The stream survives a reboot, for which it gets another
 * socket (`adopt`), and ends when the VM is gone (`finish`).
 *
 * Leaving a `for await` loop leaves the stream as it is: the next loop goes on behind the last chunk.
 */
export class GuestStream extends Duplex {
  readonly #adoptSocket: AdoptStream;
  /** Of machines, in order: the first is read, the last is written to. */
  readonly #links: Link[] = [];
  #finishing = false;

  constructor(adoptSocket: AdoptStream) {
    // When there is nothing more to read there is nobody to write to either.
    super({ allowHalfOpen: false });
    this.#adoptSocket = adoptSocket;
  }

  /** Takes a connected stream socket over, at whose other end the next machine will be. */
  adopt(fd: number): void {
    this.#adoptSocket(fd, (connection) => {
      const link: Link = { connection, draining: false };
      connection.unref();
      if (this.destroyed) connection.terminate();
      else if (this.#links.push(link) > 1) connection.pause();
      return {
        data: (bytes) => this.#received(link, bytes),
        ended: () => connection.terminate(),
        drained: () => settleWrite(link),
        closed: () => this.#closed(link),
      };
    });
  }

  /** The machine is about to end. Until all that it has written is here the process lives on. */
  drain(): void {
    for (const link of this.#links) {
      link.draining = true;
      link.connection.ref();
    }
    this.#links[0]?.connection.resume();
  }

  /** Ends the stream after what has been sent. */
  finish(): void {
    this.#finishing = true;
    if (this.#links.length === 0) this.push(null);
  }

  override [Symbol.asyncIterator](): NodeJS.AsyncIterator<Buffer> {
    return this.iterator({ destroyOnReturn: false });
  }

  override _read(): void {
    this.#links[0]?.connection.resume();
  }

  override _write(bytes: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    const link = this.#links.at(-1);
    // Without a machine behind it, what is written is lost, as on a cable that leads nowhere.
    if (link === undefined || link.draining) {
      done();
      return;
    }
    link.connection.write(bytes);
    if (link.connection.waiting) link.written = done;
    else done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    for (const { connection } of this.#links) connection.terminate();
    done(error);
  }

  #received(link: Link, bytes: Uint8Array): void {
    if (link.draining && this.readableLength >= MAX_LEFT) return;
    if (!this.push(bytes) && !link.draining) link.connection.pause();
  }

  #closed(link: Link): void {
    settleWrite(link);
    const at = this.#links.indexOf(link);
    if (at >= 0) this.#links.splice(at, 1);
    if (at === 0) this.#links[0]?.connection.resume();
    if (this.#finishing && this.#links.length === 0) this.push(null);
  }
}

function settleWrite(link: Link): void {
  const { written } = link;
  link.written = undefined;
  written?.();
}
