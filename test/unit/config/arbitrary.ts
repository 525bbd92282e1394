/** Values that a schema permits, and how they are written as options. */
import fc from 'fast-check';
import { optionKey } from '../../../src/cli/schemaOptions.ts';
import type { Field, ObjectShape, Shape } from '../../../src/config/schema.ts';

/** Text with all that means something in option strings. */
const text = fc.string({
  unit: fc.oneof(
    fc.constantFrom(...'",[]=@:- {}\\'),
    fc.string({ minLength: 1, maxLength: 1, unit: 'grapheme' }),
  ),
  minLength: 1,
  maxLength: 12,
});

/** @param keep whether a field is to be there */
function anyOf(shape: Shape, keep: (name: string, field: Field) => boolean): fc.Arbitrary<unknown> {
  switch (shape.type) {
    case 'string':
      return shape.pattern === undefined ? text : fc.stringMatching(shape.pattern);
    case 'boolean':
      return fc.boolean();
    case 'integer':
      return integerOf(shape);
    case 'enum':
      return fc.constantFrom(...Object.keys(shape.values));
    case 'array':
      return fc.array(anyOf(shape.items, keep), { minLength: 1, maxLength: 3 });
    case 'object':
      return objectOf(shape, keep);
  }
}

function integerOf({ u64, min = 0, max = Number.MAX_SAFE_INTEGER }: Extract<Shape, { type: 'integer' }>) {
  const safe = fc.integer({ min, max });
  return u64 ? fc.oneof(safe, fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n })) : safe;
}

export function objectOf(
  shape: ObjectShape,
  keep: (name: string, field: Field) => boolean,
): fc.Arbitrary<Record<string, unknown>> {
  const names = Object.keys(shape.fields).filter((name) => keep(name, shape.fields[name] as Field));
  // Option strings cannot say that one is not there which has a value without a key.
  const requiredKeys = names.filter((name) => {
    const { required, optionDefault } = shape.fields[name] as Field;
    return required || optionDefault !== undefined;
  });
  const members = names.map((name) => {
    const field = shape.fields[name] as Field;
    // Of objects that are spread over several keys, one without any cannot be written.
    const value = field.memberKeys
      ? anyOf(field, keep).filter((inner) => hasMembers(inner))
      : anyOf(field, keep);
    return [name, value];
  });
  return fc.record(Object.fromEntries(members), { requiredKeys });
}

function hasMembers(value: unknown): boolean {
  return Object.keys(value as object).length > 0;
}

/** The option string of an object, as a careful person would write it. */
export function optionString(shape: ObjectShape, object: Readonly<Record<string, unknown>>): string {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(object)) {
    const field = shape.fields[name] as Field;
    const key = optionKey(name, field);
    for (const [spread, [inner, member]] of Object.entries(field.memberKeys ?? {})) {
      const number = (value as Record<string, Record<string, number | bigint>>)[inner]?.[member];
      if (number !== undefined) parts.push(`${spread}=${number}`);
    }
    if (key !== undefined) parts.push(`${key}=${writeValue(field, value)}`);
  }
  return parts.join(',');
}

function writeValue(shape: Shape, value: unknown): string {
  switch (shape.type) {
    case 'boolean':
      return value ? 'on' : 'off';
    case 'integer':
      return shape.hex ? `0x${(value as number).toString(16)}` : String(value);
    case 'enum':
      return shape.values[value as string] as string;
    case 'array':
      return `[${(value as unknown[]).map((item) => writeItem(shape.items, item)).join(',')}]`;
    case 'object':
      return writeObject(shape, value as Record<string, unknown>);
    default:
      return quote(value as string);
  }
}

/** An object of two fields is `first@second`. */
function writeItem(shape: Shape, item: unknown): string {
  if (shape.type !== 'object') return writeValue(shape, item);
  return Object.entries(shape.fields)
    .map(([name, field]) => writeValue(field, (item as Record<string, unknown>)[name]))
    .join('@');
}

/** Numbers with colons between, or the list of those that are on. */
function writeObject(shape: ObjectShape, value: Readonly<Record<string, unknown>>): string {
  const names = Object.keys(shape.fields);
  if (names.every((name) => shape.fields[name]?.type === 'integer')) {
    return names.map((name) => value[name]).join(':');
  }
  return `[${names.filter((name) => value[name]).join(',')}]`;
}

function quote(value: string): string {
  return `"${value.replaceAll('"', '""')}"`;
}
