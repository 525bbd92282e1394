/** The serial number of a disk that was given none, by which the guest recognizes it wherever it is on the bus. */

const OFFSET_BASIS = 0x811c9dc5;
const OTHER_BASIS = 0x2a7f30b1;
const PRIME = 0x01000193;

/** The same 20 characters for the same path, "tsvm" and two 32-bit FNV-1a hashes of it. */
export function serialOfPath(path: string): string {
  return `tsvm${hex(hash(path, OFFSET_BASIS))}${hex(hash(path, OTHER_BASIS))}`;
}

function hash(text: string, basis: number): number {
  let value = basis;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ text.charCodeAt(i), PRIME);
  }
  return value >>> 0;
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}
