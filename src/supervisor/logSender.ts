/** Sends a log as fast as its reader takes it, from one of its last lines on. */
import { closeSync, fstatSync, readSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { openRegular } from '../host/regularFile.ts';

const CHUNK = 65_536;
const NEWLINE = 0x0a;

export class LogSender {
  readonly #path: string;
  readonly #response: ServerResponse;
  #offset: number;
  #sending: Promise<void> | undefined;
  #more = false;

  /** @param lines of those that are there, Infinity for all */
  constructor(path: string, lines: number, response: ServerResponse) {
    this.#path = path;
    this.#response = response;
    this.#offset = lines === Number.POSITIVE_INFINITY ? 0 : tailStart(path, lines);
  }

  /** Sends what has been added. Resolves when it is on its way, or the reader has gone. */
  send(): Promise<void> {
    this.#more = true;
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined;
    });
    return this.#sending;
  }

  /** Sends the rest, and ends the answer. */
  async finish(): Promise<void> {
    await this.send();
    this.#response.end();
  }

  async #sendAll(): Promise<void> {
    while (this.#more) {
      this.#more = false;
      for (let bytes = this.#next(); bytes.length > 0; bytes = this.#next()) {
        if (this.#response.destroyed) return;
        if (!this.#response.write(bytes)) await takenBy(this.#response);
      }
    }
  }

  /** Empty at the end. A file that became shorter is begun anew. */
  #next(): Uint8Array {
    return withFile(this.#path, new Uint8Array(0), (fd, size) => {
      if (size < this.#offset) this.#offset = 0;
      const bytes = Buffer.allocUnsafe(Math.min(CHUNK, size - this.#offset));
      const count = readSync(fd, bytes, 0, bytes.length, this.#offset);
      this.#offset += count;
      return bytes.subarray(0, count);
    });
  }
}

/** Resolves when the reader has taken what it was sent, or has gone. */
function takenBy(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    if (response.destroyed) return resolve();
    const done = () => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });
}

/** Where the last lines of a file begin. */
export function tailStart(path: string, lines: number): number {
  return withFile(path, 0, (fd, size) => {
    const chunk = Buffer.allocUnsafe(CHUNK);
    // The newline that ends the last line begins none.
    let end = size - 1;
    for (let left = lines; end > 0; ) {
      const from = Math.max(0, end - CHUNK);
      const bytes = chunk.subarray(0, readSync(fd, chunk, 0, end - from, from));
      for (let at = bytes.lastIndexOf(NEWLINE); at >= 0; at = lastNewlineBefore(bytes, at)) {
        if (--left <= 0) return lines === 0 ? size : from + at + 1;
      }
      end = from;
    }
    return lines === 0 ? size : 0;
  });
}

/** A negative offset would count from the end. */
function lastNewlineBefore(bytes: Buffer, at: number): number {
  return at === 0 ? -1 : bytes.lastIndexOf(NEWLINE, at - 1);
}

function withFile<T>(path: string, missing: T, work: (fd: number, size: number) => T): T {
  let fd: number;
  try {
    fd = openRegular(path);
  } catch {
    return missing;
  }
  try {
    return work(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}
