/** How failures are reported to clients: as the reference does, or (`--api-strict`) by HTTP's status codes. */
import type { HttpParseError } from './httpRequest.ts';
import type { Answer } from './httpResponse.ts';

export interface ErrorStyle {
  /** Methods that no endpoint has are refused like any other wrong one; otherwise they are no HTTP. */
  readonly anyMethod: boolean;
  /** @param error a `RequestError`, or what the VMM threw */
  answer(error: unknown): Answer;
  /** For bytes that are no request; the connection is closed after it. */
  encodeParseError(error: HttpParseError): Uint8Array;
  /** For a connection that is one too many; it is closed. */
  encodeTooManyConnections(): Uint8Array;
}
