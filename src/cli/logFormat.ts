/** Templates of log lines, as `--log-format` has them. Loaded with the log. */
import { ConfigError } from '../config/configError.ts';
import { nearest } from '../config/nearest.ts';

export interface LogRecord {
  /** Since the process started. */
  readonly uptimeNs: bigint;
  readonly time: Date;
  readonly level: 'ERROR' | 'WARN' | 'INFO';
  readonly message: string;
}

type Write = (record: LogRecord) => string;

const NANOSECONDS = 1_000_000_000n;
const NANOSECONDS_PER_MICROSECOND = 1000n;

const utc: Readonly<Record<string, (time: Date) => string>> = {
  year: (time) => String(time.getUTCFullYear()),
  month: (time) => two(time.getUTCMonth() + 1),
  day: (time) => two(time.getUTCDate()),
  hour: (time) => two(time.getUTCHours()),
  minute: (time) => two(time.getUTCMinutes()),
  second: (time) => two(time.getUTCSeconds()),
  micros,
  offset: () => '+00:00',
};

const local: typeof utc = {
  year: (time) => String(time.getFullYear()),
  month: (time) => two(time.getMonth() + 1),
  day: (time) => two(time.getDate()),
  hour: (time) => two(time.getHours()),
  minute: (time) => two(time.getMinutes()),
  second: (time) => two(time.getSeconds()),
  micros,
  offset: localOffset,
};

const tokens: Readonly<Record<string, Write>> = {
  boottime: ({ uptimeNs }) => {
    const micros = String((uptimeNs % NANOSECONDS) / NANOSECONDS_PER_MICROSECOND).padStart(6, '0');
    return `${uptimeNs / NANOSECONDS}.${micros}`;
  },
  wallclock: ({ time }) => time.toISOString().replace('Z', '000Z'),
  glog: ({ time }) => glog(utc, time),
  localglog: ({ time }) => glog(local, time),
  pid: () => String(process.pid),
  // All of the log is written by the thread that began the process.
  tid: () => String(process.pid),
  thread: () => 'vmm',
  level: ({ level }) => level,
  levelchar: ({ level }) => level.charAt(0),
  location: () => 'tsvmm',
  msg: ({ message }) => message,
  ...dateTokens('', utc),
  ...dateTokens('local', local),
};

/** @throws ConfigError for a token that is not known, and for a brace that stands alone */
export function compileLogFormat(template: string): Write {
  const pieces: Write[] = [];
  for (const [, brace, name, lone, text] of template.matchAll(/(\{\{|\}\})|\{([^{}]*)\}|([{}])|([^{}]+)/g)) {
    if (lone !== undefined) {
      throw new ConfigError(
        'malformed',
        `--log-format: a "${lone}" stands alone; write "${lone}${lone}" for the character`,
      );
    }
    if (name !== undefined) pieces.push(tokenOf(name));
    else pieces.push(constant(brace?.charAt(0) ?? text ?? ''));
  }
  return (record) => pieces.map((write) => write(record)).join('');
}

function tokenOf(name: string): Write {
  const write = Object.hasOwn(tokens, name) ? tokens[name] : undefined;
  if (write !== undefined) return write;
  const near = nearest(name, Object.keys(tokens));
  const known = near ? `did you mean {${near}}?` : `there are ${Object.keys(tokens).join(', ')}`;
  throw new ConfigError('malformed', `--log-format: unknown token {${name}}; ${known}`);
}

function constant(text: string): Write {
  return () => text;
}

function dateTokens(prefix: string, parts: typeof utc): Record<string, Write> {
  return Object.fromEntries(
    Object.entries(parts).map(([name, write]) => [prefix + name, ({ time }) => write(time)]),
  );
}

/** The date of Google's logging library: month, day and time. */
function glog(parts: typeof utc, time: Date): string {
  const part = (name: string) => parts[name]?.(time) ?? '';
  return `${part('month')}${part('day')} ${part('hour')}:${part('minute')}:${part('second')}.${part('micros')}`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

function micros(time: Date): string {
  return `${String(time.getMilliseconds()).padStart(3, '0')}000`;
}

/** As +hh:mm. */
function localOffset(time: Date): string {
  const minutes = -time.getTimezoneOffset();
  const size = Math.abs(minutes);
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}
