/** The bytes of responses. Status lines carry no reason phrase, and headers come in one order: clients know them so. */
import type { AnswerFrame, MachineHandle } from '../../native.ts';
import type { VmInfo } from '../../vmm/info.ts';
import type { Counters } from '../../vmm/machineFigures.ts';
import type { EventsRequest } from './eventStream.ts';
import { writeJson } from './jsonWriter.ts';

export const SERVER = 'Server: Cloud Hypervisor API\r\n';
/** What the reference's HTTP library calls itself in answers that never reach a handler. */
export const LIBRARY_SERVER = 'Server: Firecracker API\r\n';
const KEEP_ALIVE = 'Connection: keep-alive\r\n';
const CLOSE = 'Connection: close\r\n';

/** Without a length: the body ends with the connection. */
const EVENTS_HEAD = `HTTP/1.1 200 \r\n${SERVER}${CLOSE}Content-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n`;

export interface Answer {
  readonly status: number;
  /** JSON text, '' for an empty body. Has no meaning with 204, which never has a body. */
  readonly body: string;
  /** The same request has the same answer until `watchInfo` tells of a change. */
  readonly lasting?: true;
  /** And that, with values of its own moment. They are in `body` as they are now. */
  readonly counters?: LiveCounters;
  /** And that, with the memory that the guest has at its moment. In `body` is what it has now. */
  readonly memory?: LiveMemory;
  /** Of the body, if it is no JSON. */
  readonly type?: string;
  /** The method that the path has (RFC 9110 §10.2.1). */
  readonly allow?: string;
  /** Events follow, until the client or the VMM goes away. */
  readonly events?: EventsRequest;
}

/** Counters that a machine can be asked for. */
export interface LiveCounters {
  readonly machine: MachineHandle;
  readonly values: Counters;
}

/** The memory of a machine that can be asked for it, and what else is answered. */
export interface LiveMemory {
  readonly machine: MachineHandle;
  /** Without those that its devices give the guest, or take. */
  readonly bytes: number;
  readonly info: VmInfo;
}

export const noContent: Answer = { status: 204, body: '' };

export function jsonAnswer(value: unknown): Answer {
  return { status: 200, body: writeJson(value) };
}

/** @param isLast whether the connection is closed after it */
export function encodeAnswer({ status, body, type, allow, events }: Answer, isLast = false): Uint8Array {
  if (events) return Buffer.from(EVENTS_HEAD);
  if (status === 204) return Buffer.from(`${commonHead(status, isLast)}\r\n`);
  const { head, afterLength } = headOf(status, { type, allow, isLast });
  return Buffer.from(`${head}${Buffer.byteLength(body)}${afterLength}${body}`);
}

interface HeadFields {
  readonly type?: string | undefined;
  readonly allow?: string | undefined;
  readonly isLast?: boolean;
}

/** Everything before the body, but for its length. */
export function headOf(
  status: number,
  { type = 'application/json', allow, isLast }: HeadFields = {},
): AnswerFrame {
  const allowed = allow === undefined ? '' : `Allow: ${allow}\r\n`;
  const head = `${commonHead(status, isLast)}${allowed}Content-Type: ${type}\r\nContent-Length: `;
  return { head, afterLength: '\r\n\r\n' };
}

function commonHead(status: number, isLast = false): string {
  return `HTTP/1.1 ${status} \r\n${SERVER}${isLast ? CLOSE : KEEP_ALIVE}`;
}

export function encodeContinue(): Uint8Array {
  return Buffer.from(`HTTP/1.1 100 \r\n${LIBRARY_SERVER}${KEEP_ALIVE}\r\n`);
}

/** An answer after which the connection is closed. */
export function encodeLast(answer: {
  readonly status: number;
  /** A whole header line. */
  readonly server: string;
  readonly type?: string;
  readonly body: string;
}): Uint8Array {
  const { status, server, type, body } = answer;
  const typeLine = type === undefined ? '' : `Content-Type: ${type}\r\n`;
  const lengthLine = `Content-Length: ${Buffer.byteLength(body)}\r\n`;
  return Buffer.from(`HTTP/1.1 ${status} \r\n${server}${CLOSE}${typeLine}${lengthLine}\r\n${body}`);
}
