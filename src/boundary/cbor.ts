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

/** What can cross. A field that is `undefined` is left out. */
export type Encodable =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Descriptor
  | readonly Encodable[]
  | { readonly [name: string]: Encodable | undefined };

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
const INITIAL_SIZE = 8192;
/** Text up to this length is encoded here: calling the runtime costs more. */
const SHORT_TEXT = 32;
/** As deep as the core reads. */
const MAX_DEPTH = 16;

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder('utf-8', { fatal: true });

/** @throws RangeError, TypeError for what cannot be encoded */
export function encode(value: Encodable): Message {
  const encoder = new Encoder();
  encoder.value(value);
  return encoder.message();
}

class Encoder {
  #bytes = new Uint8Array(INITIAL_SIZE);
  #length = 0;
  readonly #descriptors: number[] = [];

  message(): Message {
    return { bytes: this.#bytes.subarray(0, this.#length), descriptors: this.#descriptors };
  }

  value(value: Encodable): void {
    if (typeof value === 'string') this.#text(value);
    else if (typeof value === 'number') this.#number(value);
    else if (typeof value === 'boolean') this.#byte(value ? TRUE : FALSE);
    else if (typeof value === 'object') this.#object(value);
    else if (typeof value === 'bigint') this.#bigint(value);
    else throw new TypeError(`A ${typeof value} cannot be encoded`);
  }

  #object(value: (Encodable & object) | null): void {
    if (value === null) this.#byte(NULL);
    else if (value instanceof Uint8Array) this.#byteString(value);
    else if (value instanceof Descriptor) this.#descriptor(value);
    else if (Array.isArray(value)) this.#array(value);
    else this.#map(value as { readonly [name: string]: Encodable | undefined });
  }

  #array(elements: readonly Encodable[]): void {
    this.#head(ARRAY, elements.length);
    for (const element of elements) this.value(element);
  }

  #map(fields: { readonly [name: string]: Encodable | undefined }): void {
    let count = 0;
    for (const name in fields) if (fields[name] !== undefined) count++;
    this.#head(MAP, count);
    for (const name in fields) {
      const value = fields[name];
      if (value === undefined) continue;
      this.#text(name);
      this.value(value);
    }
  }

  #descriptor({ fd }: Descriptor): void {
    if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`${fd} is no descriptor`);
    this.#head(TAG, DESCRIPTOR_TAG);
    this.#head(UNSIGNED, this.#descriptors.length);
    this.#descriptors.push(fd);
  }

  #number(value: number): void {
    if (!Number.isSafeInteger(value)) throw new RangeError(`${value} is no whole number that is exact`);
    if (value >= 0) this.#head(UNSIGNED, value);
    else this.#head(NEGATIVE, -1 - value);
  }

  #bigint(value: bigint): void {
    const argument = value >= 0n ? value : -1n - value;
    if (argument > MAX_UINT64) throw new RangeError(`${value} has more than 64 bits`);
    const major = value >= 0n ? UNSIGNED : NEGATIVE;
    if (argument <= BigInt(Number.MAX_SAFE_INTEGER)) this.#head(major, Number(argument));
    else this.#longHead(major, Number(argument >> 32n), Number(argument & 0xffff_ffffn));
  }

  #text(value: string): void {
    const { length } = value;
    if (length <= SHORT_TEXT && this.#shortText(value, length)) return;
    this.#byteString(utf8Encoder.encode(value), TEXT);
  }

  /** False, with nothing written, unless all of it is ASCII. */
  #shortText(value: string, length: number): boolean {
    const start = this.#length;
    this.#head(TEXT, length);
    this.#reserve(length);
    const bytes = this.#bytes;
    let end = this.#length;
    for (let i = 0; i < length; i++) {
      const code = value.charCodeAt(i);
      if (code >= 0x80) {
        this.#length = start;
        return false;
      }
      bytes[end++] = code;
    }
    this.#length = end;
    return true;
  }

  #byteString(value: Uint8Array, major: number = BYTES): void {
    this.#head(major, value.length);
    this.#reserve(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  #head(major: number, argument: number): void {
    const high = major << 5;
    if (argument < FIRST_LONG) {
      this.#byte(high | argument);
      return;
    }
    if (argument > 0xffff_ffff) {
      this.#longHead(major, Math.floor(argument / 2 ** 32), argument % 2 ** 32);
      return;
    }
    this.#reserve(5);
    const bytes = this.#bytes;
    let at = this.#length;
    if (argument > 0xffff) {
      bytes[at++] = high | (FIRST_LONG + 2);
      bytes[at++] = argument >>> 24;
      bytes[at++] = argument >>> 16;
      bytes[at++] = argument >>> 8;
    } else if (argument > 0xff) {
      bytes[at++] = high | (FIRST_LONG + 1);
      bytes[at++] = argument >>> 8;
    } else {
      bytes[at++] = high | FIRST_LONG;
    }
    bytes[at++] = argument;
    this.#length = at;
  }

  #longHead(major: number, high: number, low: number): void {
    this.#byte((major << 5) | (FIRST_LONG + 3));
    this.#reserve(8);
    for (const half of [high, low]) {
      for (let shift = 24; shift >= 0; shift -= 8) this.#bytes[this.#length++] = half >>> shift;
    }
  }

  #byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#bytes.length) return;
    const bytes = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    bytes.set(this.#bytes);
    this.#bytes = bytes;
  }
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
        return decodeUtf8(this.#take(argument));
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
    const bytes = this.#take(size);
    if (size < 8) return bigEndian(bytes);
    const high = bigEndian(bytes.subarray(0, 4));
    const low32 = bigEndian(bytes.subarray(4));
    const whole = high * 2 ** 32 + low32;
    return Number.isSafeInteger(whole) ? whole : (BigInt(high) << 32n) | BigInt(low32);
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
      // A counter may have any name.
      Object.defineProperty(fields, name as string, {
        value: this.value(depth + 1),
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
    return fields;
  }

  #fail(why: string): never {
    throw new RangeError(`The message cannot be read at byte ${this.#at}: ${why}`);
  }
}

/** Up to four bytes. */
function bigEndian(bytes: Uint8Array): number {
  let number = 0;
  for (const byte of bytes) number = number * 256 + byte;
  return number;
}

function decodeUtf8(bytes: Uint8Array): string {
  if (bytes.length <= SHORT_TEXT && bytes.every((byte) => byte < 0x80)) return String.fromCharCode(...bytes);
  return utf8Decoder.decode(bytes);
}
