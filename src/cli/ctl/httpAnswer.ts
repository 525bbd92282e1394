/** Parses one answer of a VM's REST API. */

/** Of the status line and headers, and of the body. What is longer is no answer of such an API. */
const MAX_HEAD = 64 << 10;
const MAX_BODY = 64 << 20;

export interface ApiAnswer {
  readonly status: number;
  /** '' if there is none. */
  readonly body: string;
}

/** The bytes are none of an HTTP/1 server's. */
export class NotHttp extends Error {}

interface Head {
  readonly status: number;
  /** Bytes of the body; undefined if it ends with the connection. */
  readonly length: number | undefined;
}

/** Reads until an answer is there; those that are preliminary (100) are passed over. */
export class AnswerReader {
  #bytes = Buffer.alloc(0);
  #head: Head | undefined;

  /** Whether anything has come at all. */
  get empty(): boolean {
    return this.#bytes.length === 0 && this.#head === undefined;
  }

  /** What has come and is no answer yet, its beginning. */
  get beginning(): string {
    return this.#bytes.toString('latin1', 0, 80);
  }

  /** @returns the answer once it is complete @throws NotHttp */
  add(bytes: Uint8Array): ApiAnswer | undefined {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    while (this.#head === undefined) {
      const end = this.#bytes.indexOf('\r\n\r\n');
      const text = this.#bytes.toString('latin1', 0, end < 0 ? MAX_HEAD : end);
      if (!'HTTP/1.'.startsWith(text.slice(0, 7))) throw new NotHttp();
      if (end < 0) {
        if (this.#bytes.length > MAX_HEAD) throw new NotHttp();
        return undefined;
      }
      this.#bytes = this.#bytes.subarray(end + 4);
      const head = readHead(text);
      if (head.status >= 200) this.#head = head;
    }
    const { length } = this.#head;
    if (this.#bytes.length > MAX_BODY) throw new NotHttp();
    return length === undefined || this.#bytes.length < length ? undefined : this.#take(length);
  }

  /** The connection has ended. @returns the answer if it ends with that */
  end(): ApiAnswer | undefined {
    if (this.#head === undefined || this.#head.length !== undefined) return undefined;
    return this.#take(this.#bytes.length);
  }

  #take(length: number): ApiAnswer {
    const { status } = this.#head as Head;
    const body = this.#bytes.toString('utf8', 0, length);
    this.#bytes = this.#bytes.subarray(length);
    this.#head = undefined;
    return { status, body };
  }
}

/** @throws NotHttp for what no such API sends */
function readHead(text: string): Head {
  const [line = '', ...headers] = text.split('\r\n');
  const status = Number(/^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(line)?.[1]);
  if (!Number.isInteger(status)) throw new NotHttp();
  const field = (name: string) =>
    headers
      .find((header) => header.toLowerCase().startsWith(`${name}:`))
      ?.slice(name.length + 1)
      .trim();
  const length = field('content-length');
  if (field('transfer-encoding') !== undefined) throw new NotHttp();
  if (length !== undefined && !/^\d{1,10}$/.test(length)) throw new NotHttp();
  if (status === 204 || status < 200) return { status, length: 0 };
  if (length === undefined && field('connection')?.toLowerCase() !== 'close') return { status, length: 0 };
  return { status, length: length === undefined ? undefined : Number(length) };
}
