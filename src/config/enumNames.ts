/** Enumerations have two spellings: the REST API's (`Raw`) and the command line's (`raw`). The library takes both. */
import type { Shape } from './schema.ts';

/**
 * A copy of `value` in which what the shape enumerates has the REST API's spelling. What does not fit the shape stays
 * as it is, for decoding to refuse.
 */
export function withJsonNames(shape: Shape, value: unknown): unknown {
  if (shape.type === 'enum') return jsonName(shape.values, value);
  if (typeof value !== 'object' || value === null) return value;
  if (shape.type === 'array' && Array.isArray(value)) {
    return value.map((item) => withJsonNames(shape.items, item));
  }
  if (shape.type !== 'object' || Array.isArray(value)) return value;
  const fields = Object.entries(value).map(([name, member]) => {
    const field = Object.hasOwn(shape.fields, name) ? shape.fields[name] : undefined;
    return [name, field ? withJsonNames(field, member) : member];
  });
  return Object.fromEntries(fields);
}

function jsonName(values: Readonly<Record<string, string>>, value: unknown): unknown {
  return Object.keys(values).find((name) => values[name] === value) ?? value;
}
