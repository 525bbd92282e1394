/**
 * The encoding of everything that crosses to the core: a deterministic subset of CBOR (RFC 8949), which
 * `native/core/cbor_reader.h` defines and checks. Descriptors travel beside the bytes, which name them by index.
 *
 * Written by hand because all of it runs before a guest starts: loading a library takes longer than this does.
 */

/** A file descriptor in a message. It stays the sender's: the core duplicates it. */
export class Descriptor {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }
}

/** What `decode` makes: numbers that JavaScript does not hold exactly are BigInts. */
export type Decoded =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Decoded[]
  | { [name: string]: Decoded };

export interface Message {
  readonly bytes: Uint8Array;
  /** By index. */
  readonly descriptors: readonly number[];
}

/** Major types (RFC 8949 §3.1). */
const UNSIGNED = 0;
const NEGATIVE = 1;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const TAG = 6;
/** First bytes of the simple values (§3.3). */
const FALSE = 0xf4;
const TRUE = 0xf5;
const NULL = 0xf6;

const DESCRIPTOR_TAG = 0xfd00;
/** Arguments below this are in the first byte; from here on 1, 2, 4 or 8 bytes follow (§3). */
const FIRST_LONG = 24;
const MAX_UINT64 = 2n ** 64n - 1n;
/** Enough for a start: what is written into at first, and kept. */
const SCRATCH_SIZE = 16_384;
/** Room that is made before a value: for a head, two heads of a descriptor or a short text, and for a name after it. */
const ROOM = 128;
/** Text up to this length is encoded here: calling the runtime costs more. */
const SHORT_TEXT = 32;
const BEYOND_ASCII = 0x80;
/** As deep as the core reads. */
const MAX_DEPTH = 16;

// What is being encoded. Variables rather than an object's fields: this runs once, before the guest, in an interpreter
// that takes half as long for them.
const scratch = new Uint8Array(SCRATCH_SIZE);
let bytes = scratch;
let length = 0;
let descriptors: number[] = [];
/** Programs around this library may have given every object fields, which are none of a message's. */
let inherits = false;
const NOTHING = {};

/**
 * @param value null, booleans, numbers that are exact, BigInts of 64 bits, strings, Uint8Arrays, Descriptors, arrays
 * and plain objects of these; a field that is `undefined` is left out
 * @throws RangeError, TypeError for anything else
 */
export function encode(value: unknown): Message {
  const message = encodeForNow(value);
  return { ...message, bytes: message.bytes.slice() };
}

/** As `encode`. The bytes are good until the next message is encoded. */
export function encodeForNow(value: unknown): Message {
  bytes = scratch;
  length = 0;
  descriptors = [];
  inherits = false;
  for (const _ in NOTHING) inherits = true;
  putValue(value);
  return { bytes: bytes.subarray(0, length), descriptors };
}

/**
 * One function for nearly all of it, and few besides: a start encodes two messages, and what it takes is the first
 * calls of functions (100 us when each type had its own) and then the number of calls.
 */
function putValue(value: unknown): void {
  if (length + ROOM > bytes.length) grow(ROOM);
  if (typeof value === 'string') {
    putText(value);
  } else if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) refuse(`${value} is no whole number that is exact`);
    if (value >= 0) putHead(UNSIGNED, value);
    else putHead(NEGATIVE, -1 - value);
  } else if (typeof value === 'boolean') {
    bytes[length++] = value ? TRUE : FALSE;
  } else if (Array.isArray(value)) {
    putHead(ARRAY, value.length);
    for (let i = 0; i < value.length; i++) putValue(value[i]);
  } else if (value instanceof Uint8Array) {
    putBytes(BYTES, value);
  } else if (value instanceof Descriptor) {
    putDescriptor(value);
  } else if (typeof value === 'object') {
    if (value === null) bytes[length++] = NULL;
    else putMap(value as Fields);
  } else {
    putOther(value);
  }
}

interface Fields {
  readonly [name: string]: unknown;
}

function putMap(given: Fields): void {
  const fields = inherits ? ownFields(given) : given;
  let count = 0;
  for (const name in fields) if (fields[name] !== undefined) count++;
  putHead(MAP, count);
  for (const name in fields) {
    const value = fields[name];
    if (value === undefined) continue;
    putText(name);
    putValue(value);
  }
}

function ownFields(fields: Fields): Fields {
  return Object.assign(Object.create(null), fields);
}

function putDescriptor({ fd }: Descriptor): void {
  if (!Number.isInteger(fd) || fd < 0) refuse(`${fd} is no descriptor`);
  putHead(TAG, DESCRIPTOR_TAG);
  putHead(UNSIGNED, descriptors.length);
  descriptors.push(fd);
}

function putOther(value: unknown): void {
  if (typeof value !== 'bigint') throw unencodable(value);
  const argument = value >= 0n ? value : -1n - value;
  if (argument > MAX_UINT64) refuse(`${value} has more than 64 bits`);
  const major = value >= 0n ? UNSIGNED : NEGATIVE;
  if (argument <= BigInt(Number.MAX_SAFE_INTEGER)) putHead(major, Number(argument));
  else putLongHead(major, Number(argument >> 32n), Number(argument & 0xffff_ffffn));
}

/** Nearly all text is short and ASCII: one function for that, without a call of another. */
function putText(value: string): void {
  const count = value.length;
  const into = bytes;
  let end = length;
  let bits = count <= SHORT_TEXT ? 0 : BEYOND_ASCII;
  if (bits === 0) {
    if (count < FIRST_LONG) {
      into[end++] = (TEXT << 5) | count;
    } else {
      into[end++] = (TEXT << 5) | FIRST_LONG;
      into[end++] = count;
    }
    for (let i = 0; i < count; i++) bits |= into[end++] = value.charCodeAt(i);
  }
  if (bits < BEYOND_ASCII) length = end;
  else putBytes(TEXT, encodeUtf8(value));
}

function putBytes(major: number, value: Uint8Array): void {
  putHead(major, value.length);
  if (length + value.length + ROOM > bytes.length) grow(value.length + ROOM);
  bytes.set(value, length);
  length += value.length;
}

function putHead(major: number, argument: number): void {
  const high = major << 5;
  if (argument < FIRST_LONG) {
    bytes[length++] = high | argument;
  } else if (argument <= 0xff) {
    bytes[length++] = high | FIRST_LONG;
    bytes[length++] = argument;
  } else if (argument <= 0xffff) {
    bytes[length++] = high | (FIRST_LONG + 1);
    bytes[length++] = argument >>> 8;
    bytes[length++] = argument;
  } else if (argument <= 0xffff_ffff) {
    bytes[length++] = high | (FIRST_LONG + 2);
    bytes[length++] = argument >>> 24;
    bytes[length++] = argument >>> 16;
    bytes[length++] = argument >>> 8;
    bytes[length++] = argument;
  } else {
    putLongHead(major, Math.floor(argument / 2 ** 32), argument % 2 ** 32);
  }
}

function putLongHead(major: number, high: number, low: number): void {
  bytes[length++] = (major << 5) | (FIRST_LONG + 3);
  for (const half of [high, low]) {
    bytes[length++] = half >>> 24;
    bytes[length++] = half >>> 16;
    bytes[length++] = half >>> 8;
    bytes[length++] = half;
  }
}

// Apart: the runtime makes the classes of errors when functions that name them are first called.
function refuse(message: string): never {
  throw new RangeError(message);
}

function unencodable(value: unknown): TypeError {
  return new TypeError(`A ${typeof value} cannot be encoded`);
}

function grow(more: number): void {
  const larger = new Uint8Array(Math.max(length + more, 2 * bytes.length));
  larger.set(bytes);
  bytes = larger;
}

/** @throws Error if the bytes are not one message without descriptors */
export function decode(bytes: Uint8Array): Decoded {
  const decoder = new Decoder(bytes);
  const value = decoder.value(0);
  decoder.end();
  return value;
}

class Decoder {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  end(): void {
    if (this.#at !== this.#bytes.length) this.#fail('bytes follow it');
  }

  value(depth: number): Decoded {
    const first = this.#bytes[this.#at++] ?? this.#fail('it ends too early');
    if (first === FALSE || first === TRUE) return first === TRUE;
    if (first === NULL) return null;
    const argument = this.#argument(first & 0x1f);
    switch (first >> 5) {
      case UNSIGNED:
        return argument;
      case NEGATIVE:
        return typeof argument === 'bigint' ? -1n - argument : -1 - argument;
      case BYTES:
        return this.#take(argument);
      case TEXT:
        return this.#text(argument);
      case ARRAY:
        return this.#array(Number(argument), depth);
      case MAP:
        return this.#map(Number(argument), depth);
      default:
        return this.#fail('it has an item that no answer has');
    }
  }

  #argument(low: number): number | bigint {
    if (low < FIRST_LONG) return low;
    const size = 2 ** (low - FIRST_LONG);
    if (size > 8) this.#fail('a length is not definite');
    if (size > this.#bytes.length - this.#at) this.#fail('it ends too early');
    if (size < 8) return this.#bigEndian(size);
    const high = this.#bigEndian(4);
    const low32 = this.#bigEndian(4);
    const whole = high * 2 ** 32 + low32;
    return Number.isSafeInteger(whole) ? whole : (BigInt(high) << 32n) | BigInt(low32);
  }

  /** Up to four bytes, which are there. */
  #bigEndian(size: number): number {
    const end = this.#at + size;
    let number = 0;
    while (this.#at < end) number = number * 256 + (this.#bytes[this.#at++] as number);
    return number;
  }

  #text(size: number | bigint): string {
    if (size > SHORT_TEXT) return decodeUtf8(this.#take(size));
    const bytes = this.#take(size);
    let text = '';
    for (let i = 0; i < bytes.length; i++) {
      const code = bytes[i] as number;
      if (code >= 0x80) return decodeUtf8(bytes);
      text += String.fromCharCode(code);
    }
    return text;
  }

  #take(size: number | bigint): Uint8Array {
    if (size > this.#bytes.length - this.#at) this.#fail('it ends too early');
    const start = this.#at;
    this.#at += Number(size);
    return this.#bytes.subarray(start, this.#at);
  }

  #array(count: number, depth: number): Decoded[] {
    if (depth === MAX_DEPTH) this.#fail('it is nested too deep');
    const elements: Decoded[] = [];
    for (let i = 0; i < count; i++) elements.push(this.value(depth + 1));
    return elements;
  }

  #map(count: number, depth: number): { [name: string]: Decoded } {
    if (depth === MAX_DEPTH) this.#fail('it is nested too deep');
    const fields: { [name: string]: Decoded } = {};
    for (let i = 0; i < count; i++) {
      const name = this.value(depth + 1);
      if (typeof name !== 'string') this.#fail('a key is not text');
      const value = this.value(depth + 1);
      if (name === '__proto__') define(fields, name, value);
      else fields[name as string] = value;
    }
    return fields;
  }

  #fail(why: string): never {
    throw new RangeError(`The message cannot be read at byte ${this.#at}: ${why}`);
  }
}

/** A counter may have any name. */
function define(fields: object, name: string, value: Decoded): void {
  Object.defineProperty(fields, name, { value, enumerable: true, configurable: true, writable: true });
}

// Made when they are needed, which takes long and is seldom.
let utf8Encoder: InstanceType<typeof TextEncoder> | undefined;
let utf8Decoder: InstanceType<typeof TextDecoder> | undefined;

function encodeUtf8(text: string): Uint8Array {
  utf8Encoder ??= new TextEncoder();
  return utf8Encoder.encode(text);
}

function decodeUtf8(bytes: Uint8Array): string {
  utf8Decoder ??= new TextDecoder('utf-8', { fatal: true });
  return utf8Decoder.decode(bytes);
}
