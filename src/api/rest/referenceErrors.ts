/** Failures as the reference tells them: arrays of messages, and statuses that its clients know. */
import { errorChain, VmmError } from '../../vmm/errors.ts';
import type { ErrorStyle } from './errorStyle.ts';
import type { HttpParseError } from './httpRequest.ts';
import { type Answer, encodeLast, LIBRARY_SERVER } from './httpResponse.ts';
import { RequestError, type RequestFault } from './requestError.ts';

/** Of one message: enough for every path, and no body is sent back whole. */
const MAX_MESSAGE = 8192;

const requestFaults: Readonly<Record<RequestFault, readonly [status: number, title: string]>> = {
  path: [404, 'Not Found'],
  method: [400, 'Bad Request'],
  'unexpected-body': [400, 'Bad Request'],
  'missing-body': [400, 'Bad Request'],
  descriptors: [400, 'Bad Request'],
  query: [400, 'Bad Request'],
  json: [400, 'Failed to deserialize JSON'],
  busy: [503, 'Too many event streams'],
};

const TOO_MANY_REQUESTS = 429;

const vmmErrors: Readonly<Record<VmmError['kind'], number>> = {
  missing: 404,
  invalid: 400,
  conflict: 409,
  busy: TOO_MANY_REQUESTS,
  failed: 500,
};

export const referenceErrors: ErrorStyle = {
  anyMethod: false,
  closesOnRequest: false,
  answer: (error) => (error instanceof RequestError ? answerRequestError(error) : answerVmmError(error)),
  encodeParseError: ({ message, fault }: HttpParseError) =>
    encodeLast({
      status: fault === 'busy' ? 503 : 400,
      server: LIBRARY_SERVER,
      type: 'application/json',
      body: errorObject(message),
    }),
  encodeTooManyConnections: () =>
    encodeLast({ status: 503, server: LIBRARY_SERVER, body: errorObject('Too many open connections') }),
};

function answerRequestError({ fault, message, silent }: RequestError): Answer {
  const [status, title] = requestFaults[fault];
  if (silent) return { status, body: '' };
  return errorAnswer(status, message === '' ? [title] : [title, message]);
}

function answerVmmError(error: unknown): Answer {
  const status = error instanceof VmmError ? vmmErrors[error.kind] : 500;
  const heading = status === TOO_MANY_REQUESTS ? 'Too Many Requests' : 'Error from API';
  return errorAnswer(status, [heading, ...errorChain(error)]);
}

/** @param messages outermost first */
function errorAnswer(status: number, messages: readonly string[]): Answer {
  return { status, body: JSON.stringify(messages.map(shorten)) };
}

function shorten(message: string): string {
  return message.length <= MAX_MESSAGE ? message : `${message.slice(0, MAX_MESSAGE)}...`;
}

/** What the reference's HTTP library says in its own name. */
function errorObject(message: string): string {
  return `{ "error": ${JSON.stringify(message)} }`;
}
