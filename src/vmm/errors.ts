/** Errors of the internal API: a message, a kind, and the cause. */
import { ConfigError } from '../config/configError.ts';
import { printable } from './printable.ts';

export type VmmErrorKind =
  /** There is no VM, or no configuration of one. */
  | 'missing'
  /** The request itself is wrong. */
  | 'invalid'
  /** Two things want one identifier. */
  | 'conflict'
  /** What was asked for before is not done yet. */
  | 'busy'
  /** The VM is in the wrong state, or the host refused. */
  | 'failed';

export interface VmmErrorOptions {
  /** Taken from the cause where not given. */
  readonly kind?: VmmErrorKind;
  /** Taken from the cause where not given. */
  readonly code?: string;
  readonly cause?: unknown;
}

/** The message is the whole chain, so that its first line names the reason; `title` is this error's own sentence. */
export class VmmError extends Error {
  readonly title: string;
  readonly kind: VmmErrorKind;
  /** For programs: the name of an errno (`ENOENT`) where the host refused, else `ERR_TSVMM_*`. */
  readonly code: string;

  /** @internal */
  constructor(text: string, options: VmmErrorOptions = {}) {
    const { cause } = options;
    // It may quote a file or another program.
    const title = printable(text);
    super(
      cause === undefined ? title : `${title}: ${describeError(cause)}`,
      cause === undefined ? undefined : { cause },
    );
    this.name = 'VmmError';
    this.title = title;
    this.kind = options.kind ?? kindOf(cause);
    this.code = options.code ?? codeOf(cause) ?? codes[this.kind];
  }
}

/** Runs checks of a configuration; what they find is wrong with it has one name for the API. @throws VmmError */
export function refuseInvalid(check: () => void): void {
  try {
    check();
  } catch (error) {
    throw new VmmError('Failed to validate config', { cause: error });
  }
}

/** What `work` ends with; what goes wrong in it gets a sentence above. */
export async function wrapped<T>(text: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new VmmError(text, { cause: error });
  }
}

/** For requests that this VM cannot carry out in any state. */
export function refusal(text: string): VmmError {
  return new VmmError(text, { kind: 'failed', code: 'ERR_TSVMM_CONFIG' });
}

/** For what is asked of a VM in the right state, and no machine does yet. @param what such as `Taking a snapshot` */
export function notSupportedYet(what: string): VmmError {
  return new VmmError(`${what} is not supported yet`, { kind: 'failed', code: 'ERR_TSVMM_UNSUPPORTED' });
}

/** What the core says of a command that the end of the VMM has cut short. */
const CALLED_OFF = 'ECANCELED';

/** Whether a command failed because the end was asked for meanwhile: no failure of the VM. */
export function wasCalledOff(error: unknown): boolean {
  return codeOf(error) === CALLED_OFF;
}

/** Whether what was waited for has not answered: worth telling also of a command that the end has cut short. */
export function wasUnanswered(error: unknown): boolean {
  return codeOf(error) === 'ERR_TSVMM_TIMEOUT';
}

const codes: Readonly<Record<VmmErrorKind, string>> = {
  missing: 'ERR_TSVMM_MISSING',
  invalid: 'ERR_TSVMM_CONFIG',
  conflict: 'ERR_TSVMM_DUPLICATE_ID',
  busy: 'ERR_TSVMM_BUSY',
  failed: 'ERR_TSVMM_FAILED',
};

/** Of the error itself, else of what caused it. */
function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = error as { readonly code?: unknown };
  return typeof code === 'string' ? code : codeOf(error.cause);
}

function kindOf(error: unknown): VmmErrorKind {
  if (error instanceof VmmError) return error.kind;
  if (error instanceof ConfigError) return error.kind === 'duplicate' ? 'conflict' : 'invalid';
  return 'failed';
}

/** The messages of an error and its causes, outermost first, each on one line. */
export function errorChain(error: unknown): string[] {
  const messages: string[] = [];
  const seen = new Set<unknown>();
  for (let link = error; link !== undefined && link !== null && !seen.has(link); ) {
    seen.add(link);
    messages.push(printable(sentenceOf(link)));
    link = link instanceof Error ? link.cause : undefined;
  }
  return messages;
}

function sentenceOf(link: unknown): string {
  if (link instanceof VmmError) return link.title;
  return link instanceof Error ? link.message : String(link);
}

/** The chain as one human-readable sentence. */
export function describeError(error: unknown): string {
  return errorChain(error).join(': ');
}
