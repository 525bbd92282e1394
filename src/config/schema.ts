/**
 * A schema is plain data: an object literal that says what a value may be, its default and its help.
 *
 * TypeScript types (`Infer`), JSON decoding (`decode.ts`), command-line options (`../cli/`) and the OpenAPI document
 * (`openApi.ts`) are all read from the same literals. Nothing is built or compiled when a module that holds schemas is
 * loaded, and the fields of what most VMs do not have are made when they are first asked for (`once`): on the start
 * path of a VM every microsecond counts.
 */

/** What `make` returns, made at the first call. */
export function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** What a value is, apart from whether it must be there. */
export type Shape =
  /** With `pattern` it looks like that, of which `like` is an example. */
  | { readonly type: 'string'; readonly pattern?: RegExp; readonly like?: string }
  | { readonly type: 'boolean' }
  /**
   * An unsigned integer from `min` (0 unless told) to `max` (2^53 - 1). With `u64` it goes up to 2^64 - 1, and is a
   * BigInt where a number would round it. On the command line `size` accepts K, M and G, `hex` wants 0x, and `names`
   * stand for numbers.
   */
  | {
      readonly type: 'integer';
      readonly min?: number;
      readonly max?: number;
      readonly u64?: true;
      readonly size?: true;
      readonly hex?: true;
      readonly names?: Readonly<Record<string, number>>;
    }
  /** JSON spelling to command-line spelling. */
  | { readonly type: 'enum'; readonly values: Readonly<Record<string, string>> }
  | { readonly type: 'array'; readonly items: Shape }
  | ObjectShape;

export interface ObjectShape {
  readonly type: 'object';
  /** Name in the OpenAPI document. */
  readonly name: string;
  /** Refuse unknown keys; otherwise they are ignored. */
  readonly strict?: true;
  /** Keys that earlier releases of the reference knew: option strings may have them, and nothing comes of it. */
  readonly legacyKeys?: readonly string[];
  /** The key that an option without one probably has. */
  readonly mainKey?: string;
  readonly fields: Fields;
}

interface FieldRules {
  /** Must be there. A field that is neither required nor has a default is optional and absent when not given. */
  readonly required?: true;
  readonly default?: unknown;
  readonly help?: string;
  /** No machine has it yet: a boot is refused (`bootable.ts`) where the field asks for something. */
  readonly unsupported?: true;
  /** On the command line the key alone means on. Booleans only. */
  readonly bare?: true;
  /** Key in a command-line option string, if it is not the field's name; false for none. */
  readonly cli?: string | false;
  /** Keys in a command-line option string for members of an object of objects, instead of one for the whole. */
  readonly memberKeys?: Readonly<Record<string, readonly [object: string, member: string]>>;
  /** Its value where an option string has others of its object, and not this one. */
  readonly optionDefault?: unknown;
  /** Is absent instead of false. */
  readonly falseIsAbsent?: true;
  /** Is null where it was not given, instead of absent. */
  readonly nullable?: true;
  /** Further accepted names in JSON and on the command line. */
  readonly alias?: string;
}

export type Field = Shape & FieldRules;
export type Fields = Readonly<Record<string, Field>>;

/** As the REST API spells them. */
type EnumValues<V> = keyof V & string;
/** Or as the command line does: the library takes both. */
type EnumInput<V> = EnumValues<V> | (V[keyof V] & string);

/** The TypeScript type of decoded values of a shape. */
export type Infer<S> = S extends { readonly type: 'string' }
  ? string
  : S extends { readonly type: 'boolean' }
    ? boolean
    : S extends { readonly type: 'integer' }
      ? S extends { readonly u64: true }
        ? number | bigint
        : number
      : S extends { readonly type: 'enum'; readonly values: infer V }
        ? EnumValues<V>
        : S extends { readonly type: 'array'; readonly items: infer I }
          ? Infer<I>[]
          : S extends { readonly type: 'object'; readonly fields: infer F }
            ? InferFields<F>
            : unknown;

type IsPresent<F> = F extends { readonly required: true }
  ? true
  : F extends { readonly default: unknown } | { readonly nullable: true }
    ? true
    : false;
type InferField<F> = F extends { readonly nullable: true } ? Infer<F> | null : Infer<F>;
type PresentKeys<F> = { [K in keyof F]: IsPresent<F[K]> extends true ? K : never }[keyof F];
type AbsentKeys<F> = Exclude<keyof F, PresentKeys<F>>;

type InferFields<F> = { -readonly [K in PresentKeys<F>]: InferField<F[K]> } & {
  -readonly [K in AbsentKeys<F>]?: Infer<F[K]>;
};

type IsRequired<F> = F extends { readonly required: true } ? true : false;
type RequiredKeys<F> = { [K in keyof F]: IsRequired<F[K]> extends true ? K : never }[keyof F];

/** The TypeScript type of what the library accepts: only required fields must be there. */
export type Input<S> = S extends { readonly type: 'enum'; readonly values: infer V }
  ? EnumInput<V>
  : S extends { readonly type: 'array'; readonly items: infer I }
    ? readonly Input<I>[]
    : S extends { readonly type: 'object'; readonly fields: infer F }
      ? { readonly [K in RequiredKeys<F>]: Input<F[K]> } & {
          readonly [K in Exclude<keyof F, RequiredKeys<F>>]?: Input<F[K]> | null;
        }
      : Infer<S>;
