/** Schemas as an OpenAPI 3.0 document has them. Loaded only when a document is asked for. */
import { U64 } from './limits.ts';
import type { Field, ObjectShape, Shape } from './schema.ts';

export type Json = Record<string, unknown>;

/** Adds the schema of an object, and of every object in it. */
export function collectSchemas(shape: ObjectShape, schemas: Json): void {
  const properties: Json = {};
  const required: string[] = [];
  for (const [name, field] of Object.entries(shape.fields) as [string, Field][]) {
    properties[name] = describeField(field, schemas);
    if (field.alias) properties[field.alias] = { ...describeShape(field, schemas), deprecated: true };
    if (field.required) required.push(name);
  }
  schemas[shape.name] = {
    ...objectSchema(properties),
    ...(required.length > 0 && { required }),
    ...(shape.strict && { additionalProperties: false }),
  };
}

function describeField(field: Field, schemas: Json): Json {
  const schema = describeShape(field, schemas);
  // Null is taken for absent.
  const nullable = !field.required && { nullable: true };
  // Beside a reference nothing else counts in OpenAPI 3.0.
  if (field.type === 'object') {
    if (field.help === undefined && field.required) return schema;
    return { allOf: [schema], ...(field.help !== undefined && { description: field.help }), ...nullable };
  }
  return {
    ...schema,
    ...nullable,
    ...(field.default !== undefined && { default: field.default }),
    ...(field.help !== undefined && { description: field.help }),
  };
}

function describeShape(shape: Shape, schemas: Json): Json {
  switch (shape.type) {
    case 'integer':
      return describeInteger(shape);
    case 'string':
      return { type: 'string', ...(shape.pattern && { pattern: shape.pattern.source, example: shape.like }) };
    case 'enum':
      return { type: 'string', enum: Object.keys(shape.values) };
    case 'array':
      return { type: 'array', items: describeShape(shape.items, schemas) };
    case 'object':
      collectSchemas(shape, schemas);
      return reference(shape.name);
    default:
      return { type: shape.type };
  }
}

function describeInteger({ u64, min, max }: Extract<Shape, { readonly type: 'integer' }>): Json {
  const [format, maximum] = u64 ? ['uint64', U64] : ['int64', max ?? Number.MAX_SAFE_INTEGER];
  return { type: 'integer', format, minimum: min ?? 0, maximum };
}

export function objectSchema(properties: Json): Json {
  return { type: 'object', properties };
}

export function reference(name: string): Json {
  return { $ref: `#/components/schemas/${name}` };
}

export function jsonContent(schema: Json): Json {
  return { 'application/json': { schema } };
}
