/** Little-endian fields wider than DataView gives for numbers, and text. */

const TWO_POW_32 = 2 ** 32;

/** Writes a 64-bit field. `value` must be a non-negative safe integer. */
export function setU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % TWO_POW_32, true);
  view.setUint32(offset + 4, Math.floor(value / TWO_POW_32), true);
}

/** Reads a 64-bit field. Above 2^53 the result is only approximate, but never below 2^53. */
export function getU64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * TWO_POW_32 + view.getUint32(offset, true);
}

/** Writes text of ASCII characters, without a terminator. */
export function setAscii(bytes: Uint8Array, offset: number, text: string): void {
  for (let i = 0; i < text.length; i++) {
    bytes[offset + i] = text.charCodeAt(i);
  }
}

/** 32-bit words in a row. */
export function bytesOfWords(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(words.length * 4);
  let at = 0;
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as number;
    bytes[at++] = word;
    bytes[at++] = word >>> 8;
    bytes[at++] = word >>> 16;
    bytes[at++] = word >>> 24;
  }
  return bytes;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The byte that makes the sum of `bytes` zero modulo 256, given that it is zero now. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) {
    sum += bytes[i] as number;
  }
  return -sum & 0xff;
}
