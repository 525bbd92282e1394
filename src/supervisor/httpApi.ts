/** The supervisor for programs: JSON over HTTP on a UNIX socket. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { readJson } from '../api/rest/jsonReader.ts';
import { writeJson } from '../api/rest/jsonWriter.ts';
import { ConfigError } from '../config/configError.ts';
import { describeError, VmmError } from '../vmm/errors.ts';
import { ClientLimit, mostClients } from './clientLimit.ts';
import { API_SOCKET_NAME } from './places.ts';
import type { Answer, RouteRequest } from './route.ts';
import { findRoute } from './routes.ts';
import type { Supervisor } from './supervisor.ts';

/** Bytes of a body. */
const MAX_BODY = 1 << 20;
/** How long a client may take for its headers, which Bun does not look at, and for its whole request. */
const HEADERS_MS = 10_000;
const REQUEST_MS = 30_000;
/** Connections that are told that there are too many. */
const REFUSED_AT_ONCE = 64;

const STATUS_BY_KIND = { missing: 404, invalid: 400, conflict: 409, busy: 429, failed: 500 } as const;

/** @param warn gets warnings for people */
export function createApiServer(supervisor: Supervisor, warn: (message: string) => void): Server {
  const most = mostClients();
  const limit = new ClientLimit<Socket>({
    most,
    socket: API_SOCKET_NAME,
    warn,
    disconnect: (socket) => socket.destroy(),
  });
  const refused = new WeakSet<Socket>();
  const server = createServer(
    { headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS },
    (request, response) => {
      const { socket } = request;
      limit.busy(socket);
      response.once('close', () => limit.idle(socket));
      const answered = refused.has(socket) ? refuse(response) : serve(supervisor, request, response);
      answered.catch((error) => {
        if (response.headersSent) response.destroy();
        else answerError(response, error);
      });
    },
  );
  server.on('connection', (socket) => {
    if (limit.add(socket)) socket.once('close', () => limit.remove(socket));
    else refused.add(socket);
  });
  server.maxConnections = most + REFUSED_AT_ONCE;
  return server;
}

/** The connection is for this answer only. */
async function refuse(response: ServerResponse): Promise<never> {
  response.setHeader('Connection', 'close');
  throw new VmmError('There are as many clients with requests under way as may be', { kind: 'busy' });
}

async function serve(
  supervisor: Supervisor,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://localhost');
  const found = findRoute(request.method ?? '', url.pathname);
  if (found === undefined)
    throw new VmmError(`There is no ${request.method} ${url.pathname}`, { kind: 'missing' });
  const call: RouteRequest = { ...found, supervisor, url, request, response, body: () => readBody(request) };
  const answer = await found.route.handle(call);
  if (answer) sendJson(response, answer);
}

function sendJson(response: ServerResponse, { status = 200, json }: Answer): void {
  if (json === undefined) {
    response.writeHead(status === 200 ? 204 : status).end();
    return;
  }
  const body = Buffer.from(writeJson(json));
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': body.length }).end(body);
}

function answerError(response: ServerResponse, error: unknown): void {
  const kind = error instanceof VmmError ? error.kind : undefined;
  const malformed = error instanceof ConfigError || error instanceof BodyError;
  const status = kind === undefined ? (malformed ? 400 : 500) : STATUS_BY_KIND[kind];
  sendJson(response, { status, json: { error: describeError(error) } });
}

/** A body that is too long, or no JSON. */
class BodyError extends Error {}

/** Undefined if it is empty. @throws BodyError */
async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  const late = setTimeout(() => request.socket.destroy(), REQUEST_MS);
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_BODY) throw new BodyError(`The body has more than ${MAX_BODY} bytes`);
      chunks.push(chunk);
    }
  } finally {
    clearTimeout(late);
  }
  if (length === 0) return undefined;
  try {
    return readJson(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw new BodyError(`The body is no JSON: ${(error as Error).message}`);
  }
}
