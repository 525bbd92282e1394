/** Unsigned integers of 64 bits: a number as long as that is exact, and a BigInt beyond, never both for one value. */
import { U64 } from './limits.ts';

export type Uint64 = number | bigint;

/** Undefined for what has more bits. */
export function uint64(value: bigint): Uint64 | undefined {
  if (value > U64) return undefined;
  return value > Number.MAX_SAFE_INTEGER ? value : Number(value);
}

export function isMultiple(value: Uint64, unit: Uint64): boolean {
  return typeof value === 'number' && typeof unit === 'number'
    ? value % unit === 0
    : isBigMultiple(value, unit);
}

function isBigMultiple(value: Uint64, unit: Uint64): boolean {
  return BigInt(value) % BigInt(unit) === 0n;
}
