/** Turns untrusted JSON values into typed, complete configuration objects by a schema. */
import { ConfigError } from './configError.ts';
import { U64 } from './limits.ts';
import type { Field, Infer, ObjectShape, Shape } from './schema.ts';

/** Of a string, in messages: enough to know it by. */
const SHOWN = 64;

/**
 * Decodes `value` as `shape` says: defaults filled in, null taken for absent, unknown keys dropped. The result shares
 * nothing with the input.
 * @param path what error messages call the value, '' for the root
 * @throws ConfigError `malformed`
 */
export function decode<S extends Shape>(shape: S, value: unknown, path = ''): Infer<S> {
  return decodeShape(shape, value, path) as Infer<S>;
}

function decodeShape(shape: Shape, value: unknown, path: string): unknown {
  switch (shape.type) {
    case 'string':
      return decodeString(shape, value, path);
    case 'boolean':
      return typeof value === 'boolean' ? value : mismatch(path, value, 'a boolean');
    case 'integer':
      return decodeInteger(shape, value, path);
    case 'enum':
      return decodeEnum(shape.values, value, path);
    case 'array':
      if (!Array.isArray(value)) return mismatch(path, value, 'an array');
      return value.map((item, index) => decodeShape(shape.items, item, `${path}[${index}]`));
    case 'object':
      return decodeObject(shape, value, path);
  }
}

function decodeString(
  { pattern, like }: Extract<Shape, { readonly type: 'string' }>,
  value: unknown,
  path: string,
): string {
  if (typeof value !== 'string') return mismatch(path, value, 'a string');
  if (pattern !== undefined && !pattern.test(value)) {
    throw malformed(path, `invalid value ${quoted(value)}, expected one like ${like}`);
  }
  return value;
}

function decodeInteger(
  shape: Extract<Shape, { readonly type: 'integer' }>,
  value: unknown,
  path: string,
): number | bigint {
  const { min = 0 } = shape;
  const max = shape.u64 ? U64 : (shape.max ?? Number.MAX_SAFE_INTEGER);
  if (typeof value !== 'number' && typeof value !== 'bigint') return mismatch(path, value, 'an integer');
  const isInteger = typeof value === 'bigint' || Number.isInteger(value);
  if (!isInteger || value < min || value > max) {
    throw malformed(path, `invalid value ${value}, expected an integer from ${min} to ${max}`);
  }
  // A BigInt is what the JSON reader makes of them.
  if (typeof value === 'number' && value > Number.MAX_SAFE_INTEGER) {
    throw malformed(path, `invalid value ${value}, expected a BigInt: numbers above 2^53 - 1 are rounded`);
  }
  return typeof value === 'bigint' && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

function decodeEnum(values: Readonly<Record<string, string>>, value: unknown, path: string): string {
  if (typeof value !== 'string') return mismatch(path, value, 'a string');
  for (const name in values) {
    if (name === value) return value;
  }
  const expected = Object.keys(values)
    .map((name) => `\`${name}\``)
    .join(', ');
  throw malformed(path, `unknown variant \`${value}\`, expected one of ${expected}`);
}

function decodeObject(shape: ObjectShape, value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return mismatch(path, value, 'an object');
  }
  // The copy has what is the object's own. No field is called like something that every object inherits.
  const input: Record<string, unknown> = { ...value };
  if (shape.strict) refuseUnknownKeys(shape, input, path);
  const output: Record<string, unknown> = {};
  for (const key in shape.fields) {
    const field = shape.fields[key] as Field;
    if (input[key] === undefined && isOptional(field)) continue;
    const decoded = decodeField(field, givenOf(input, key, field, path), key, path);
    if (decoded !== undefined) output[key] = decoded;
  }
  return output;
}

/** Absent unless it is given. */
function isOptional({ required, default: byDefault, nullable, alias }: Field): boolean {
  return byDefault === undefined && !required && !nullable && alias === undefined;
}

function givenOf(input: Readonly<Record<string, unknown>>, key: string, field: Field, path: string): unknown {
  if (field.alias === undefined || input[field.alias] === undefined) return input[key];
  if (input[key] !== undefined)
    throw malformed(path, `duplicate field \`${key}\`, also as \`${field.alias}\``);
  return input[field.alias];
}

function decodeField(field: Field, value: unknown, key: string, parent: string): unknown {
  const path = parent === '' ? key : `${parent}.${key}`;
  if (value === undefined || value === null) {
    if (field.required) throw malformed(parent, `missing field \`${key}\``);
    if (field.default === undefined) return field.nullable ? null : undefined;
    return decodeShape(field, field.default, path);
  }
  const decoded = decodeShape(field, value, path);
  return decoded === false && field.falseIsAbsent ? undefined : decoded;
}

function refuseUnknownKeys(shape: ObjectShape, input: Record<string, unknown>, path: string): void {
  for (const key of Object.keys(input)) {
    if (Object.hasOwn(shape.fields, key)) continue;
    const expected = Object.keys(shape.fields)
      .map((name) => `\`${name}\``)
      .join(', ');
    throw malformed(path, `unknown field \`${key}\`, expected one of ${expected}`);
  }
}

function mismatch(path: string, value: unknown, expected: string): never {
  throw malformed(path, `invalid type: ${describe(value)}, expected ${expected}`);
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return 'array';
  // A Number object is what the JSON reader makes of numbers with a fraction or an exponent.
  if (value instanceof Number) return `floating point \`${value}\``;
  if (typeof value === 'string') return `string ${quoted(value)}`;
  return typeof value === 'object' ? 'object' : `${typeof value} \`${value}\``;
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, SHOWN));
}

function malformed(path: string, message: string): ConfigError {
  return new ConfigError('malformed', path === '' ? message : `${path}: ${message}`);
}
