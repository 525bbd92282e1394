/** Reads values of a parsed file that has no schema; errors name the file and the value. */
import { ConfigError } from '../../config/configError.ts';

export class Fields {
  /** As messages call it, such as `jcard.toml: network`. */
  readonly #name: string;
  readonly #values: Readonly<Record<string, unknown>>;

  /** @throws ConfigError if the value is no table; nothing at all is an empty one */
  constructor(name: string, value: unknown) {
    const isTable = typeof value === 'object' && value !== null && !Array.isArray(value);
    if (value !== undefined && !isTable) throw new ConfigError('malformed', `${name} is not a table`);
    this.#name = name;
    this.#values = (value ?? {}) as Record<string, unknown>;
  }

  get keys(): readonly string[] {
    return Object.keys(this.#values);
  }

  /** Empty text counts as none. */
  text(key: string): string | undefined {
    const value = this.#values[key];
    if (value === undefined || value === '') return undefined;
    return typeof value === 'string' ? value : this.wrong(key, 'text');
  }

  /** An integer in that range. 0 counts as none where it is below. */
  whole(key: string, min: number, max: number): number | undefined {
    const value = this.#values[key];
    if (value === undefined || (value === 0 && min > 0)) return undefined;
    const fits = typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
    return fits ? value : this.wrong(key, `a whole number from ${min} to ${max}`);
  }

  list(key: string): readonly unknown[] {
    const value = this.#values[key] ?? [];
    return Array.isArray(value) ? value : this.wrong(key, 'a list');
  }

  /** A table below this one. */
  table(key: string): Fields {
    return new Fields(this.#nameOf(key), this.#values[key]);
  }

  /** The tables of a list below this one. */
  tables(key: string): readonly Fields[] {
    return this.list(key).map((value, index) => new Fields(`${this.#nameOf(key)}[${index}]`, value ?? null));
  }

  wrong(key: string, wanted: string): never {
    throw new ConfigError('malformed', `${this.#nameOf(key)} is not ${wanted}`);
  }

  /** @param what of it, for people */
  unsupported(key: string, what: string): never {
    throw new ConfigError('unsupported', `${this.#nameOf(key)}: ${what} cannot be had yet`);
  }

  #nameOf(key: string): string {
    return this.#name.includes(':') ? `${this.#name}.${key}` : `${this.#name}: ${key}`;
  }
}
