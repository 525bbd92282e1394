/** A guest's serial port or console as a stream of this process. */
import { Duplex } from 'node:stream';
import type { Abortable } from './abort.ts';
import type { AdoptStream, StreamConnection } from './listen.ts';

export interface WaitForOptions extends Abortable {
  /** No limit unless given. */
  readonly timeoutMs?: number;
}

/** Of output that an ended machine left, bytes that are kept for a late reader; more is dropped. */
const MAX_LEFT = 8 << 20;
/** Of what `waitFor` has read without a match, bytes that are searched together with what comes. */
const MAX_SEARCHED = 1 << 20;

/** The stream's end of a socket whose other end a machine has. */
interface Link {
  readonly connection: StreamConnection;
  /** The machine is about to end: what it has written is taken whether it is read or not. */
  draining: boolean;
  /** Of the write that has not left yet. */
  written?: (() => void) | undefined;
}

/**
 * Reads what the guest writes and writes what the guest reads. A reader that does not keep up holds the guest up and
 * loses nothing, also of a guest that is gone by then, up to 8 MiB. The stream survives a reboot, for which it gets
 * another socket (`adopt`), and ends when the VM is gone (`finish`).
 *
 * Leaving a `for await` loop leaves the stream as it is: the next loop goes on behind the last chunk.
 */
export class GuestStream extends Duplex {
  readonly #adoptSocket: AdoptStream;
  /** Of machines, in order: the first is read, the last is written to. */
  readonly #links: Link[] = [];
  #finishing = false;

  /** @internal */
  constructor(adoptSocket: AdoptStream) {
    // When there is nothing more to read there is no peer to write to either.
    super({ allowHalfOpen: false });
    this.#adoptSocket = adoptSocket;
  }

  /**
   * Takes a connected stream socket over, at whose other end the next machine will be.
   * @internal
   */
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

  /**
   * The machine is about to end. Until all that it has written is here the process lives on.
   * @internal
   */
  drain(): void {
    for (const link of this.#links) {
      link.draining = true;
      link.connection.ref();
    }
    this.#links[0]?.connection.resume();
  }

  /**
   * Ends the stream after what has been sent.
   * @internal
   */
  finish(): void {
    this.#finishing = true;
    if (this.#links.length === 0) this.push(null);
  }

  /**
   * Reads until `wanted` has come, and leaves what is behind it to the next reader. A reader like any other: it does
   * not see what another reader has read.
   * @returns what was read, up to the end of what was wanted; of more than 1 MiB the last
   * @throws Error `ETIMEDOUT` after `timeoutMs`, `ERR_TSVMM_STREAM_ENDED` if the stream ends, or the signal's reason.
   * What was read without a match goes back into the stream, so that it can be waited for anew, except at its end
   */
  async waitFor(wanted: string | RegExp, { timeoutMs, signal }: WaitForOptions = {}): Promise<string> {
    const asked = [
      ...(signal ? [signal] : []),
      ...(timeoutMs === undefined ? [] : [AbortSignal.timeout(timeoutMs)]),
    ];
    const stop = AbortSignal.any(asked);
    stop.throwIfAborted();
    let read = Buffer.alloc(0);
    for (;;) {
      const chunk: Buffer | null = this.read();
      if (chunk !== null) read = Buffer.concat([read, chunk]).subarray(-MAX_SEARCHED);
      const end = endOfMatch(read, wanted);
      if (end !== undefined) {
        if (end < read.length) this.unshift(read.subarray(end));
        return read.toString('utf8', 0, end);
      }
      if (chunk !== null) continue;
      if (this.readableEnded || this.destroyed)
        throw unmet('ERR_TSVMM_STREAM_ENDED', 'Before the stream ended', wanted, read);
      await new Promise<void>((resolve) => {
        const events = ['readable', 'end', 'close'];
        const done = () => {
          for (const event of events) this.off(event, done);
          stop.removeEventListener('abort', done);
          resolve();
        };
        for (const event of events) this.on(event, done);
        stop.addEventListener('abort', done);
      });
      if (!stop.aborted) continue;
      if (read.length > 0 && !this.readableEnded) this.unshift(read);
      signal?.throwIfAborted();
      throw unmet('ETIMEDOUT', `After ${timeoutMs} ms`, wanted, read);
    }
  }

  override [Symbol.asyncIterator](): NodeJS.AsyncIterator<Buffer> {
    return this.iterator({ destroyOnReturn: false });
  }

  /** @internal */
  override _read(): void {
    this.#links[0]?.connection.resume();
  }

  /** @internal */
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

  /** @internal */
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

/** In bytes. Undefined if it is not in there. */
function endOfMatch(read: Buffer, wanted: string | RegExp): number | undefined {
  if (typeof wanted === 'string') {
    const at = read.indexOf(wanted);
    return at < 0 ? undefined : at + Buffer.byteLength(wanted);
  }
  // Text that is not UTF-8 has as many characters as bytes.
  const utf8 = read.toString('utf8');
  const encoding = Buffer.byteLength(utf8) === read.length && !utf8.includes('\ufffd') ? 'utf8' : 'latin1';
  const text = encoding === 'utf8' ? utf8 : read.toString('latin1');
  const at = text.search(wanted);
  if (at < 0) return undefined;
  const [match = ''] =
    text.slice(at).match(new RegExp(wanted.source, wanted.flags.replace(/[gy]/g, ''))) ?? [];
  return Buffer.byteLength(text.slice(0, at) + match, encoding);
}

function unmet(code: string, when: string, wanted: string | RegExp, read: Buffer): Error {
  const tail = JSON.stringify(read.toString('utf8', Math.max(0, read.length - 200)));
  return Object.assign(new Error(`${when} there was no ${wanted}; the last that came is ${tail}`), { code });
}

function settleWrite(link: Link): void {
  const { written } = link;
  link.written = undefined;
  written?.();
}
