/** Every endpoint of the API: an entry here is all that one takes. */
import { ConfigError } from '../../config/configError.ts';
import { decode } from '../../config/decode.ts';
import { vmResize, vmResizeDisk } from '../../config/requests.ts';
import type { ObjectShape } from '../../config/schema.ts';
import { type VmConfig, vmConfig } from '../../config/vmConfig.ts';
import { errorChain, VmmError } from '../../vmm/errors.ts';
import { API_VERSION, FEATURES, packageVersion } from '../../vmm/version.ts';
import type { Vmm } from '../../vmm/vmm.ts';
import type { Descriptors } from './descriptors.ts';
import type { HttpRequest, Method } from './httpRequest.ts';
import { type Answer, errorAnswer, jsonAnswer, noContent } from './httpResponse.ts';
import { JsonError, readJson } from './jsonReader.ts';

/** The part of the internal API that this front end uses. */
export type ApiVmm = Pick<
  Vmm,
  | 'create'
  | 'delete'
  | 'boot'
  | 'shutdown'
  | 'reboot'
  | 'pause'
  | 'resume'
  | 'powerButton'
  | 'nmi'
  | 'resize'
  | 'resizeDisk'
  | 'info'
  | 'counters'
  | 'quit'
  | 'watchInfo'
>;

interface Endpoint {
  readonly method: Method;
  /** `refused`: a body is an error; `ignored`: it is not looked at; a shape: there must be one of that shape. */
  readonly body: 'refused' | 'ignored' | ObjectShape;
  /** PATCH and DELETE are answered without a body, as the reference does on some paths. */
  readonly silent?: true;
  handle(vmm: ApiVmm, body: string): Answer | Promise<Answer>;
}

const PREFIX = '/api/v1/';

/** An endpoint that takes nothing and answers nothing. */
function action(run: (vmm: ApiVmm) => Promise<void>): Endpoint {
  return {
    method: 'PUT',
    body: 'refused',
    silent: true,
    handle: (vmm) => run(vmm).then(() => noContent),
  };
}

const endpoints: Readonly<Record<string, Endpoint>> = {
  'vmm.ping': { method: 'GET', body: 'ignored', handle: ping },
  'vmm.shutdown': {
    method: 'PUT',
    body: 'ignored',
    handle: (vmm) => vmm.quit().then(() => ({ status: 200, body: '' })),
  },
  'vm.create': { method: 'PUT', body: vmConfig, handle: create },
  'vm.delete': action((vmm) => vmm.delete()),
  'vm.boot': action((vmm) => vmm.boot()),
  'vm.shutdown': action((vmm) => vmm.shutdown()),
  'vm.reboot': action((vmm) => vmm.reboot()),
  'vm.pause': action((vmm) => vmm.pause()),
  'vm.resume': action((vmm) => vmm.resume()),
  'vm.power-button': action((vmm) => vmm.powerButton()),
  'vm.nmi': action((vmm) => vmm.nmi()),
  'vm.resize': { method: 'PUT', body: vmResize, silent: true, handle: resize },
  'vm.resize-disk': { method: 'PUT', body: vmResizeDisk, silent: true, handle: resizeDisk },
  'vm.info': { method: 'GET', body: 'ignored', handle: info },
  'vm.counters': {
    method: 'GET',
    body: 'ignored',
    silent: true,
    handle: (vmm) => jsonAnswer(vmm.counters()),
  },
};

/** The endpoints with their methods, for documentation. */
export function listEndpoints(): {
  readonly path: string;
  readonly method: Method;
  readonly body?: ObjectShape;
}[] {
  return Object.entries(endpoints).map(([name, { method, body }]) => ({
    path: PREFIX + name,
    method,
    ...(typeof body === 'object' && { body }),
  }));
}

/** Carries one request out. Never throws or rejects: whatever goes wrong is an answer. */
export function answerRequest(
  vmm: ApiVmm,
  request: HttpRequest,
  _descriptors: Descriptors,
): Answer | Promise<Answer> {
  const { method, path, body } = request;
  const name = path.startsWith(PREFIX) ? path.slice(PREFIX.length) : '';
  if (!Object.hasOwn(endpoints, name)) return errorAnswer(404, ['Not Found']);
  const endpoint = endpoints[name] as Endpoint;
  if (method !== endpoint.method) {
    const silent = endpoint.silent && method !== 'GET' && method !== 'PUT';
    return silent ? { status: 400, body: '' } : badRequest();
  }
  if (endpoint.body === 'refused' && body.length > 0) return badRequest();
  if (typeof endpoint.body === 'object' && body.length === 0) {
    return endpoint.body === vmConfig ? { status: 400, body: '' } : badRequest();
  }
  return run(endpoint, vmm, body);
}

function badRequest(): Answer {
  return errorAnswer(400, ['Bad Request']);
}

function run(endpoint: Endpoint, vmm: ApiVmm, body: Uint8Array): Answer | Promise<Answer> {
  try {
    const text = typeof endpoint.body === 'object' ? decodeText(body) : '';
    const answer = endpoint.handle(vmm, text);
    return answer instanceof Promise ? answer.catch(answerError) : answer;
  } catch (error) {
    return answerError(error);
  }
}

function decodeText(body: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    throw new JsonError('invalid unicode code point');
  }
}

function answerError(error: unknown): Answer {
  if (error instanceof JsonError || (error instanceof ConfigError && error.kind === 'malformed')) {
    return errorAnswer(400, ['Failed to deserialize JSON', error.message]);
  }
  return errorAnswer(statusOf(error), ['Error from API', ...errorChain(error)]);
}

function statusOf(error: unknown): Answer['status'] {
  if (!(error instanceof VmmError)) return 500;
  switch (error.kind) {
    case 'missing':
      return 404;
    case 'invalid':
      return 400;
    case 'conflict':
      return 409;
    case 'failed':
      return 500;
  }
}

function ping(): Answer {
  const answer = jsonAnswer({
    build_version: `tsvmm-v${packageVersion}`,
    version: API_VERSION,
    pid: process.pid,
    features: FEATURES,
  });
  return { ...answer, lasting: true };
}

function info(vmm: ApiVmm): Answer {
  const value = vmm.info();
  const answer = jsonAnswer(value);
  // A guest changes the size of its balloon at any time.
  return value.config.balloon ? answer : { ...answer, lasting: true };
}

function create(vmm: ApiVmm, body: string): Promise<Answer> {
  return vmm.create(decodeConfig(readJson(body))).then(() => noContent);
}

function resize(vmm: ApiVmm, body: string): Promise<Answer> {
  return vmm.resize(decode(vmResize, readJson(body))).then(() => noContent);
}

function resizeDisk(vmm: ApiVmm, body: string): Promise<Answer> {
  const { id, desired_size } = decode(vmResizeDisk, readJson(body));
  return vmm.resizeDisk(id, desired_size).then(() => noContent);
}

function decodeConfig(value: unknown): VmConfig {
  const config = decode(vmConfig, value);
  // The numbers of descriptors mean nothing between processes.
  for (const net of config.net ?? []) delete net.fds;
  return config;
}
