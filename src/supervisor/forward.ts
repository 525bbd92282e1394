/** A VM's own REST API, reached through the supervisor's socket. */
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream';
import { VmFile } from '../api/vmhost/folderFiles.ts';
import { VmmError } from '../vmm/errors.ts';
import { type RouteRequest, vmOf } from './route.ts';
import { callVmApi } from './vmApi.ts';

/** After so long without an answer, and again and again, the VM's process has to show that it is alive. */
const ANSWER_MS = 60_000;
const EVENT_STREAM = 'text/event-stream';

export function forwardToVm(call: RouteRequest): Promise<undefined> {
  const { supervisor, parameters, url, request, response } = call;
  const vm = vmOf(supervisor, parameters);
  const { name } = vm.definition;
  if (!vm.alive) throw new VmmError(`The VM ${name} is ${vm.state}`, { kind: 'conflict' });
  const target = { name, folder: supervisor.folderOf(name), path: `/${parameters[1]}${url.search}` };
  return forward(target, request, response);
}

export interface ForwardTarget {
  readonly name: string;
  /** Of the VM, with its socket. */
  readonly folder: string;
  readonly path: string;
}

/**
 * Passes a request on, and its answer back. How long that may take only the VM knows (a removal waits for the guest as
 * long as the client has said): it is given up when the VM's process does not answer anything else, or the client has
 * gone.
 * @throws VmmError if there is no answer
 */
export function forward(
  { name, folder, path }: ForwardTarget,
  request: IncomingMessage,
  response: ServerResponse,
  answerMs = ANSWER_MS,
): Promise<undefined> {
  const { method, headers } = request;
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      {
        socketPath: `${folder}/${VmFile.apiSocket}`,
        path,
        headers: { ...headers, connection: 'close' },
        ...(method !== undefined && { method }),
      },
      (answer) => {
        // Events come when something happens.
        if (answer.headers['content-type'] === EVENT_STREAM) clearInterval(watch);
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        pipeline(answer, response, () => {
          clearInterval(watch);
          resolve(undefined);
        });
      },
    );
    const watch = setInterval(() => {
      callVmApi(folder, { method: 'GET', endpoint: 'vmm.ping', timeoutMs: answerMs }).catch(() => {
        sent.destroy(new Error(`no answer within ${(2 * answerMs) / 1000} s`));
      });
    }, answerMs);
    sent.on('error', (error) => {
      clearInterval(watch);
      reject(new VmmError(`The VM ${name} does not answer`, { cause: error }));
    });
    response.once('close', () => sent.destroy());
    pipeline(request, sent, () => {});
  });
}
