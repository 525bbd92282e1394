/**
 * Our document against what the reference publishes of its API: all of that is accepted, but for what is listed here.
 */
import { describe, expect, it } from 'vitest';
import { openApiDocument } from '../../../src/api/rest/openApi.ts';
import { referenceEnums, referenceFields, referencePaths } from './referenceFacts.ts';

interface Schema {
  readonly $ref?: string;
  readonly allOf?: readonly Schema[];
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
}

interface Operation {
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
}

const document = openApiDocument() as unknown as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
};

/** Schemas that have another name here. */
const otherNames: Readonly<Record<string, string>> = { VmAddUserDevice: 'UserDeviceConfig' };

/** What differs, and why. */
const differences: Readonly<Record<string, string>> = {
  'VmInfo.state: without Shutdown': 'the reference never tells it',
};

function resolve(schema: Schema | undefined): Schema | undefined {
  const reference = schema?.$ref ?? schema?.allOf?.[0]?.$ref;
  if (reference === undefined) return schema;
  return document.components.schemas[reference.replace('#/components/schemas/', '')];
}

/** Compares a type of the reference with a schema of ours, without looking into other schemas of the reference. */
function compare(type: string, ours: Schema | undefined): string | undefined {
  const schema = resolve(ours);
  if (schema === undefined) return 'absent';
  if (type.endsWith('[]')) {
    return schema.type === 'array' ? compare(type.slice(0, -2), schema.items) : `${schema.type}, not a list`;
  }
  if (type.endsWith('{}')) {
    const members = schema.additionalProperties;
    return typeof members === 'object' ? compare(type.slice(0, -2), members) : 'not a map';
  }
  const values = referenceEnums[type];
  if (values) {
    const missing = values.filter((value) => !schema.enum?.includes(value));
    return missing.length > 0 ? `without ${missing.join(', ')}` : undefined;
  }
  const wanted = type in referenceFields || type === 'VmCounters' ? 'object' : type;
  return schema.type === wanted ? undefined : `${schema.type}, not ${wanted}`;
}

function findDifferences(): string[] {
  return Object.entries(referenceFields).flatMap(([name, fields]) => {
    const ours = document.components.schemas[otherNames[name] ?? name];
    if (ours === undefined) return [name];
    return Object.entries(fields).flatMap(([field, type]) => {
      const difference = compare(type, ours.properties?.[field]);
      return difference === undefined ? [] : [`${name}.${field}: ${difference}`];
    });
  });
}

describe('the reference', () => {
  it.each(Object.entries(referencePaths))('%s is an endpoint here', (path, [method, body]) => {
    const operation = document.paths[`/api/v1/${path}`]?.[method];
    expect(operation).toBeDefined();
    const schema = operation?.requestBody?.content['application/json']?.schema;
    const name = body && (otherNames[body] ?? body);
    expect(schema?.$ref).toBe(name && `#/components/schemas/${name}`);
  });

  it('has no field that is unknown here, or of another type, but for those with a reason', () => {
    expect(findDifferences()).toEqual(Object.keys(differences));
  });
});
