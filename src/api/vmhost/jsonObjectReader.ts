/**
 * Finds the end of a JSON object in a stream of bytes, so that a peer need send neither a newline nor an end of file.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING: readonly number[] = [0x7b, 0x5b]; // { [
const CLOSING: readonly number[] = [0x7d, 0x5d];
const OPENING_BRACE = 0x7b;
/** RFC 8259 §2. */
const WHITE_SPACE: readonly number[] = [0x20, 0x09, 0x0a, 0x0d];

/** Collects one object. What follows it is left alone. */
export class JsonObjectReader {
  readonly #maxBytes: number;
  #bytes = new Uint8Array(256);
  #length = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Takes the next bytes.
   * @returns the object's text once it is complete
   * @throws Error if what comes is no object or too long; what is inside the object is for JSON.parse to judge
   */
  add(bytes: Uint8Array): string | undefined {
    for (const [index, byte] of bytes.entries()) {
      if (this.#take(byte)) {
        this.#keep(bytes.subarray(0, index + 1));
        return new TextDecoder('utf-8', { fatal: true }).decode(this.#bytes.subarray(0, this.#length));
      }
      if (this.#length + index >= this.#maxBytes) throw new Error(`longer than ${this.#maxBytes} bytes`);
    }
    this.#keep(bytes);
    return undefined;
  }

  /** True where the byte completes the object. */
  #take(byte: number): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === QUOTE) this.#inString = false;
      return false;
    }
    if (this.#depth === 0 && byte !== OPENING_BRACE) {
      if (WHITE_SPACE.includes(byte)) return false;
      throw new Error('not a JSON object');
    }
    if (byte === QUOTE) this.#inString = true;
    else if (OPENING.includes(byte)) this.#depth++;
    else if (CLOSING.includes(byte)) this.#depth--;
    return this.#depth === 0 && CLOSING.includes(byte);
  }

  /** Copies: the caller's buffer may be used again. */
  #keep(bytes: Uint8Array): void {
    const length = this.#length + bytes.length;
    if (length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.#bytes.length));
      larger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = length;
  }
}
