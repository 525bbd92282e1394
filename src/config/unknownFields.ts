/** The library refuses fields that it does not know. (The REST API ignores them, as the reference does.) */
import { ConfigError } from './configError.ts';
import { nearest } from './nearest.ts';
import type { Field, ObjectShape, Shape } from './schema.ts';

/**
 * Looks at what an object has besides the fields of its shape. What is no object is left to decoding.
 * @param path what messages call the object, '' for the root
 * @throws ConfigError `malformed`, with the nearest field that there is
 */
export function refuseUnknownFields(shape: ObjectShape, object: unknown, path: string): void {
  if (typeof object !== 'object' || object === null || Array.isArray(object)) return;
  const known = Object.keys(shape.fields);
  for (const field of Object.values(shape.fields)) if (field.alias !== undefined) known.push(field.alias);
  refuseUnknownNames(object, known, path);
  for (const [name, value] of Object.entries(object)) {
    const field = shape.fields[name];
    if (field) lookInside(field, value, path === '' ? name : `${path}.${name}`);
  }
}

function lookInside(shape: Field | Shape, value: unknown, path: string): void {
  if (typeof value !== 'object' || value === null) return;
  if (shape.type === 'object') refuseUnknownFields(shape, value, path);
  if (shape.type !== 'array' || !Array.isArray(value)) return;
  value.forEach((item, index) => {
    lookInside(shape.items, item, `${path}[${index}]`);
  });
}

/** @throws ConfigError `malformed` */
export function refuseUnknownNames(object: object, known: readonly string[], path: string): void {
  for (const name of Object.keys(object)) {
    if (known.includes(name)) continue;
    const near = nearest(name, known);
    const advice = near === undefined ? '' : `; did you mean "${near}"?`;
    const subject = { kind: 'name', given: name, known } as const;
    throw new ConfigError(
      'malformed',
      `${path === '' ? '' : `${path}: `}unknown field "${name}"${advice}`,
      subject,
    );
  }
}
