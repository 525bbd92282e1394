/** Option strings to the JSON form of a configuration object, led by its schema. */
import { ConfigError } from '../config/configError.ts';
import type { Field, Fields, ObjectShape, Shape } from '../config/schema.ts';
import {
  parseHex,
  parseInteger,
  parseIntegerList,
  parseList,
  parseOptionString,
  parseSize,
  parseToggle,
  parseTupleList,
  splitTopLevel,
  unquote,
} from './optionString.ts';

export type RawObject = Record<string, unknown>;

/** Fields whose command-line form is not that of their type, as `<shape name>.<field>`. */
const special: Readonly<Record<string, (text: string) => unknown>> = {
  'CpusConfig.topology': parseTopology,
  'CpusConfig.affinity': (text) =>
    parseTupleList(text).map(([vcpu, cpus]) => ({
      vcpu: parseInteger(vcpu),
      host_cpus: parseIntegerList(cpus),
    })),
  'CpusConfig.features': (text) => Object.fromEntries(parseList(text).map((name) => [name, true])),
};

/** Six keys for one object, the token buckets of a rate limiter. */
const rateLimiterKeys = [
  'bw_size',
  'bw_one_time_burst',
  'bw_refill_time',
  'ops_size',
  'ops_one_time_burst',
  'ops_refill_time',
];

/** The key of a field in option strings, or undefined if it has none. */
export function optionKey(name: string, field: Field): string | undefined {
  if (field.cli === false) return undefined;
  return field.cli ?? name;
}

/**
 * Reads `text` as an object of `shape`; the result still has to be decoded.
 * @param flag what messages call the option, with its dashes
 * @throws ConfigError for unknown keys and values that cannot be read
 */
export function objectFromOptions(shape: ObjectShape, flag: string, text: string): RawObject {
  const object: RawObject = {};
  for (const { key, value } of parseOptionString(text)) {
    const name = fieldOfKey(shape.fields, key);
    if (name === undefined) throw unknownKey(shape, flag, key);
    if (value === undefined) throw new ConfigError('malformed', `${flag}: "${key}" needs a value`);
    if (value === '') delete object[name];
    else object[name] = readField(shape, name, flag, key, value);
  }
  return object;
}

function fieldOfKey(fields: Fields, key: string): string | undefined {
  for (const name in fields) {
    const field = fields[name] as Field;
    if (optionKey(name, field) === key || field.alias === key) return name;
  }
  return undefined;
}

function unknownKey(shape: ObjectShape, flag: string, key: string): ConfigError {
  if ('rate_limiter_config' in shape.fields && rateLimiterKeys.includes(key)) {
    return new ConfigError('unsupported', `${flag}: ${key} is not supported yet`);
  }
  return new ConfigError('malformed', `${flag}: unknown option "${key}"`);
}

function readField(shape: ObjectShape, name: string, flag: string, key: string, value: string): unknown {
  const read = special[`${shape.name}.${name}`];
  try {
    return read ? read(value) : readValue(shape.fields[name] as Field, value);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(error.kind, `${flag}: ${key}: ${error.message}`);
  }
}

function readValue(shape: Shape, value: string): unknown {
  switch (shape.type) {
    case 'boolean':
      return parseToggle(value);
    case 'integer':
      if (shape.hex) return parseHex(value);
      return shape.size ? parseSize(value) : parseInteger(value);
    case 'enum':
      return readEnum(shape.values, value);
    case 'array':
      if (shape.items.type === 'integer') return parseIntegerList(value);
      return parseList(value).map(unquote);
    default:
      return unquote(value);
  }
}

function readEnum(values: Readonly<Record<string, string>>, value: string): string {
  const lower = value.toLowerCase();
  for (const name in values) {
    if (values[name] === lower) return name;
  }
  throw new ConfigError('malformed', `"${value}" is none of ${Object.values(values).join(', ')}`);
}

function parseTopology(text: string): RawObject {
  const parts = splitTopLevel(text, ':').map(parseInteger);
  if (parts.length !== 4)
    throw new ConfigError('malformed', `"${text}" is not four numbers with colons between`);
  const [threads_per_core, cores_per_die, dies_per_package, packages] = parts;
  return { threads_per_core, cores_per_die, dies_per_package, packages };
}

/**
 * Reads `off`, `null`, `pty`, `tty`, `file=PATH`, `socket=PATH` and the device's other keys.
 * @throws ConfigError for anything else
 */
export function consoleFromOptions(shape: ObjectShape, flag: string, text: string): RawObject {
  const object: RawObject = {};
  for (const { key, value } of parseOptionString(text)) {
    const mode = consoleModes[key];
    const takesPath = mode === 'File' || (mode === 'Socket' && shape.name === 'SerialConfig');
    if (mode !== undefined && value === undefined && mode !== 'File' && mode !== 'Socket') {
      object.mode = mode;
    } else if (mode !== undefined && takesPath && value) {
      object.mode = mode;
      object[key] = unquote(value);
    } else if (mode === undefined) {
      Object.assign(object, objectFromOptions(shape, flag, value === undefined ? key : `${key}=${value}`));
    } else {
      throw new ConfigError(
        'malformed',
        `${flag}: "${value === undefined ? key : `${key}=${value}`}" is not a mode`,
      );
    }
  }
  return object;
}

const consoleModes: Readonly<Record<string, string>> = {
  off: 'Off',
  null: 'Null',
  pty: 'Pty',
  tty: 'Tty',
  file: 'File',
  socket: 'Socket',
};
