/** Numbers as people write them. */

const KIB = 1024;
/** By place: K is KiB to the power of 1. */
const UNITS = ' KMG';

/** Decimal digits only, at most 2^53 - 1; otherwise undefined. */
export function parseDigits(text: string): number | undefined {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x30 || code > 0x39) return undefined;
  }
  const value = text === '' ? Number.NaN : Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Bytes: digits with optional K, M or G (binary); otherwise undefined. */
export function parseByteSize(text: string): number | undefined {
  const exponent = text === '' ? 0 : Math.max(UNITS.indexOf(text.slice(-1)), 0);
  const value = parseDigits(exponent > 0 ? text.slice(0, -1) : text);
  const bytes = value === undefined ? Number.NaN : value * KIB ** exponent;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
