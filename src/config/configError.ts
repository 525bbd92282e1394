/** The error of configurations that are refused. Front ends choose a status or an exit code by its kind. */

/** What kind of mistake it is. */
export type ConfigErrorKind =
  /** Not of the schema's shape: a missing field, a wrong type, a value out of its range. */
  | 'malformed'
  /** Understood, but not supported yet. */
  | 'unsupported'
  /** Well-formed, but contradicts itself or the host. */
  | 'invalid'
  /** Two devices with one identifier. */
  | 'duplicate';

/** For programs: it stays what it is whatever the message says. */
export type ConfigErrorCode = 'ERR_TSVMM_CONFIG' | 'ERR_TSVMM_UNSUPPORTED' | 'ERR_TSVMM_DUPLICATE_ID';

/** What was written and refused, for advice on what to write instead. */
export type Subject =
  /** A name that is not known, and those that are. */
  | { readonly kind: 'name'; readonly given: string; readonly known: readonly string[] }
  | { readonly kind: 'flag'; readonly given: string }
  | { readonly kind: 'size'; readonly given: string };

export class ConfigError extends Error {
  readonly kind: ConfigErrorKind;
  readonly code: ConfigErrorCode;
  /** @internal */
  readonly subject: Subject | undefined;

  /** @internal */
  constructor(kind: ConfigErrorKind, message: string, subject?: Subject) {
    super(message);
    this.name = 'ConfigError';
    this.kind = kind;
    this.code = codes[kind];
    this.subject = subject;
  }
}

const codes: Readonly<Record<ConfigErrorKind, ConfigErrorCode>> = {
  malformed: 'ERR_TSVMM_CONFIG',
  invalid: 'ERR_TSVMM_CONFIG',
  unsupported: 'ERR_TSVMM_UNSUPPORTED',
  duplicate: 'ERR_TSVMM_DUPLICATE_ID',
};
