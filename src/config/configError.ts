/** Why a configuration was refused. Front ends choose a status or an exit code by it. */
export type ConfigErrorKind =
  /** Not of the schema's shape: a missing field, a wrong type, a value out of its range. */
  | 'malformed'
  /** Understood, but not supported yet. */
  | 'unsupported'
  /** Well-formed, but contradicts itself or the host. */
  | 'invalid'
  /** Two devices with one identifier. */
  | 'duplicate';

export class ConfigError extends Error {
  readonly kind: ConfigErrorKind;

  constructor(kind: ConfigErrorKind, message: string) {
    super(message);
    this.name = 'ConfigError';
    this.kind = kind;
  }
}
