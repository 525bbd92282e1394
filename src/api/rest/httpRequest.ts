/**
 * A parser for the HTTP/1 requests of the API: lines end in CRLF, bodies have a Content-Length, and anything that two
 * parsers could read in two ways is refused.
 */
import type { MemoryBudget } from './memoryBudget.ts';

export const MAX_BODY = 4 * 1024 * 1024;
/** A request or header line with its CRLF. */
const MAX_LINE = 1024;
const MAX_HEADERS = 128;

export type Method = 'GET' | 'PUT' | 'PATCH' | 'DELETE';

/** What is wrong with bytes that are no acceptable request. */
export type ParseFault =
  | 'syntax'
  | 'version'
  /** A body that is not framed by its length. */
  | 'framing'
  | 'uri-size'
  | 'header-size'
  | 'body-size'
  /** It took too long to arrive. */
  | 'late'
  /** Other requests have all the memory that there is for them. */
  | 'busy';

export interface HttpRequest {
  /** One of `Method`, or any other if those are to be told as well. */
  readonly method: string;
  /** Without scheme and host, with the query as it came. */
  readonly path: string;
  /** Empty if there is none. */
  readonly body: Uint8Array;
  /** The header Last-Event-ID. */
  readonly lastEventId?: string;
  /** The client wants no more than this one answered (RFC 9112 §9.3, §9.6). */
  readonly isLast?: true;
}

/** The bytes are no acceptable request; what follows them cannot be trusted either. */
export class HttpParseError extends Error {
  readonly fault: ParseFault;

  constructor(message: string, fault: ParseFault = 'syntax') {
    super(message);
    this.name = 'HttpParseError';
    this.fault = fault;
  }
}

interface Head {
  method: string;
  path: string;
  headerCount: number;
  contentLength: number | undefined;
  lastEventId: string | undefined;
  expectsContinue: boolean;
  readonly version: string;
  /** Of all headers Connection, which are one list (RFC 9110 §5.3). */
  readonly connectionOptions: string[];
}

/** A body that is not complete yet. */
interface PartialBody {
  readonly head: Head;
  readonly bytes: Uint8Array;
  received: number;
}

const CR = 0x0d;
const LF = 0x0a;
const EMPTY = new Uint8Array(0);
const methods: readonly string[] = ['GET', 'PUT', 'PATCH', 'DELETE'];
/** RFC 9110 §5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const utf8 = new TextDecoder('utf-8', { fatal: true });

export class HttpParser {
  /** Received and not consumed yet. */
  #buffer: Uint8Array = EMPTY;
  #head: Head | undefined;
  #body: PartialBody | undefined;
  readonly #budget: MemoryBudget;
  /** Called when a client waits for permission to send its body. */
  readonly #onContinue: () => void;

  readonly #anyMethod: boolean;

  /**
   * @param budget of bodies that are on their way, of all connections together
   * @param anyMethod also take methods that no endpoint has
   */
  constructor(budget: MemoryBudget, onContinue: () => void, anyMethod = false) {
    this.#budget = budget;
    this.#onContinue = onContinue;
    this.#anyMethod = anyMethod;
  }

  /** True between requests. */
  get idle(): boolean {
    return this.#head === undefined && this.#body === undefined && this.#buffer.length === 0;
  }

  /** @param bytes become the parser's own */
  push(bytes: Uint8Array): void {
    const rest = this.#body ? fill(this.#body, bytes) : bytes;
    if (rest.length > 0) this.#buffer = this.#buffer.length === 0 ? rest : join(this.#buffer, rest);
  }

  /**
   * The next complete request, or undefined until more bytes come.
   * @throws HttpParseError after which the parser is of no use
   */
  next(): HttpRequest | undefined {
    while (this.#body === undefined) {
      const line = this.#takeLine();
      if (line === undefined) return undefined;
      if (this.#head === undefined) this.#head = parseRequestLine(line, this.#anyMethod);
      else if (line !== '') parseHeader(this.#head, line);
      else this.#beginBody(this.#head);
    }
    const { head, bytes, received } = this.#body;
    if (received < bytes.length) return undefined;
    this.release();
    const { method, path, lastEventId } = head;
    return {
      method,
      path,
      body: bytes,
      ...(lastEventId !== undefined && { lastEventId }),
      ...(isLast(head) && { isLast: true }),
    };
  }

  /** Gives back what a request that is not complete has of the budget. */
  release(): void {
    if (this.#body) this.#budget.give(this.#body.bytes.length);
    this.#body = undefined;
  }

  #beginBody(head: Head): void {
    const length = head.contentLength ?? 0;
    if (!this.#budget.take(length)) throw new HttpParseError('Too many requests are on their way.', 'busy');
    this.#head = undefined;
    this.#body = { head, bytes: length === 0 ? EMPTY : new Uint8Array(length), received: 0 };
    this.#buffer = compact(fill(this.#body, this.#buffer));
    if (head.expectsContinue && length > 0) this.#onContinue();
  }

  #takeLine(): string | undefined {
    const buffer = this.#buffer;
    const end = buffer.indexOf(LF);
    if (end < 0 ? buffer.length >= MAX_LINE : end >= MAX_LINE) {
      throw new HttpParseError('Line too long.', this.#head ? 'header-size' : 'uri-size');
    }
    if (end < 0) {
      this.#buffer = compact(buffer);
      return undefined;
    }
    if (end === 0 || buffer[end - 1] !== CR) throw new HttpParseError('Line does not end in CRLF.');
    const line = decodeLine(buffer.subarray(0, end - 1));
    this.#buffer = buffer.subarray(end + 1);
    return line;
  }
}

/** Moves what belongs to the body there. @returns the rest */
function fill(body: PartialBody, bytes: Uint8Array): Uint8Array {
  const part = bytes.subarray(0, body.bytes.length - body.received);
  body.bytes.set(part, body.received);
  body.received += part.length;
  return bytes.subarray(part.length);
}

function join(first: Uint8Array, second: Uint8Array): Uint8Array {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}

/** A few bytes that wait for more must not keep all those that came with them. */
function compact(bytes: Uint8Array): Uint8Array {
  return bytes.length < bytes.buffer.byteLength ? bytes.slice() : bytes;
}

function decodeLine(bytes: Uint8Array): string {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new HttpParseError('Header is not UTF-8.');
  }
  if (text.includes('\r') || text.includes('\0'))
    throw new HttpParseError('Header holds a control character.');
  return text;
}

function parseRequestLine(line: string, anyMethod: boolean): Head {
  const [method, uri, version, ...more] = line.split(' ');
  if (method === undefined || !(anyMethod ? TOKEN.test(method) : methods.includes(method))) {
    throw new HttpParseError('Invalid HTTP Method.');
  }
  if (!uri || more.length > 0) throw new HttpParseError('Invalid URI.');
  if (version !== 'HTTP/1.1' && version !== 'HTTP/1.0') {
    throw new HttpParseError('Unsupported HTTP version.', 'version');
  }
  return {
    method,
    path: pathOf(uri),
    headerCount: 0,
    contentLength: undefined,
    lastEventId: undefined,
    expectsContinue: false,
    version,
    connectionOptions: [],
  };
}

/** Origin form as it is; of the absolute form what follows the host. */
function pathOf(uri: string): string {
  const scheme = 'http://';
  if (!uri.startsWith(scheme)) return uri;
  const slash = uri.indexOf('/', scheme.length);
  return slash < 0 ? '/' : uri.slice(slash);
}

function parseHeader(head: Head, line: string): void {
  if (++head.headerCount > MAX_HEADERS) throw new HttpParseError('Too many headers.', 'header-size');
  const colon = line.indexOf(':');
  const name = line.slice(0, Math.max(colon, 0)).toLowerCase();
  if (name === '' || name.includes(' ') || name.includes('\t')) throw new HttpParseError('Invalid header.');
  const value = line.slice(colon + 1).trim();
  switch (name) {
    case 'content-length':
      if (head.contentLength !== undefined) throw new HttpParseError('More than one Content-Length.');
      head.contentLength = parseContentLength(value);
      return;
    case 'transfer-encoding':
      // Nothing but Content-Length frames a body here; to ignore the header would let bodies pass for requests.
      throw new HttpParseError('Transfer-Encoding is not supported.', 'framing');
    case 'last-event-id':
      head.lastEventId = value;
      return;
    case 'connection':
      head.connectionOptions.push(...value.split(',').map((option) => option.trim().toLowerCase()));
      return;
    case 'expect':
      head.expectsContinue = value.toLowerCase() === '100-continue';
      return;
    case 'accept-encoding':
      if (forbidsIdentity(value)) throw new HttpParseError('Invalid Accept-Encoding.');
  }
}

function isLast({ version, connectionOptions: options }: Head): boolean {
  return options.includes('close') || (version === 'HTTP/1.0' && !options.includes('keep-alive'));
}

function parseContentLength(value: string): number {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code < 0x30 || code > 0x39) throw new HttpParseError('Invalid Content-Length.');
  }
  const length = value === '' ? Number.NaN : Number(value);
  if (!(length <= MAX_BODY)) {
    throw new HttpParseError(`Content-Length exceeds ${MAX_BODY} bytes.`, 'body-size');
  }
  return length;
}

/** RFC 9110 12.5.3: only identity can be sent, so it must not have weight 0, by name or by `*`. */
function forbidsIdentity(value: string): boolean {
  if (value === '') return true;
  let byStar = false;
  for (const item of value.split(',')) {
    const [coding, ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    const refused = parameters.some(
      (parameter) => parameter.startsWith('q=') && Number(parameter.slice(2)) === 0,
    );
    if (coding === 'identity') return refused;
    if (coding === '*' && refused) byStar = true;
  }
  return byStar;
}
