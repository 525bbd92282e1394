/** Parses the command line. */
import { ConfigError } from '../config/configError.ts';
import { decode } from '../config/decode.ts';
import type { Field, Fields } from '../config/schema.ts';
import { type VmConfig, vmConfig } from '../config/vmConfig.ts';
import { flagShape, processFlags, unsupportedFlags, type VmFlag, vmFlag } from './flags.ts';
import { parseInteger } from './optionString.ts';
import { consoleFromOptions, objectFromOptions, type RawObject } from './schemaOptions.ts';
import { UsageError } from './usageError.ts';

/** A file or socket by name, or one that was inherited. */
export type PathOrFd = { readonly path: string } | { readonly fd: number };

export interface RunOptions {
  readonly apiSocket?: PathOrFd;
  /** An option string: its schema is loaded only then. */
  readonly apiTls?: string;
  readonly apiStrict: boolean;
  readonly eventMonitor?: PathOrFd;
  /** The debugger's socket. */
  readonly gdb?: string;
  readonly logFile?: string;
  readonly logFormat?: string;
  /** 0 for warnings, up to 3. */
  readonly verbosity: number;
  readonly noShutdown: boolean;
  /** Absent if the command line names no payload. */
  readonly vm?: VmConfig;
}

export type Invocation =
  /** Help with one option, if one is named. */
  | { readonly action: 'help'; readonly option?: string }
  | { readonly action: 'version'; readonly verbose: boolean }
  | { readonly action: 'openapi' | 'man' }
  | { readonly action: 'completions'; readonly shell: string }
  /** An option string: its schema is loaded only then. */
  | { readonly action: 'restore'; readonly text: string }
  | { readonly action: 'run'; readonly options: RunOptions };

/**
 * The values that were given with each flag, by its long name; switches have an empty list. An object without a
 * prototype: going through a Map takes the runtime 0.01 ms the first time.
 */
type Words = Record<string, string[]>;

/**
 * @param args the words after the program's name
 * @throws UsageError if flags are unknown, incomplete or missing (exit code 2)
 * @throws ConfigError if a flag's value cannot be read (exit code 1)
 */
export function parseArguments(args: readonly string[]): Invocation {
  const { words, verbosity } = collect(args);
  for (const name in words) if (OTHER_ACTIONS.includes(name)) return otherAction(words, verbosity > 0);
  const vm = vmFromWords(words);
  // No function is called for what is not given: most is not, and first calls take time.
  const gdb = words.gdb && gdbSocket(words);
  if (vm && gdb !== undefined) vm.gdb = true;
  const apiSocket = words['api-socket'] && pathOrFd(words, 'api-socket');
  const apiTls = words['api-tls']?.[0];
  if (vm === undefined && apiSocket === undefined && apiTls === undefined) {
    throw new UsageError('nothing to do: give --kernel, --firmware or --api-socket');
  }
  if (words.seccomp) checkSeccomp(words.seccomp[0]);
  const eventMonitor = words['event-monitor'] && eventMonitorPlace(words);
  const logFile = words['log-file']?.[0];
  const logFormat = words['log-format']?.[0];
  const options: Mutable<RunOptions> = {
    verbosity,
    noShutdown: 'no-shutdown' in words,
    apiStrict: 'api-strict' in words,
  };
  if (apiSocket) options.apiSocket = apiSocket;
  if (apiTls !== undefined) options.apiTls = apiTls;
  if (eventMonitor) options.eventMonitor = eventMonitor;
  if (gdb !== undefined) options.gdb = gdb;
  if (logFile !== undefined) options.logFile = logFile;
  if (logFormat !== undefined) options.logFormat = logFormat;
  if (vm) options.vm = vm;
  return { action: 'run', options };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Flags for what is done instead of running anything. The first of these that is given counts. */
const OTHER_ACTIONS: readonly string[] = ['help', 'version', 'openapi', 'man', 'completions', 'restore'];

/** By the first of these that is among the words. */
function otherAction(words: Words, verbose: boolean): Invocation {
  const [action = ''] = OTHER_ACTIONS.filter((name) => name in words);
  const [text] = words[action] as string[];
  switch (action) {
    case 'help':
      return { action, ...(text !== undefined && { option: text }) };
    case 'version':
      return { action, verbose };
    case 'openapi':
    case 'man':
      return { action };
    case 'completions':
      return { action, shell: text as string };
    default:
      return { action: 'restore', text: text as string };
  }
}

/** @throws UsageError for what is no value of the flag; ConfigError for a filter, as there is none yet */
function checkSeccomp(value: string | undefined): void {
  if (value === undefined || value === 'false') return;
  const known = ['true', 'false', 'log', 'errno'];
  if (!known.includes(value)) {
    throw new UsageError(`--seccomp: "${value}" is none of ${known.join(', ')}`);
  }
  throw new ConfigError('unsupported', `--seccomp ${value} is not supported yet, only --seccomp false`);
}

/**
 * Bytes that are not UTF-8 arrive as replacement characters: another file would be made or looked for than was named.
 * @throws ConfigError
 */
function refuseReplaced(args: readonly string[]): void {
  for (const word of args) {
    if (word.includes('\ufffd')) throw new ConfigError('malformed', `the argument '${word}' is not UTF-8`);
  }
}

function collect(args: readonly string[]): { words: Words; verbosity: number } {
  refuseReplaced(args);
  const words = Object.create(null) as Words;
  let verbosity = 0;
  for (let i = 0; i < args.length; i++) {
    const word = args[i] as string;
    if (isShort(word)) {
      verbosity += collectShort(word, words);
      continue;
    }
    if (!word.startsWith('--')) throw new UsageError(`unexpected argument '${word}'`);
    const equals = word.indexOf('=');
    const name = equals < 0 ? word.slice(2) : word.slice(2, equals);
    const arity = arityOf(name);
    if (name === 'verbose') verbosity++;
    else if (name in words && arity !== 'many') throw new UsageError(`--${name} was given more than once`);
    const values = words[name] ?? [];
    if (equals >= 0) {
      if (arity === 'none') throw new UsageError(`--${name} takes no value`);
      values.push(word.slice(equals + 1));
    } else if (arity !== 'none') {
      const last = lastValue(args, i, arity);
      if (last === i && arity !== 'optional') throw new UsageError(`--${name} needs a value`);
      values.push(...args.slice(i + 1, last + 1));
      i = last;
    }
    words[name] = values;
  }
  return { words, verbosity };
}

function isShort(word: string): boolean {
  return word.length > 1 && word[0] === '-' && word[1] !== '-';
}

/** Takes a word of short flags such as `-vv`; returns how many `v` there were. */
function collectShort(word: string, words: Words): number {
  let verbosity = 0;
  for (const letter of word.slice(1)) {
    const name = Object.keys(processFlags).find((key) => processFlags[key]?.short === letter);
    if (name === undefined) throw unknownFlag(`-${word.length > 2 ? word.slice(1) : letter}`);
    if (name === 'verbose') verbosity++;
    else words[name] = [];
  }
  return verbosity;
}

function arityOf(name: string): 'none' | 'optional' | 'one' | 'many' {
  const flag = vmFlag(name);
  if (flag !== undefined) {
    if (flag.kind === 'switch') return 'none';
    if (flag.kind === 'options' && flag.bare) return 'optional';
    return flag.kind === 'list' ? 'many' : 'one';
  }
  // What every object inherits is of no help.
  const processFlag = processFlags[name];
  if (processFlag?.help !== undefined) {
    if (processFlag.optional) return 'optional';
    return processFlag.value === undefined ? 'none' : 'one';
  }
  if (unsupportedFlags.includes(name)) throw new UsageError(`--${name} is not supported`);
  throw unknownFlag(`--${name}`);
}

function unknownFlag(given: string): UsageError {
  return new UsageError(`unknown flag '${given}'`, { kind: 'flag', given });
}

/** The index of the last value of the flag at `index`; `index` itself if it has none. */
function lastValue(args: readonly string[], index: number, arity: 'optional' | 'one' | 'many'): number {
  const limit = arity === 'many' ? args.length - 1 : index + 1;
  let last = index;
  while (last < limit && last + 1 < args.length && !looksLikeFlag(args[last + 1] as string)) last++;
  return last;
}

function looksLikeFlag(word: string): boolean {
  return word.startsWith('-') && word.length > 1;
}

function vmFromWords(words: Words): VmConfig | undefined {
  const raw: RawObject = {};
  for (const name in words) {
    const flag = vmFlag(name);
    if (flag !== undefined) addFlag(raw, flag, `--${name}`, words[name] as string[]);
  }
  const payload = raw.payload as RawObject | undefined;
  if (payload?.kernel === undefined && payload?.firmware === undefined && payload?.igvm === undefined) {
    const given = Object.keys(words).find((name) => vmFlag(name) !== undefined);
    if (given !== undefined) throw new UsageError(`--${given} needs --kernel or --firmware`);
    return undefined;
  }
  return decode(vmConfig, raw);
}

function addFlag(raw: RawObject, flag: VmFlag, name: string, values: readonly string[]): void {
  const text = values[0] ?? '';
  const target = flag.parent ? innerObject(raw, flag.parent) : raw;
  switch (flag.kind) {
    case 'text':
      target[flag.field] = text;
      return;
    case 'switch':
      target[flag.field] = true;
      return;
    case 'list':
      target[flag.field] = values.map((value) => objectFromOptions(flagShape(flag), name, value));
      return;
    case 'console':
      Object.assign(innerObject(target, flag.field), consoleFromOptions(flagShape(flag), name, text));
      return;
    case 'options': {
      const object = Object.assign(
        innerObject(target, flag.field),
        objectFromOptions(flagShape(flag), name, text),
      );
      if (flag.field === 'cpus') object.max_vcpus ??= object.boot_vcpus;
      // Who hands a descriptor in means that it is used.
      if (object.iommufd_fd !== undefined) object.iommufd ??= true;
      for (const name in flag.defaults) object[name] ??= flag.defaults[name];
    }
  }
}

/** What is not given is as if the flag were absent. But the highest number of vCPUs is the one at boot. */
function innerObject(object: RawObject, field: string): RawObject {
  object[field] ??= { ...defaultOf(field), ...(field === 'cpus' && { max_vcpus: undefined }) };
  return object[field] as RawObject;
}

function defaultOf(field: string): RawObject | undefined {
  const schema: Field | undefined = (vmConfig.fields as Fields)[field];
  return schema?.default as RawObject | undefined;
}

/** `path=P`, or a bare path. */
function socketPath(words: Words, flag: string): string | undefined {
  const socket = pathOrFd(words, flag);
  if (socket && 'fd' in socket) throw new ConfigError('malformed', `--${flag} needs a path`);
  return socket?.path;
}

/** Addresses as other programs have them (`tcp::1234`): no path is meant by these. */
const NETWORK_ADDRESS = /^(tcp:|unix:|:?\d+$|localhost:)/;

function gdbSocket(words: Words): string | undefined {
  const text = words.gdb?.[0];
  if (text !== undefined && NETWORK_ADDRESS.test(text)) {
    throw new ConfigError(
      'malformed',
      `--gdb: "${text}" is no path: gdb connects to a UNIX socket, as with --gdb path=vm.gdb, and then 'target remote vm.gdb'`,
    );
  }
  return socketPath(words, 'gdb');
}

/**
 * `path=P` or `fd=N`. Unlike the API's socket it is never a bare path: what has another key would be a file of that
 * name.
 */
function eventMonitorPlace(words: Words): PathOrFd | undefined {
  const text = words['event-monitor']?.[0];
  if (text !== undefined && !/^(path|fd)=/.test(text)) {
    const meant = text.includes('=') ? '' : `: write path=${text} if that is what is meant`;
    throw new ConfigError('malformed', `--event-monitor takes path=PATH or fd=N, not "${text}"${meant}`);
  }
  return pathOrFd(words, 'event-monitor');
}

/** `path=P`, `fd=N` or a bare path. */
function pathOrFd(words: Words, flag: string): PathOrFd | undefined {
  const text = words[flag]?.[0];
  if (text === undefined) return undefined;
  if (text.startsWith('fd=')) return { fd: readFd(flag, text.slice('fd='.length)) };
  const path = text.startsWith('path=') ? text.slice('path='.length) : text;
  if (path === '') throw new ConfigError('malformed', `--${flag} needs a path`);
  return { path };
}

function readFd(flag: string, text: string): number {
  try {
    return parseInteger(text);
  } catch (error) {
    throw new ConfigError('malformed', `--${flag}: ${(error as Error).message}`);
  }
}
