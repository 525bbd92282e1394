/**
 * XDR (RFC 4506) as libvirt uses it. What is read is not trusted: every length is checked before anything is made of
 * it.
 */

/** Bytes of a string, at most. */
const MAX_STRING = 4_194_304;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** The bytes are not what the procedure's arguments look like. */
export class XdrError extends Error {}

export class XdrReader {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8));
  }

  /** A C string to libvirt, so that a NUL would end it there. */
  string(): string {
    const bytes = this.opaque(MAX_STRING);
    if (bytes.includes(0)) throw new XdrError('a string has a NUL');
    try {
      return utf8.decode(bytes);
    } catch {
      throw new XdrError('a string is not UTF-8');
    }
  }

  /** Variable opaque data. The result shares the reader's bytes. */
  opaque(max: number): Uint8Array {
    const length = this.u32();
    if (length > max) throw new XdrError(`${length} bytes, more than ${max}`);
    return this.fixed(length);
  }

  fixed(length: number): Uint8Array {
    const at = this.#take(length);
    this.#take(padding(length));
    return this.#bytes.subarray(at, at + length);
  }

  /** An optional: absent is four zero bytes, anything else present (some clients do not send 1). */
  optional<T>(read: () => T): T | undefined {
    return this.u32() === 0 ? undefined : read();
  }

  /** @param max elements */
  array<T>(max: number, read: () => T): T[] {
    const count = this.u32();
    if (count > max) throw new XdrError(`${count} elements, more than ${max}`);
    return Array.from({ length: count }, read);
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) throw new XdrError('the message is too short');
    this.#at = at + length;
    return at;
  }
}

export class XdrWriter {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length: number;

  readonly #max: number;

  /**
   * @param room bytes that are left free in front, at most 256
   * @param max bytes of all; what writes more throws XdrError
   */
  constructor(room = 0, max = Number.POSITIVE_INFINITY) {
    this.#length = room;
    this.#max = max;
  }

  /** What was written. Shares the writer's bytes: nothing is to be written after it. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  i32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setInt32(at, value);
  }

  u32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value);
  }

  i64(value: bigint): void {
    const at = this.#reserve(8);
    this.#view.setBigInt64(at, value);
  }

  u64(value: bigint): void {
    const at = this.#reserve(8);
    this.#view.setBigUint64(at, value);
  }

  f64(value: number): void {
    const at = this.#reserve(8);
    this.#view.setFloat64(at, value);
  }

  /** @throws XdrError if the peer could not read it */
  string(value: string): void {
    const bytes = encoder.encode(value);
    if (bytes.length > MAX_STRING)
      throw new XdrError(`a string of ${bytes.length} bytes, more than ${MAX_STRING}`);
    if (bytes.includes(0)) throw new XdrError('a string has a NUL');
    this.opaque(bytes);
  }

  opaque(value: Uint8Array): void {
    this.u32(value.length);
    this.fixed(value);
  }

  fixed(value: Uint8Array): void {
    const at = this.#reserve(value.length + padding(value.length));
    this.#bytes.set(value, at);
    this.#bytes.fill(0, at + value.length, this.#length);
  }

  /** May replace view and bytes: it comes before them in what uses it. */
  #reserve(length: number): number {
    const at = this.#length;
    if (at + length > this.#max) throw new XdrError(`more than ${this.#max} bytes`);
    this.#length += length;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}

function padding(length: number): number {
  return (4 - (length % 4)) % 4;
}
