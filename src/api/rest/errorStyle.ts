/** What of HTTP is done as the reference does it, or (`--api-strict`) as HTTP says, above all how failures are told. */
import type { HttpParseError } from './httpRequest.ts';
import type { Answer } from './httpResponse.ts';

export interface ErrorStyle {
  /** Methods that no endpoint has are refused like any other wrong one; otherwise they are no HTTP. */
  readonly anyMethod: boolean;
  /** Clients that ask for it have their connection closed after the answer (RFC 9112 §9.6); otherwise all are kept. */
  readonly closesOnRequest: boolean;
  /** @param error a `RequestError`, or what the VMM threw */
  answer(error: unknown): Answer;
  /** For bytes that are no request; the connection is closed after it. */
  encodeParseError(error: HttpParseError): Uint8Array;
  /** For a connection that is one too many; it is closed. */
  encodeTooManyConnections(): Uint8Array;
}
