/**
 * The grammar of option values: `key=value,key=value`, where double quotes and square brackets protect commas and `""`
 * inside quotes is a quote. Values stay as written until a function of this file reads them as something.
 */
import { ConfigError, type Subject } from '../config/configError.ts';
import { parseByteSize, parseDigits, parseUint64 } from '../config/size.ts';
import type { Uint64 } from '../config/uint64.ts';

const MAX_LIST_LENGTH = 65_536;

function syntaxError(message: string, subject?: Subject): ConfigError {
  return new ConfigError('malformed', message, subject);
}

/**
 * Splits at each `separator` that is outside of quotes and brackets.
 * @throws ConfigError for a quote or bracket that does not end
 */
export function splitTopLevel(text: string, separator: string): string[] {
  const pieces: string[] = [];
  let start = 0;
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '"') quoted = !quoted;
    else if (quoted) continue;
    else if (char === '[') depth++;
    else if (char === ']') depth--;
    else if (char === separator && depth === 0) {
      pieces.push(text.slice(start, i));
      start = i + 1;
    }
    if (depth < 0) throw syntaxError(`unexpected ] in "${text}"`);
  }
  if (quoted) throw syntaxError(`a quote is not closed in "${text}"`);
  if (depth > 0) throw syntaxError(`a bracket is not closed in "${text}"`);
  pieces.push(text.slice(start));
  return pieces;
}

/** The value without the quotes around parts of it; `""` inside quotes becomes one quote. */
export function unquote(raw: string): string {
  let text = '';
  let quoted = false;
  for (let i = 0; i < raw.length; i++) {
    if (raw[i] !== '"') text += raw[i];
    else if (quoted && raw[i + 1] === '"') text += raw[++i];
    else quoted = !quoted;
  }
  return text;
}

/** One `key=value` of an option string; `value` is undefined without `=`. */
export interface OptionPart {
  readonly key: string;
  readonly value: string | undefined;
}

export function parseOptionString(text: string): OptionPart[] {
  const parts: OptionPart[] = [];
  if (text === '') return parts;
  for (const piece of splitTopLevel(text, ',')) {
    const equals = piece.indexOf('=');
    if (equals < 0) parts.push({ key: piece, value: undefined });
    else parts.push({ key: piece.slice(0, equals), value: piece.slice(equals + 1) });
  }
  return parts;
}

/** `on`, `off`, `true` or `false` in any case. */
export function parseToggle(text: string): boolean {
  const lower = text.toLowerCase();
  if (lower === 'on' || lower === 'true') return true;
  if (lower === 'off' || lower === 'false') return false;
  throw syntaxError(`"${text}" is neither on nor off`);
}

/** Digits only, at most 2^53 - 1. */
export function parseInteger(text: string): number {
  const value = parseDigits(text);
  if (value === undefined) throw syntaxError(`"${text}" is not an unsigned integer`);
  return value;
}

/** Digits only, at most 2^64 - 1; a BigInt where a number would be rounded. */
export function parseU64(text: string): Uint64 {
  const value = parseUint64(text);
  if (value !== undefined) return value;
  throw syntaxError(
    /^\d+$/.test(text) ? `"${text}" is above 2^64 - 1` : `"${text}" is not an unsigned integer`,
  );
}

/** An integer that must be written with `0x`. */
export function parseHex(text: string): number {
  const value = text.startsWith('0x') ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw syntaxError(`"${text}" is not a number that starts with 0x`);
  return value;
}

/** Bytes: an integer with optional K, M or G (binary). */
export function parseSize(text: string): Uint64 {
  const value = parseByteSize(text);
  if (value === undefined) {
    throw syntaxError(`"${text}" is not a size such as 512M`, { kind: 'size', given: text });
  }
  return value;
}

/** The items of `[a,b]`; brackets may be left out. */
export function parseList(text: string): string[] {
  const inner = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
  return inner === '' ? [] : splitTopLevel(inner, ',');
}

/** `[0,2-4]` as 0, 2, 3, 4. The start of a range must be below its end. */
export function parseIntegerList(text: string): number[] {
  const values: number[] = [];
  for (const item of parseList(text)) {
    const dash = item.indexOf('-');
    const first = parseInteger(dash < 0 ? item : item.slice(0, dash));
    const last = dash < 0 ? first : parseInteger(item.slice(dash + 1));
    if (dash >= 0 && first >= last) throw syntaxError(`the range "${item}" does not ascend`);
    if (last - first >= MAX_LIST_LENGTH) throw syntaxError(`the range "${item}" is too long`);
    for (let value = first; value <= last; value++) values.push(value);
  }
  return values;
}

/** `[key@value,key@[1,2]]`: pairs, values as written. The outer brackets are needed. */
export function parseTupleList(text: string): [key: string, value: string][] {
  if (!text.startsWith('[') || !text.endsWith(']')) throw syntaxError(`"${text}" is not in brackets`);
  return parseList(text).map((item) => {
    const at = item.indexOf('@');
    if (at < 0) throw syntaxError(`"${item}" has no @`);
    return [item.slice(0, at), item.slice(at + 1)];
  });
}
