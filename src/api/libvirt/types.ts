/** Types of arguments and answers, each with its encoding. */
import { XdrError, type XdrReader, type XdrWriter } from './xdr.ts';

export interface Type<T> {
  read(from: XdrReader): T;
  write(to: XdrWriter, value: T): void;
}

export type ValueOf<S> = S extends Type<infer T> ? T : never;

const UUID_BYTES = 16;

export const i32: Type<number> = { read: (from) => from.i32(), write: (to, value) => to.i32(value) };
export const u32: Type<number> = { read: (from) => from.u32(), write: (to, value) => to.u32(value) };
export const i64: Type<bigint> = { read: (from) => from.i64(), write: (to, value) => to.i64(value) };
export const u64: Type<bigint> = { read: (from) => from.u64(), write: (to, value) => to.u64(value) };
export const str: Type<string> = { read: (from) => from.string(), write: (to, value) => to.string(value) };

/** Sixteen bytes, as the usual text. */
export const uuid: Type<string> = {
  read: (from) => {
    const hex = Buffer.from(from.fixed(UUID_BYTES)).toString('hex');
    const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
    return parts.join('-');
  },
  write: (to, value) => to.fixed(Buffer.from(value.replaceAll('-', ''), 'hex')),
};

/** @param max bytes */
export function bytes(max: number): Type<Uint8Array> {
  return { read: (from) => from.opaque(max), write: (to, value) => to.opaque(value) };
}

export function optional<T>(type: Type<T>): Type<T | undefined> {
  return {
    read: (from) => from.optional(() => type.read(from)),
    write: (to, value) => {
      to.u32(value === undefined ? 0 : 1);
      if (value !== undefined) type.write(to, value);
    },
  };
}

/** @param max elements */
export function array<T>(type: Type<T>, max: number): Type<T[]> {
  return {
    read: (from) => from.array(max, () => type.read(from)),
    write: (to, value) => {
      to.u32(value.length);
      for (const item of value) type.write(to, item);
    },
  };
}

/** So many elements, without a count. */
export function fixedArray<T>(type: Type<T>, length: number): Type<T[]> {
  return {
    read: (from) => Array.from({ length }, () => type.read(from)),
    write: (to, value) => {
      for (let i = 0; i < length; i++) type.write(to, value[i] as T);
    },
  };
}

type Fields = Readonly<Record<string, Type<never>>>;
// biome-ignore lint/suspicious/noExplicitAny: a field may be of any type; what it is comes out in ValueOf
export type AnyType = Type<any>;
type AnyFields = Readonly<Record<string, AnyType>>;
export type StructOf<F> = { [K in keyof F]: ValueOf<F[K]> };

/** Fields one after the other, in the order in which they are named. */
export function struct<F extends AnyFields>(fields: F): Type<StructOf<F>> {
  const entries = Object.entries(fields as unknown as Fields);
  return {
    read: (from) => {
      const value: Record<string, unknown> = {};
      for (const [name, type] of entries) value[name] = type.read(from);
      return value as StructOf<F>;
    },
    write: (to, value) => {
      for (const [name, type] of entries) type.write(to, (value as Record<string, never>)[name] as never);
    },
  };
}

/** A value with its type: an integer of 32 or 64 bits, a number, a boolean or text. */
type ParameterValue =
  | { readonly int: number }
  | { readonly uint: number }
  | { readonly llong: bigint }
  | { readonly ullong: bigint }
  | { readonly double: number }
  | { readonly boolean: boolean }
  | { readonly string: string };

export interface Parameter {
  readonly field: string;
  readonly value: ParameterValue;
}

interface ParameterKind {
  readonly key: string;
  read(from: XdrReader): unknown;
  write(to: XdrWriter, value: never): void;
}

/** By tag, from 1. */
const PARAMETER_KINDS: readonly ParameterKind[] = [
  { key: 'int', ...i32 },
  { key: 'uint', ...u32 },
  { key: 'llong', ...i64 },
  { key: 'ullong', ...u64 },
  { key: 'double', read: (from) => from.f64(), write: (to, value: number) => to.f64(value) },
  { key: 'boolean', read: (from) => from.i32() !== 0, write: (to, value: boolean) => to.i32(value ? 1 : 0) },
  { key: 'string', ...str },
];

export const parameter: Type<Parameter> = {
  read: (from) => {
    const field = from.string();
    const kind = PARAMETER_KINDS[from.i32() - 1];
    if (kind === undefined) throw new XdrError('a parameter has an unknown type');
    return { field, value: { [kind.key]: kind.read(from) } as unknown as ParameterValue };
  },
  write: (to, { field, value }) => {
    to.string(field);
    const [key, content] = Object.entries(value)[0] as [string, never];
    const tag = PARAMETER_KINDS.findIndex((kind) => kind.key === key);
    to.i32(tag + 1);
    PARAMETER_KINDS[tag]?.write(to, content);
  },
};

/** A domain: only the uuid tells which. `id` is -1 while it does not run. */
export const dom = struct({ name: str, uuid, id: i32 });
export type Dom = ValueOf<typeof dom>;

export const nothing: Type<undefined> = { read: () => undefined, write: () => {} };
