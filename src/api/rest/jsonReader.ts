/**
 * A JSON reader for bodies, as strict as the API's clients know it: duplicate keys are refused, a number with a
 * fraction or an exponent is no integer (it comes back boxed, as a Number object), and integers above 2^53 come back as
 * BigInt instead of being rounded. Objects have no prototype, so that no key has a special meaning.
 *
 * The time that a text takes depends on its number of values, which is limited, and not on its length: strings, numbers
 * and space are found by the runtime's own functions.
 */
const MAX_DEPTH = 128;
/** A configuration has some hundred. */
const MAX_VALUES = 65_536;
/** Of 2^64 - 1. Integers that have more are no integers of the API's. */
const MAX_INTEGER_DIGITS = 20;
/** Of a key in a message. */
const MAX_SHOWN = 64;

const SPACE = /[ \n\r\t]*/y;
const NUMBER = /-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
/** What may be an integer that a number would round. */
const LONG_INTEGER = /\d{16}/;
/** Up to the next quote or escape in a string. */
const PLAIN = /[^"\\]*/y;

interface Rules {
  readonly maxValues: number;
  readonly fractions: 'boxed' | 'plain';
}

const BODY: Rules = { maxValues: MAX_VALUES, fractions: 'boxed' };
const ANSWER: Rules = { maxValues: Number.POSITIVE_INFINITY, fractions: 'plain' };

export class JsonError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'JsonError';
  }
}

/** @throws JsonError that says where the text stops being JSON */
export function readJson(text: string): unknown {
  return read(text, BODY);
}

/**
 * JSON of a program of ours, of any length: as JSON.parse reads it, but that integers above 2^53 are BigInts.
 * @throws Error where it is no JSON
 */
export function readAnswer(text: string): unknown {
  return LONG_INTEGER.test(text) ? read(text, ANSWER) : JSON.parse(text);
}

function read(text: string, rules: Rules): unknown {
  const reader = new Reader(text, rules);
  const value = reader.value(0);
  reader.end();
  return value;
}

class Reader {
  readonly #rules: Rules;
  readonly #text: string;
  #at = 0;
  #values = 0;

  constructor(text: string, rules: Rules) {
    this.#text = text;
    this.#rules = rules;
  }

  end(): void {
    this.#skipSpace();
    if (this.#at < this.#text.length) this.#fail('trailing characters');
  }

  value(depth: number): unknown {
    if (depth > MAX_DEPTH) this.#fail('recursion limit exceeded');
    this.#count();
    this.#skipSpace();
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth);
      case '[':
        return this.#array(depth);
      case '"':
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      case undefined:
        return this.#fail('EOF while parsing a value');
      default:
        return this.#number();
    }
  }

  /** Of values and of escapes in strings. */
  #count(): void {
    const { maxValues } = this.#rules;
    if (++this.#values > maxValues) this.#fail(`more than ${maxValues} values`);
  }

  #object(depth: number): Record<string, unknown> {
    const object: Record<string, unknown> = Object.create(null);
    this.#at++;
    this.#skipSpace();
    if (this.#take('}')) return object;
    do {
      this.#skipSpace();
      if (this.#text[this.#at] !== '"') this.#fail('key must be a string');
      const key = this.#string();
      if (key in object) this.#failBehind(`duplicate field \`${key.slice(0, MAX_SHOWN)}\``);
      this.#skipSpace();
      if (!this.#take(':')) this.#fail('expected `:`');
      object[key] = this.value(depth + 1);
      this.#skipSpace();
    } while (this.#take(','));
    if (!this.#take('}')) this.#fail('expected `,` or `}`');
    return object;
  }

  #array(depth: number): unknown[] {
    const array: unknown[] = [];
    this.#at++;
    this.#skipSpace();
    if (this.#take(']')) return array;
    do {
      array.push(this.value(depth + 1));
      this.#skipSpace();
    } while (this.#take(','));
    if (!this.#take(']')) this.#fail('expected `,` or `]`');
    return array;
  }

  /** Finds the end of the string; what is inside is left to the runtime's own parser. */
  #string(): string {
    const start = this.#at++;
    let escaped = false;
    for (this.#skip(PLAIN); this.#text[this.#at] === '\\'; this.#skip(PLAIN)) {
      escaped = true;
      this.#count();
      this.#at += 2;
    }
    if (!this.#take('"')) this.#fail('EOF while parsing a string');
    let value: string;
    try {
      value = JSON.parse(this.#text.slice(start, this.#at)) as string;
    } catch {
      return this.#failBehind('invalid string');
    }
    // A lone surrogate is no character; bytes that were UTF-8 have none.
    if (escaped && hasLoneSurrogate(value)) this.#failBehind('lone surrogate in a string');
    return value;
  }

  #word<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) this.#fail('expected value');
    this.#at += word.length;
    return value;
  }

  #number(): unknown {
    const start = this.#at;
    if (!this.#skip(NUMBER)) this.#fail('expected value');
    const literal = this.#text.slice(start, this.#at);
    // What a number goes on with, and may not: 01, 1., 1e.
    if (/[\d.eE]/.test(this.#text[this.#at] ?? '')) this.#fail('invalid number');
    const value = Number(literal);
    if (!Number.isFinite(value)) this.#fail('number out of range');
    const digits = literal.startsWith('-') ? literal.length - 1 : literal.length;
    if (/[.eE]/.test(literal) || digits > MAX_INTEGER_DIGITS) {
      return this.#rules.fractions === 'boxed' ? Object(value) : value;
    }
    return Number.isSafeInteger(value) ? value : BigInt(literal);
  }

  #take(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    this.#skip(SPACE);
  }

  /** Goes behind what `pattern`, a sticky one, finds here. False if it finds nothing. */
  #skip(pattern: RegExp): boolean {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.#text)) return false;
    this.#at = pattern.lastIndex;
    return true;
  }

  /** About the character that comes next. */
  #fail(message: string): never {
    this.#failAt(message, this.#at + 1);
  }

  /** About what was just read. */
  #failBehind(message: string): never {
    this.#failAt(message, this.#at);
  }

  #failAt(message: string, end: number): never {
    const before = this.#text.slice(0, end);
    const line = before.split('\n').length;
    const column = before.length - (before.lastIndexOf('\n') + 1);
    throw new JsonError(`${message} at line ${line} column ${column}`);
  }
}

function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}
