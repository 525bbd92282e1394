/** A VM's own REST API, reached through the supervisor's socket. */
import { request as httpRequest } from 'node:http';
import { pipeline } from 'node:stream';
import { VmmError } from '../vmm/errors.ts';
import { VM_API_SOCKET } from './places.ts';
import { type RouteRequest, vmOf } from './routes.ts';

/** How long a VM's process may take to answer. */
const ANSWER_MS = 60_000;
const EVENT_STREAM = 'text/event-stream';

export function forwardToVm({
  supervisor,
  parameters,
  url,
  request,
  response,
}: RouteRequest): Promise<undefined> {
  const vm = vmOf(supervisor, parameters);
  const { name } = vm.definition;
  if (!vm.alive) throw new VmmError(`The VM ${name} is ${vm.state}`, { kind: 'conflict' });
  const { method, headers } = request;
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      {
        socketPath: `${supervisor.folderOf(name)}/${VM_API_SOCKET}`,
        path: `/${parameters[1]}${url.search}`,
        headers: { ...headers, connection: 'close' },
        timeout: ANSWER_MS,
        ...(method !== undefined && { method }),
      },
      (answer) => {
        // Events come when something happens.
        if (answer.headers['content-type'] === EVENT_STREAM) sent.setTimeout(0);
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        pipeline(answer, response, () => resolve(undefined));
      },
    );
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)));
    sent.on('error', (error) => reject(new VmmError(`The VM ${name} does not answer`, { cause: error })));
    pipeline(request, sent, () => {});
  });
}
