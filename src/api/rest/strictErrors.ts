/**
 * Failures as HTTP means them (`--api-strict`): the status says whose fault it is (RFC 9110 §15), and the body is a
 * problem (RFC 9457) with a code for programs. Loaded only when asked for.
 */
import { ConfigError } from '../../config/configError.ts';
import { errorChain, VmmError } from '../../vmm/errors.ts';
import type { ErrorStyle } from './errorStyle.ts';
import type { ParseFault } from './httpRequest.ts';
import { type Answer, encodeLast, SERVER } from './httpResponse.ts';
import { RequestError, type RequestFault } from './requestError.ts';

export const PROBLEM_TYPE = 'application/problem+json';
/** Of all messages together. */
const MAX_DETAIL = 8192;

interface Kind {
  readonly status: number;
  readonly code: string;
  readonly title: string;
}

export const requestKinds: Readonly<Record<RequestFault, Kind>> = {
  path: { status: 404, code: 'ERR_TSVMM_PATH', title: 'There is no such path' },
  method: { status: 405, code: 'ERR_TSVMM_METHOD', title: 'The path has another method' },
  'unexpected-body': { status: 400, code: 'ERR_TSVMM_BODY', title: 'The request must have no body' },
  'missing-body': { status: 400, code: 'ERR_TSVMM_BODY', title: 'The request needs a body' },
  descriptors: {
    status: 422,
    code: 'ERR_TSVMM_DESCRIPTORS',
    title: 'Other descriptors came with the request than it is about',
  },
  query: { status: 400, code: 'ERR_TSVMM_QUERY', title: 'The query cannot be read' },
  json: { status: 400, code: 'ERR_TSVMM_JSON', title: 'The body cannot be read' },
  busy: { status: 429, code: 'ERR_TSVMM_BUSY', title: 'Too many event streams' },
};

export const parseKinds: Readonly<Record<ParseFault, Kind>> = {
  syntax: { status: 400, code: 'ERR_TSVMM_HTTP', title: 'That is no request' },
  version: { status: 505, code: 'ERR_TSVMM_HTTP_VERSION', title: 'The version of HTTP is not supported' },
  framing: { status: 501, code: 'ERR_TSVMM_HTTP', title: 'The transfer coding is not supported' },
  'uri-size': { status: 414, code: 'ERR_TSVMM_SIZE', title: 'The URI is too long' },
  'header-size': { status: 431, code: 'ERR_TSVMM_SIZE', title: 'The headers are too large' },
  'body-size': { status: 413, code: 'ERR_TSVMM_SIZE', title: 'The body is too large' },
  late: { status: 408, code: 'ERR_TSVMM_TIMEOUT', title: 'The request did not arrive in time' },
  busy: { status: 429, code: 'ERR_TSVMM_BUSY', title: 'Too many requests at once' },
};

/** Status by an error's code. Any other is of a request that is well-formed, and asks for what cannot be: 422. */
export const vmmStatuses: Readonly<Record<string, number>> = {
  ERR_TSVMM_MISSING: 404,
  ERR_TSVMM_STATE: 409,
  ERR_TSVMM_DUPLICATE_ID: 409,
  ERR_TSVMM_SOCKET_LOCKED: 409,
  EADDRINUSE: 409,
  EBUSY: 409,
  ERR_TSVMM_BUSY: 429,
  ERR_TSVMM_UNSUPPORTED: 501,
  ERR_TSVMM_INTERNAL: 500,
  ERR_TSVMM_NO_KVM: 500,
  ERR_TSVMM_KVM_VERSION: 500,
  ERR_TSVMM_KVM_CAPABILITY: 500,
  EIO: 500,
  EMFILE: 500,
  ENFILE: 500,
  ENOMEM: 500,
  ENOSPC: 500,
  ETIMEDOUT: 500,
};
const UNPROCESSABLE = 422;

const tooManyConnections: Kind = {
  status: 503,
  code: 'ERR_TSVMM_BUSY',
  title: 'Too many connections',
};

/** Each code with the statuses that it comes with. */
export function codeStatuses(): [code: string, statuses: number[]][] {
  const statuses = new Map<string, Set<number>>();
  const add = (code: string, status: number) =>
    statuses.set(code, (statuses.get(code) ?? new Set()).add(status));
  const kinds = [...Object.values(requestKinds), ...Object.values(parseKinds), tooManyConnections];
  for (const { code, status } of kinds) add(code, status);
  for (const [code, status] of Object.entries(vmmStatuses)) add(code, status);
  return [...statuses].map(([code, some]) => [code, [...some]]);
}

export const strictErrors: ErrorStyle = {
  anyMethod: true,
  closesOnRequest: true,
  answer: (error) => {
    if (error instanceof RequestError) {
      const answer = problemAnswer(requestKinds[error.fault], error.message);
      return error.allow === undefined ? answer : { ...answer, allow: error.allow };
    }
    return answerVmmError(error);
  },
  encodeParseError: ({ fault, message }) => encodeProblem(parseKinds[fault], message),
  encodeTooManyConnections: () => encodeProblem(tooManyConnections, ''),
};

function answerVmmError(error: unknown): Answer {
  const [title = '', ...causes] = errorChain(error);
  const code = error instanceof VmmError ? error.code : 'ERR_TSVMM_INTERNAL';
  const status = isFaultOfOurs(error) ? 500 : (vmmStatuses[code] ?? UNPROCESSABLE);
  return problemAnswer({ status, code, title }, causes.join(': '));
}

/** Whether its innermost cause is no refusal, but an unexpected failure. */
function isFaultOfOurs(error: unknown): boolean {
  let link = error;
  while (link instanceof Error && link.cause !== undefined) link = link.cause;
  if (link instanceof VmmError || link instanceof ConfigError) return false;
  return typeof (link as { readonly code?: unknown } | null)?.code !== 'string';
}

function problemAnswer(kind: Kind, detail: string): Answer {
  return { status: kind.status, type: PROBLEM_TYPE, body: problem(kind, detail) };
}

function encodeProblem(kind: Kind, detail: string): Uint8Array {
  return encodeLast({
    status: kind.status,
    server: SERVER,
    type: PROBLEM_TYPE,
    body: problem(kind, detail),
  });
}

function problem({ status, code, title }: Kind, detail: string): string {
  const shown = detail.length <= MAX_DETAIL ? detail : `${detail.slice(0, MAX_DETAIL)}...`;
  return JSON.stringify({ title, status, code, ...(shown !== '' && { detail: shown }) });
}
