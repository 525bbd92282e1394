/** Option strings to the JSON form of a configuration object, led by its schema. */
import { ConfigError, type Subject } from '../config/configError.ts';
import type { Field, ObjectShape, Shape } from '../config/schema.ts';
import {
  type OptionPart,
  parseHex,
  parseInteger,
  parseIntegerList,
  parseList,
  parseOptionString,
  parseSize,
  parseToggle,
  parseTupleList,
  parseU64,
  splitTopLevel,
  unquote,
} from './optionString.ts';

export type RawObject = Record<string, unknown>;

/** Fields whose command-line form does not follow from their type, as `<shape name>.<field>`. */
const special: Readonly<Record<string, (text: string) => unknown>> = {
  'FwCfgConfig.items': parseFwCfgItems,
  'RestoreConfig.net_fds': (text) =>
    parseTupleList(text).map(([id, list]) => {
      const fds = parseIntegerList(list);
      return { id, num_fds: fds.length, fds };
    }),
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
  for (const { key, value } of readOptions(flag, text)) {
    const place = placeOfKey(shape, key);
    if (place === undefined) {
      if (shape.legacyKeys?.includes(key)) continue;
      throw unknownKey(shape, flag, text, key, value);
    }
    let target = object;
    for (const name of place.path) target = innerObject(target, name);
    if (value === undefined) {
      if (!place.shape.fields[place.name]?.bare)
        throw malformed(`${flag}: "${key}" needs a value: ${key}=...`);
      target[place.name] = true;
    } else if (value === '') delete target[place.name];
    else target[place.name] = readField(place.shape, place.name, flag, key, value);
  }
  fillSpread(shape, object);
  return object;
}

/**
 * Objects that are spread over keys get the members that have a value without one. Keys that were all left unset are as
 * if they were not there.
 */
function fillSpread(shape: ObjectShape, object: RawObject): void {
  for (const name in object) {
    const field = shape.fields[name];
    if (!field?.memberKeys) continue;
    const spread = object[name] as RawObject;
    for (const [inner, value] of Object.entries(spread)) {
      if (Object.keys(value as RawObject).length === 0) {
        delete spread[inner];
        continue;
      }
      const { fields } = (field as ObjectShape).fields[inner] as ObjectShape;
      for (const member in fields) {
        const { optionDefault } = fields[member] as Field;
        if (optionDefault !== undefined) (value as RawObject)[member] ??= optionDefault;
      }
    }
    if (Object.keys(spread).length === 0) delete object[name];
  }
}

function readOptions(flag: string, text: string): OptionPart[] {
  try {
    return parseOptionString(text);
  } catch (error) {
    throw malformed(`${flag}: ${(error as Error).message}`);
  }
}

function unknownKey(
  shape: ObjectShape,
  flag: string,
  text: string,
  key: string,
  value: string | undefined,
): ConfigError {
  if (key === '')
    return malformed(`${flag}: there is an option without a name in "${text}", at a comma or an =`);
  const { mainKey } = shape;
  if (value === undefined && mainKey !== undefined) {
    return malformed(`${flag}: unknown option "${key}": write ${mainKey}=${key} if that is what is meant`);
  }
  return malformed(`${flag}: unknown option "${key}"`, {
    kind: 'name',
    given: key,
    known: optionKeys(shape),
  });
}

/** All keys that an option string of a shape can have. */
export function optionKeys(shape: ObjectShape): string[] {
  const keys: string[] = [];
  for (const name in shape.fields) {
    const field = shape.fields[name] as Field;
    const key = optionKey(name, field);
    if (key !== undefined) keys.push(key);
    if (field.memberKeys) keys.push(...Object.keys(field.memberKeys));
  }
  return keys;
}

function malformed(message: string, subject?: Subject): ConfigError {
  return new ConfigError('malformed', message, subject);
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
    if (!field.memberKeys || !Object.hasOwn(field.memberKeys, key)) continue;
    const [object, member] = field.memberKeys[key] as readonly [string, string];
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
    throw new ConfigError(error.kind, `${flag}: ${key}: ${error.message}`, error.subject);
  }
}

function readValue(shape: Shape, value: string): unknown {
  switch (shape.type) {
    case 'boolean':
      return parseToggle(value);
    case 'integer':
      if (shape.hex) return parseHex(value);
      if (shape.size) return parseSize(value);
      if (shape.u64) return parseU64(value);
      if (shape.names && Object.hasOwn(shape.names, value)) return shape.names[value];
      return parseInteger(value);
    case 'enum':
      return readEnum(shape.values, value);
    case 'array':
      return readArray(shape.items, value);
    case 'object':
      return readObject(shape, value);
    default:
      return unquote(value);
  }
}

/** `[0,2-4]`, `[a,b]`, or `[key@value,...]` for objects of two fields. */
function readArray(items: Shape, value: string): unknown[] {
  if (items.type === 'integer') return parseIntegerList(value);
  if (items.type !== 'object') return parseList(value).map(unquote);
  const [first, second] = Object.keys(items.fields) as [string, string];
  return parseTupleList(value).map(([key, member]) => ({
    [first]: readValue(items.fields[first] as Field, key),
    [second]: readValue(items.fields[second] as Field, member),
  }));
}

/** `a:b:c` for an object of numbers; a list of those that are on for one of switches. */
function readObject({ fields }: ObjectShape, value: string): RawObject {
  const names = Object.keys(fields);
  if (names.some((name) => fields[name]?.type !== 'integer')) {
    return Object.fromEntries(parseList(value).map((name) => [knownName(name, names), true]));
  }
  const parts = splitTopLevel(value, ':').map(parseInteger);
  if (parts.length !== names.length) {
    throw malformed(`"${value}" is not ${names.length} numbers with colons between: ${names.join(':')}`);
  }
  return Object.fromEntries(names.map((name, index) => [name, parts[index]]));
}

function knownName(given: string, known: readonly string[]): string {
  if (known.includes(given)) return given;
  throw malformed(`"${given}" is none of ${known.join(', ')}`, { kind: 'name', given, known });
}

function readEnum(values: Readonly<Record<string, string>>, value: string): string {
  const lower = value.toLowerCase();
  for (const name in values) {
    if (values[name] === lower || name.toLowerCase() === lower) return name;
  }
  const known = Object.values(values);
  throw malformed(`"${value}" is none of ${known.join(', ')}`, { kind: 'name', given: value, known });
}

/** `[name=N,file=PATH:name=N,string=TEXT]`. */
function parseFwCfgItems(text: string): RawObject {
  const inner = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
  const items = splitTopLevel(inner, ':').map((item) => {
    const parts = parseOptionString(item).map(({ key, value }) => [
      knownName(key, ['name', 'file', 'string']),
      unquote(value ?? ''),
    ]);
    return Object.fromEntries(parts) as RawObject;
  });
  return { item_list: items };
}

/**
 * Reads `off`, `null`, `pty`, `tty`, `file=PATH`, `socket=PATH` and the device's other keys.
 * @throws ConfigError for anything else
 */
export function consoleFromOptions(shape: ObjectShape, flag: string, text: string): RawObject {
  const object: RawObject = {};
  for (const { key, value } of readOptions(flag, text)) {
    const mode = Object.hasOwn(consoleModes, key) ? consoleModes[key] : undefined;
    const takesPath = mode === 'File' || (mode === 'Socket' && shape.name === 'SerialConfig');
    if (mode !== undefined && value === undefined && mode !== 'File' && mode !== 'Socket') {
      object.mode = mode;
    } else if (mode !== undefined && takesPath && value) {
      object.mode = mode;
      object[key] = unquote(value);
    } else if (mode === undefined && value === undefined) {
      throw malformed(`${flag}: "${key}" is none of ${modesOf(shape)}`);
    } else if (mode === undefined) {
      Object.assign(object, objectFromOptions(shape, flag, `${key}=${value}`));
    } else {
      throw malformed(
        `${flag}: "${value === undefined ? key : `${key}=${value}`}" is none of ${modesOf(shape)}`,
      );
    }
  }
  if (object.mode === undefined) throw malformed(`${flag} needs one of ${modesOf(shape)}`);
  return object;
}

/** As they are written. */
export function modesOf({ name }: ObjectShape): string {
  return `off, null, pty, tty, file=PATH${name === 'SerialConfig' ? ', socket=PATH' : ''}`;
}

const consoleModes: Readonly<Record<string, string>> = {
  off: 'Off',
  null: 'Null',
  pty: 'Pty',
  tty: 'Tty',
  file: 'File',
  socket: 'Socket',
};
