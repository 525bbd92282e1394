/** Errors of the internal API: a sentence, what kind of trouble it is, and the cause below it. */
import { ConfigError } from '../config/configError.ts';

export type VmmErrorKind =
  /** There is no VM, or no configuration of one. */
  | 'missing'
  /** The request itself is wrong. */
  | 'invalid'
  /** Two things want one identifier. */
  | 'conflict'
  /** The VM is in the wrong state, or the host refused. */
  | 'failed';

export class VmmError extends Error {
  readonly kind: VmmErrorKind;

  /** @param kind taken from the cause where not given */
  constructor(message: string, options: { readonly kind?: VmmErrorKind; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'VmmError';
    this.kind = options.kind ?? kindOf(options.cause);
  }
}

function kindOf(error: unknown): VmmErrorKind {
  if (error instanceof VmmError) return error.kind;
  if (error instanceof ConfigError) return error.kind === 'duplicate' ? 'conflict' : 'invalid';
  return 'failed';
}

/** The messages of an error and its causes, outermost first. */
export function errorChain(error: unknown): string[] {
  const messages: string[] = [];
  const seen = new Set<unknown>();
  for (let link = error; link !== undefined && link !== null && !seen.has(link); ) {
    seen.add(link);
    messages.push(link instanceof Error ? link.message : String(link));
    link = link instanceof Error ? link.cause : undefined;
  }
  return messages;
}

/** The chain as one sentence for people. */
export function describeError(error: unknown): string {
  return errorChain(error).join(': ');
}
