/** Option strings to the JSON form of a configuration object, led by its schema. */
import { ConfigError } from '../config/configError.ts';
import type { Field, ObjectShape, Shape } from '../config/schema.ts';
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
  'DiskConfig.queue_affinity': (text) =>
    parseTupleList(text).map(([queue, cpus]) => ({
      queue_index: parseInteger(queue),
      host_cpus: parseIntegerList(cpus),
    })),
  'CpusConfig.features': (text) => Object.fromEntries(parseList(text).map((name) => [name, true])),
};

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
    const place = placeOfKey(shape, key);
    if (place === undefined) throw new ConfigError('malformed', `${flag}: unknown option "${key}"`);
    let target = object;
    for (const name of place.path) target = innerObject(target, name);
    if (value === undefined) {
      if (!place.shape.fields[place.name]?.bare) {
        throw new ConfigError('malformed', `${flag}: "${key}" needs a value`);
      }
      target[place.name] = true;
    } else if (value === '') delete target[place.name];
    else target[place.name] = readField(place.shape, place.name, flag, key, value);
  }
  return object;
}

/** Where the value of a key belongs: field `name` of a `shape`, that many objects down. */
interface Place {
  readonly path: readonly string[];
  readonly shape: ObjectShape;
  readonly name: string;
}

function placeOfKey(shape: ObjectShape, key: string): Place | undefined {
  for (const name in shape.fields) {
    const field = shape.fields[name] as Field;
    if (optionKey(name, field) === key || field.alias === key) return { path: [], shape, name };
    const path = field.memberKeys?.[key];
    if (path === undefined) continue;
    const [object, member] = path;
    const inner = (field as ObjectShape).fields[object] as ObjectShape;
    return { path: [name, object], shape: inner, name: member };
  }
  return undefined;
}

function innerObject(object: RawObject, name: string): RawObject {
  object[name] ??= {};
  return object[name] as RawObject;
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
