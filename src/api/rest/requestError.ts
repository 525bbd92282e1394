/** What is wrong with a request itself, whatever the VM's state. Its wording and status are up to an `ErrorStyle`. */
import type { Method } from './httpRequest.ts';

export type RequestFault =
  /** There is nothing by that name. */
  | 'path'
  /** There is, and it is asked for by another method. */
  | 'method'
  | 'unexpected-body'
  | 'missing-body'
  /** Others, or more or fewer, than the request is about. */
  | 'descriptors'
  | 'query'
  /** The body is no JSON, or not of the endpoint's shape. */
  | 'json'
  /** As many clients listen to events as may. */
  | 'busy';

export interface RequestErrorOptions {
  /** Human-readable. */
  readonly detail?: string;
  /** The method that the path has. */
  readonly allow?: Method;
  /** The reference answers this one without a body. */
  readonly silent?: boolean;
}

export class RequestError extends Error {
  readonly fault: RequestFault;
  readonly allow: Method | undefined;
  readonly silent: boolean;

  constructor(fault: RequestFault, options: RequestErrorOptions = {}) {
    super(options.detail ?? '');
    this.name = 'RequestError';
    this.fault = fault;
    this.allow = options.allow;
    this.silent = options.silent ?? false;
  }
}
