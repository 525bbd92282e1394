/** What holds for every kind of device, whatever it is. */
import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { ConfigError } from '../../../src/config/configError.ts';
import { decode } from '../../../src/config/decode.ts';
import type { Field, Shape } from '../../../src/config/schema.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { deviceRecords, shapeOf } from '../../../src/devices/registry.ts';

/** A value of no shape's. */
function wrongValue({ type }: Shape): unknown {
  return type === 'string' ? 7 : 'wrong';
}

const fieldsOf = (record: (typeof deviceRecords)[number]) => shapeOf(record)?.fields ?? {};

const everyField = deviceRecords.flatMap((record) =>
  Object.entries(fieldsOf(record)).map(([name, field]) => ({ record, name, field })),
);

/** What its required fields must have. */
function valuesOf(fields: Readonly<Record<string, Field>>): Record<string, unknown> {
  const value = ({ type }: Shape) => (type === 'array' ? [] : type === 'integer' ? 1 : 'x');
  const required = Object.entries(fields).filter(([, field]) => field.required && field.type !== 'enum');
  return Object.fromEntries(required.map(([name, field]) => [name, value(field)]));
}

describe('the list of devices', () => {
  it('has each name, field and identifier once', () => {
    for (const key of ['name', 'field'] as const) {
      const all = deviceRecords.map((record) => record[key]);
      expect(new Set(all).size).toBe(all.length);
    }
    const ids = deviceRecords.map(({ ids: rule }) => ('fixed' in rule ? rule.fixed : rule.prefix));
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('has devices that the core has, and such as are not supported yet', () => {
    for (const { name, schema, specification, needs } of deviceRecords) {
      expect(specification !== undefined || needs?.barSize !== undefined, name).toBe(!schema.unsupported);
    }
  });

  it('has options of the kind that the schema has', () => {
    for (const { name, schema, option } of deviceRecords) {
      expect(option.kind === 'list', name).toBe(schema.type === 'array');
      expect(option.kind === 'switch', name).toBe(schema.type === 'boolean');
      expect(option.group === undefined, name).toBe(schema.unsupported === true);
    }
  });

  it('names fields that there are', () => {
    for (const record of deviceRecords) {
      const { files = [], sockets = [], outputs = [] } = record.paths ?? {};
      const { addition, option, name } = record;
      const named = [...files, ...sockets, ...outputs, ...Object.keys(option.defaults ?? {})];
      if (addition?.descriptors) named.push(addition.descriptors.field);
      for (const field of named) expect(Object.keys(fieldsOf(record)), name).toContain(field);
    }
  });

  it.each(everyField)('refuses nonsense for $record.name.$name', ({ record, name, field }) => {
    const device = { ...valuesOf(fieldsOf(record)), [name]: wrongValue(field) };
    const many = record.schema.type === 'array';
    const path = `${record.field}${many ? '[0]' : ''}.${name}`;
    const config = { [record.field]: many ? [device] : { mode: 'Null', ...device } };
    const refused = expect.objectContaining({ kind: 'malformed', message: expect.stringContaining(path) });
    expect(() => decode(vmConfig, config)).toThrow(refused);
    expect(() => decode(vmConfig, config)).toThrow(ConfigError);
  });

  it.each(deviceRecords.filter(({ option }) => option.kind !== 'switch'))(
    'knows every key of --$name',
    ({ name }) => {
      const words = ['--kernel', '/k', `--${name}`, 'no_such_key=1'];
      expect(() => parseArguments(words)).toThrow(`--${name}: unknown option "no_such_key"`);
    },
  );
});
