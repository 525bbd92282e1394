/** The type of a call of the supervisor's API. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ObjectShape } from '../config/schema.ts';
import type { SupervisedVm } from './supervisedVm.ts';
import type { Supervisor } from './supervisor.ts';

export interface Answer {
  /** 200 with JSON and 204 without, unless given. */
  readonly status?: number;
  readonly json?: unknown;
}

/** Names of schemas in the document, or a kind of content. */
export type AnswerKind =
  | 'Ping'
  | 'Vm'
  | 'Vms'
  | 'Stats'
  | 'AllStats'
  | 'OpenApiDocument'
  | 'text/plain'
  | 'text/event-stream';

export interface RouteRequest {
  readonly route: Route;
  /** From the path, by place. */
  readonly parameters: readonly string[];
  readonly supervisor: Supervisor;
  readonly url: URL;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The body as JSON; undefined if there is none. */
  body(): Promise<unknown>;
}

export interface Route {
  readonly method: string;
  /** `*` is one part of a path, `**` at the end is all the rest. */
  readonly path: string;
  readonly help: string;
  /**
   * For the OpenAPI document: what the operation is called, what it takes, and what it answers (204 without anything).
   */
  readonly id: string;
  readonly body?: ObjectShape;
  readonly query?: Readonly<Record<string, string>>;
  readonly answer?: AnswerKind;
  /** Returns undefined if it has answered itself. */
  handle(call: RouteRequest): Answer | undefined | Promise<Answer | undefined>;
}

/** The VM that the path names. @throws VmmError `missing` if there is none */
export function vmOf(supervisor: Supervisor, parameters: readonly string[]): SupervisedVm {
  return supervisor.get(parameters[0] as string);
}
