/**
 * A JSON reader as strict as the API's clients know it: duplicate keys are refused, a number with a fraction or an
 * exponent is no integer (it comes back boxed, as a Number object), and integers above 2^53 come back as BigInt instead
 * of being rounded. Objects have no prototype, so that no key has a special meaning.
 */
const MAX_DEPTH = 128;

export class JsonError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'JsonError';
  }
}

/** @throws JsonError that says where the text stops being JSON */
export function readJson(text: string): unknown {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.end();
  return value;
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  end(): void {
    this.#skipSpace();
    if (this.#at < this.#text.length) this.#fail('trailing characters');
  }

  value(depth: number): unknown {
    if (depth > MAX_DEPTH) this.#fail('recursion limit exceeded');
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

  #object(depth: number): Record<string, unknown> {
    const object: Record<string, unknown> = Object.create(null);
    this.#at++;
    this.#skipSpace();
    if (this.#take('}')) return object;
    do {
      this.#skipSpace();
      if (this.#text[this.#at] !== '"') this.#fail('key must be a string');
      const key = this.#string();
      if (key in object) this.#fail(`duplicate field \`${key}\``);
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
    for (;;) {
      const char = this.#text[this.#at++];
      if (char === '"') break;
      if (char === '\\') this.#at++;
      if (char === undefined) this.#fail('EOF while parsing a string');
    }
    let value: string;
    try {
      value = JSON.parse(this.#text.slice(start, this.#at)) as string;
    } catch {
      return this.#fail('invalid string');
    }
    // A lone surrogate is no character.
    if (hasLoneSurrogate(value)) this.#fail('lone surrogate in a string');
    return value;
  }

  #word<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) this.#fail('expected value');
    this.#at += word.length;
    return value;
  }

  #number(): unknown {
    const start = this.#at;
    this.#take('-');
    const digitsAt = this.#at;
    const digits = this.#digits();
    if (digits === 0) this.#fail('expected value');
    if (digits > 1 && this.#text[digitsAt] === '0') this.#fail('invalid number');
    let isInteger = true;
    if (this.#take('.')) {
      isInteger = false;
      if (this.#digits() === 0) this.#fail('invalid number');
    }
    if (this.#take('e') || this.#take('E')) {
      isInteger = false;
      if (!this.#take('+')) this.#take('-');
      if (this.#digits() === 0) this.#fail('invalid number');
    }
    const literal = this.#text.slice(start, this.#at);
    const value = Number(literal);
    if (!isInteger) return Object(value);
    return Number.isSafeInteger(value) ? value : BigInt(literal);
  }

  #digits(): number {
    const start = this.#at;
    while (isDigit(this.#text.charCodeAt(this.#at))) this.#at++;
    return this.#at - start;
  }

  #take(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    while (isSpace(this.#text.charCodeAt(this.#at))) this.#at++;
  }

  #fail(message: string): never {
    const before = this.#text.slice(0, this.#at);
    const line = before.split('\n').length;
    const column = before.length - (before.lastIndexOf('\n') + 1);
    throw new JsonError(`${message} at line ${line} column ${column}`);
  }
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}

function hasLoneSurrogate(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0xd800 || code > 0xdfff) continue;
    const next = text.charCodeAt(i + 1);
    if (code > 0xdbff || !(next >= 0xdc00 && next <= 0xdfff)) return true;
    i++;
  }
  return false;
}
