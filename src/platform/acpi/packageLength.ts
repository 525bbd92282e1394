/** PkgLength, which begins most of AML's larger terms (ACPI 6.5 §20.2.4). */

/** Bytes of a PkgLength for `length`; `self` is 1 if the encoding counts its own bytes, 0 if not. */
export function packageLengthSize(length: number, self: 0 | 1): number {
  if (length + self <= 0x3f) {
    return 1;
  }
  if (length + 2 * self <= 0xfff) {
    return 2;
  }
  return length + 3 * self <= 0xf_ffff ? 3 : 4;
}

/** @param length what is counted @param size of its encoding, in bytes */
export function writePackageLength(bytes: Uint8Array, at: number, length: number, size: number): void {
  if (size === 1) {
    bytes[at] = length;
    return;
  }
  bytes[at] = ((size - 1) << 6) | (length & 0x0f);
  for (let i = 1; i < size; i++) {
    bytes[at + i] = length >> (8 * i - 4);
  }
}
