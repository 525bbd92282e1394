/**
 * Packets of the GDB remote serial protocol ("Debugging with GDB", appendix E "Overview"): `$text#checksum`. A text is
 * kept as a string whose characters are its bytes.
 */

/** Of a packet's text, in either direction; told to the debugger. */
export const MAX_PACKET = 16 * 1024;

const PACKET_START = 0x24;
const CHECKSUM_START = 0x23;
const ESCAPE = 0x7d;
const ESCAPE_BIT = 0x20;
const ACK = 0x2b;
const NACK = 0x2d;
const INTERRUPT = 0x03;
const CHECKSUM_DIGITS = 2;
/** In a binary answer these stand for something else. */
const SPECIAL = new Set(['#', '$', '*', '}']);

export type Item =
  | { readonly kind: 'packet'; readonly text: string }
  /** A packet whose checksum is not that of its text. */
  | { readonly kind: 'damaged' }
  | { readonly kind: 'interrupt' | 'ack' | 'nack' };

/** Takes bytes apart, as they come. */
export class PacketReader {
  #text: string[] = [];
  #sum = 0;
  #digits = '';
  #state: 'outside' | 'text' | 'escaped' | 'checksum' = 'outside';

  /** @throws RangeError for a packet that is too long: nothing can be made of what follows */
  *read(bytes: Uint8Array): Generator<Item> {
    for (const byte of bytes) {
      const item = this.#take(byte);
      if (item) yield item;
    }
  }

  #take(byte: number): Item | undefined {
    if (this.#state === 'outside') return this.#takeOutside(byte);
    if (this.#state === 'checksum') return this.#takeChecksum(byte);
    if (byte === PACKET_START && this.#state === 'text') return void this.#begin();
    if (byte === CHECKSUM_START && this.#state === 'text') {
      this.#state = 'checksum';
      return;
    }
    this.#sum = (this.#sum + byte) & 0xff;
    if (byte === ESCAPE && this.#state === 'text') {
      this.#state = 'escaped';
      return;
    }
    if (this.#text.length >= MAX_PACKET) throw new RangeError('a packet is too long');
    this.#text.push(String.fromCharCode(this.#state === 'escaped' ? byte ^ ESCAPE_BIT : byte));
    this.#state = 'text';
    return;
  }

  #takeOutside(byte: number): Item | undefined {
    if (byte === PACKET_START) this.#begin();
    if (byte === ACK) return { kind: 'ack' };
    if (byte === NACK) return { kind: 'nack' };
    if (byte === INTERRUPT) return { kind: 'interrupt' };
    return;
  }

  #takeChecksum(byte: number): Item | undefined {
    this.#digits += String.fromCharCode(byte);
    if (this.#digits.length < CHECKSUM_DIGITS) return;
    this.#state = 'outside';
    const right = /^[0-9a-f]{2}$/i.test(this.#digits) && Number.parseInt(this.#digits, 16) === this.#sum;
    return right ? { kind: 'packet', text: this.#text.join('') } : { kind: 'damaged' };
  }

  #begin(): void {
    this.#text = [];
    this.#sum = 0;
    this.#digits = '';
    this.#state = 'text';
  }
}

/** The bytes of a packet. */
export function encodePacket(text: string): Uint8Array {
  let sum = 0;
  for (let i = 0; i < text.length; i++) sum = (sum + text.charCodeAt(i)) & 0xff;
  return Buffer.from(`$${text}#${sum.toString(16).padStart(CHECKSUM_DIGITS, '0')}`, 'latin1');
}

/** Text as it may stand in an answer that is not in hexadecimal digits. */
export function escapeBinary(text: string): string {
  let escaped = '';
  for (const character of text) {
    escaped += SPECIAL.has(character)
      ? `}${String.fromCharCode(character.charCodeAt(0) ^ ESCAPE_BIT)}`
      : character;
  }
  return escaped;
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** @returns undefined for what is no even number of hexadecimal digits */
export function fromHex(text: string): Uint8Array | undefined {
  return /^([0-9a-f]{2})*$/i.test(text) ? new Uint8Array(Buffer.from(text, 'hex')) : undefined;
}
