/** Numbers as they are written by hand, with units. */

import { ConfigError } from './configError.ts';
import { type Uint64, uint64 } from './uint64.ts';
import { KIB } from './units.ts';

/** By place: K is KiB to the power of 1. */
const UNITS = ' KMG';
/** As many as 2^64 - 1 has. */
const LONG_DIGITS = /^\d{16,20}$/;

/** Decimal digits only, at most 2^53 - 1; otherwise undefined. */
export function parseDigits(text: string): number | undefined {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x30 || code > 0x39) return undefined;
  }
  const value = text === '' ? Number.NaN : Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Decimal digits only, at most 2^64 - 1; otherwise undefined. */
export function parseUint64(text: string): Uint64 | undefined {
  const value = parseDigits(text);
  return value === undefined && LONG_DIGITS.test(text) ? longUint64(text) : value;
}

function longUint64(text: string): Uint64 | undefined {
  return uint64(BigInt(text));
}

/** Bytes: digits with optional K, M or G (binary), at most 2^64 - 1; otherwise undefined. */
export function parseByteSize(text: string): Uint64 | undefined {
  const exponent = text === '' ? 0 : Math.max(UNITS.indexOf(text.slice(-1)), 0);
  const value = parseUint64(exponent > 0 ? text.slice(0, -1) : text);
  if (value === undefined) return undefined;
  const bytes = Number(value) * KIB ** exponent;
  return Number.isSafeInteger(bytes) ? bytes : bigByteSize(value, exponent);
}

function bigByteSize(value: Uint64, exponent: number): Uint64 | undefined {
  return uint64(BigInt(value) * BigInt(KIB ** exponent));
}

/** What the library takes for bytes. @throws ConfigError */
export function byteSize(size: number | string): Uint64 {
  if (typeof size === 'number') return size;
  const bytes = parseByteSize(size);
  if (bytes === undefined) throw new ConfigError('malformed', `"${size}" is not a size such as 512M`);
  return bytes;
}
