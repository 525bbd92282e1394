/** Conversion of numbers and parameters to what programs use. */
import { Code, Domain, LibvirtError } from '../libvirtError.ts';
import type { Parameter } from '../types.ts';

/** By name. 64-bit values beyond 2^53 are rounded, so that they can be printed, compared and written as JSON. */
export type Parameters = Readonly<Record<string, number | boolean | string>>;

export function parametersOf(list: readonly Parameter[]): Parameters {
  const named = list.map(({ field, value }): [string, number | boolean | string] => {
    const content: number | bigint | boolean | string = Object.values(value)[0];
    return [field, typeof content === 'bigint' ? Number(content) : content];
  });
  return Object.fromEntries(named);
}

/** Of counters: negative ones are not known. */
export function countOf(value: bigint): number | undefined {
  return value < 0n ? undefined : Number(value);
}

/** @param what the sentence calls it @throws LibvirtError unless it is a whole number that is not negative */
export function unsigned(value: number, what: string): bigint {
  if (Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw new LibvirtError(
    Code.invalidArgument,
    Domain.remote,
    `invalid argument: ${what} is a whole number, not ${value}`,
  );
}

/** The bits of what is asked for. */
export function flagsOf<K extends string>(
  bits: Readonly<Record<K, number>>,
  asked: { readonly [P in NoInfer<K>]?: boolean | undefined },
): number {
  let flags = 0;
  for (const [name, bit] of Object.entries<number>(bits)) if (asked[name as K]) flags |= bit;
  return flags >>> 0;
}

/** As libvirt writes a version: major * 1,000,000 + minor * 1,000 + micro. */
export function versionText(version: bigint): string {
  return `${version / 1_000_000n}.${(version / 1_000n) % 1_000n}.${version % 1_000n}`;
}
