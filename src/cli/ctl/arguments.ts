/** Parses the arguments of `tsvmm ctl`. */
import { parseArgs } from 'node:util';
import { UsageError, unparsed } from '../usageError.ts';
import { type CtlWords, checkWords, ctlDescriptions } from './commands.ts';

/** Which VM is meant. */
export type CtlTarget =
  | { readonly socket: string }
  /** One of a supervisor's. */
  | { readonly name: string; readonly dir: string | undefined };

export type CtlInvocation =
  | { readonly action: 'help'; readonly command?: string }
  | { readonly action: 'version' }
  | {
      readonly action: 'run';
      readonly command: string;
      readonly words: CtlWords;
      /** Undefined if none was named. */
      readonly target: CtlTarget | undefined;
      readonly json: boolean;
      /** The command's own unless given. */
      readonly timeoutMs: number | undefined;
    };

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;

/** Of every subcommand, before and behind it. */
export const COMMON = {
  'api-socket': { ...text, value: 'PATH', help: 'The REST socket of the VM' },
  dir: {
    ...text,
    value: 'DIR',
    help: "Of the supervisor, where the VM is named by NAME (TSVMM_DIR; root's, or the user's own)",
  },
  json: { ...flag, value: '', help: 'Print what the VMM answers, as it is' },
  timeout: { ...text, value: 'SECONDS', help: 'Wait for an answer so long at most' },
  help: { ...flag, short: 'h', value: '', help: 'Print this help, or that of a subcommand' },
  version: { ...flag, short: 'V', value: '', help: 'Print the version' },
} as const;

/** A day's worth of seconds fits, and no timer overflows. */
const MAX_SECONDS = 1_000_000;

/** @throws UsageError */
export function parseCtl(args: readonly string[]): CtlInvocation {
  const { command, name, words } = findCommand(args);
  if (command === undefined) {
    const { values } = parse(words, {});
    if (values.version) return { action: 'version' };
    if (values.help) return { action: 'help' };
    throw new UsageError(name === undefined ? 'ctl needs a subcommand' : `ctl ${name} needs a subcommand`);
  }
  if (command === 'help') {
    const [about] = words.filter((word) => !word.startsWith('-'));
    if (about !== undefined && !Object.hasOwn(ctlDescriptions, about)) throw unknown(about);
    return { action: 'help', ...(about !== undefined && { command: about }) };
  }
  const description = Object.hasOwn(ctlDescriptions, command) ? ctlDescriptions[command] : undefined;
  if (description === undefined) throw unknown(command);
  const own = Object.fromEntries(
    Object.entries(description.options ?? {}).map(([key, { value }]) => [key, value === '' ? flag : text]),
  );
  const { values, positionals } = parse(words, own);
  if (values.help) return { action: 'help', command };
  if (values.version) return { action: 'version' };
  const [argument, extra] = positionals;
  if (extra !== undefined) throw new UsageError(`unexpected argument '${extra}'`);
  const given = { argument, ...separate(values) };
  checkWords(command, description, given);
  return {
    action: 'run',
    command,
    words: given,
    target: targetOf(name, values),
    json: values.json === true,
    timeoutMs: secondsOf(values.timeout),
  };
}

interface Found {
  readonly command: string | undefined;
  readonly name: string | undefined;
  /** All others. */
  readonly words: string[];
}

/**
 * The first word that is no option is the subcommand, or the name of a VM where there is no socket and a subcommand
 * follows.
 */
function findCommand(args: readonly string[]): Found {
  const words: string[] = [];
  let name: string | undefined;
  let socket = false;
  for (let i = 0; i < args.length; i++) {
    const word = args[i] as string;
    if (word.startsWith('-')) {
      words.push(word);
      socket ||= word === '--api-socket' || word.startsWith('--api-socket=');
      const key = word.slice(2);
      if (Object.hasOwn(COMMON, key) && COMMON[key as keyof typeof COMMON].type === 'string') {
        words.push(...args.slice(i + 1, i + 2));
        i++;
      }
      continue;
    }
    if (!socket && name === undefined && word !== 'help' && isName(word, args[i + 1])) name = word;
    else return { command: word, name, words: [...words, ...args.slice(i + 1)] };
  }
  return { command: undefined, name, words };
}

/** A VM may be called like a subcommand. */
function isName(word: string, next: string | undefined): boolean {
  const isCommand = (one: string) => Object.hasOwn(ctlDescriptions, one);
  return !isCommand(word) || (next !== undefined && isCommand(next));
}

function unknown(given: string): UsageError {
  const known = Object.keys(ctlDescriptions);
  return new UsageError(`ctl has no subcommand '${given}'`, { kind: 'name', given, known });
}

interface Parsed {
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly positionals: readonly string[];
}

/** Options with a value, and those without. */
function separate(values: Parsed['values']): Pick<CtlWords, 'options' | 'flags'> {
  const given = Object.entries(values);
  return {
    options: Object.fromEntries(
      given.flatMap(([name, value]) => (typeof value === 'string' ? [[name, value]] : [])),
    ),
    flags: new Set(given.flatMap(([name, value]) => (value === true ? [name] : []))),
  };
}

/** @throws UsageError */
function parse(words: readonly string[], own: Readonly<Record<string, typeof text | typeof flag>>): Parsed {
  const options = { ...COMMON, ...own };
  let parsed: ReturnType<typeof parseStrictly>;
  try {
    parsed = parseStrictly(words, options);
  } catch (error) {
    throw unparsed(error);
  }
  const seen = new Set<string>();
  for (const token of parsed.tokens) {
    if (token.kind !== 'option') continue;
    if (seen.has(token.name)) throw new UsageError(`--${token.name} was given more than once`);
    seen.add(token.name);
  }
  return parsed as unknown as Parsed;
}

function parseStrictly(
  words: readonly string[],
  options: Readonly<Record<string, { type: 'string' | 'boolean'; short?: string }>>,
) {
  return parseArgs({ args: [...words], options, allowPositionals: true, tokens: true });
}

/** @throws UsageError */
function targetOf(name: string | undefined, values: Parsed['values']): CtlTarget | undefined {
  const socket = values['api-socket'] as string | undefined;
  const dir = values.dir as string | undefined;
  if (socket !== undefined && name !== undefined)
    throw new UsageError('give --api-socket or a name, not both');
  if (socket !== undefined) return { socket: socket.replace(/^path=/, '') };
  return name === undefined ? undefined : { name, dir };
}

/** In milliseconds. @throws UsageError */
function secondsOf(value: string | boolean | undefined): number | undefined {
  if (value === undefined) return undefined;
  const seconds = Number(value);
  if (value !== '' && seconds > 0 && seconds <= MAX_SECONDS) return seconds * 1000;
  throw new UsageError(`--timeout ${value} is no number of seconds`);
}
