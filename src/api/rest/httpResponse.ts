/** The bytes of responses. Status lines carry no reason phrase, and headers come in one order: clients know them so. */
import type { EventsRequest } from './eventStream.ts';
import { writeJson } from './jsonWriter.ts';

const SERVER = 'Server: Cloud Hypervisor API\r\n';
/** What the reference's HTTP library calls itself in answers that never reach a handler. */
const LIBRARY_SERVER = 'Server: Firecracker API\r\n';
const KEEP_ALIVE = 'Connection: keep-alive\r\n';

/** Without a length: the body ends with the connection. */
const EVENTS_HEAD = `HTTP/1.1 200 \r\n${SERVER}Connection: close\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n`;

/** Of one message of an error: enough for every path, and no body is sent back whole. */
const MAX_MESSAGE = 8192;

export interface Answer {
  readonly status: 200 | 204 | 400 | 404 | 409 | 429 | 500 | 503;
  /** JSON text, '' for an empty body. Has no meaning with 204, which never has a body. */
  readonly body: string;
  /** The same request has the same answer until `watchInfo` tells of a change. */
  readonly lasting?: true;
  /** Of the body, if it is no JSON. */
  readonly type?: string;
  /** Events follow, until the client or the VMM goes away. */
  readonly events?: EventsRequest;
}

export const noContent: Answer = { status: 204, body: '' };

export function jsonAnswer(value: unknown): Answer {
  return { status: 200, body: writeJson(value) };
}

/** @param messages outermost first */
export function errorAnswer(status: Answer['status'], messages: readonly string[]): Answer {
  return { status, body: JSON.stringify(messages.map(shorten)) };
}

function shorten(message: string): string {
  return message.length <= MAX_MESSAGE ? message : `${message.slice(0, MAX_MESSAGE)}...`;
}

export function encodeAnswer({ status, body, type = 'application/json', events }: Answer): Uint8Array {
  if (events) return Buffer.from(EVENTS_HEAD);
  const head = `HTTP/1.1 ${status} \r\n${SERVER}${KEEP_ALIVE}`;
  if (status === 204) return Buffer.from(`${head}\r\n`);
  const length = Buffer.byteLength(body);
  return Buffer.from(`${head}Content-Type: ${type}\r\nContent-Length: ${length}\r\n\r\n${body}`);
}

export function encodeContinue(): Uint8Array {
  return Buffer.from(`HTTP/1.1 100 \r\n${LIBRARY_SERVER}${KEEP_ALIVE}\r\n`);
}

/** For bytes that are no request; the connection is closed after it. */
export function encodeParseError(message: string, status: 400 | 503 = 400): Uint8Array {
  return encodeLast(status, `{ "error": ${JSON.stringify(message)} }`, 'Content-Type: application/json\r\n');
}

export function encodeTooManyConnections(): Uint8Array {
  return encodeLast(503, '{ "error": "Too many open connections" }', '');
}

function encodeLast(status: number, body: string, type: string): Uint8Array {
  return Buffer.from(
    `HTTP/1.1 ${status} \r\n${LIBRARY_SERVER}Connection: close\r\n${type}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
