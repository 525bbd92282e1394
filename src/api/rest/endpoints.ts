/** Every endpoint of the API: an entry here is all that one takes. */
import { ConfigError } from '../../config/configError.ts';
import { decode } from '../../config/decode.ts';
import { vmResize, vmResizeDisk } from '../../config/requests.ts';
import type { ObjectShape } from '../../config/schema.ts';
import { vmConfig } from '../../config/vmConfig.ts';
import { errorChain, VmmError } from '../../vmm/errors.ts';
import { API_VERSION, FEATURES, packageVersion } from '../../vmm/version.ts';
import type { Descriptors } from './descriptors.ts';
import { deviceEndpoints } from './deviceEndpoints.ts';
import {
  type ApiVmm,
  action,
  badRequest,
  type Call,
  dropDescriptorNumbers,
  type Endpoint,
  type Endpoints,
  order,
} from './endpoint.ts';
import type { HttpRequest, Method } from './httpRequest.ts';
import { type Answer, errorAnswer, jsonAnswer, noContent } from './httpResponse.ts';
import { JsonError, readJson } from './jsonReader.ts';
import { stateEndpoints } from './stateEndpoints.ts';

const PREFIX = '/api/v1/';

const endpoints: Endpoints = {
  'openapi.json': { method: 'GET', body: 'ignored', handle: openApi },
  'vmm.ping': { method: 'GET', body: 'ignored', handle: ping },
  'vmm.shutdown': {
    method: 'PUT',
    body: 'ignored',
    handle: ({ vmm }) => vmm.quit().then(() => ({ status: 200, body: '' })),
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
  'vm.resize': order(vmResize, ({ vmm, json }) => vmm.resize(decode(vmResize, json))),
  'vm.resize-disk': order(vmResizeDisk, async ({ vmm, json }) => {
    const { id, desired_size } = decode(vmResizeDisk, json);
    await vmm.resizeDisk(id, desired_size);
  }),
  ...deviceEndpoints,
  ...stateEndpoints,
  'vm.info': { method: 'GET', body: 'ignored', handle: info },
  'vm.counters': {
    method: 'GET',
    body: 'ignored',
    silent: true,
    handle: ({ vmm }) => jsonAnswer(vmm.counters()),
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
  descriptors: Descriptors,
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
  return run(endpoint, { vmm, descriptors }, body);
}

function run(
  endpoint: Endpoint,
  call: Pick<Call, 'vmm' | 'descriptors'>,
  body: Uint8Array,
): Answer | Promise<Answer> {
  try {
    const json = typeof endpoint.body === 'object' ? readJson(decodeText(body)) : undefined;
    const answer = endpoint.handle({ ...call, json });
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

async function openApi(): Promise<Answer> {
  const { openApiDocument } = await import('./openApi.ts');
  return jsonAnswer(openApiDocument());
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

function info({ vmm }: Call): Answer {
  const value = vmm.info();
  const answer = jsonAnswer(value);
  // A guest changes the size of its balloon at any time.
  return value.config.balloon ? answer : { ...answer, lasting: true };
}

function create({ vmm, json }: Call): Promise<Answer> {
  const { net, devices } = (json ?? {}) as { net?: unknown; devices?: unknown };
  if (Array.isArray(net)) for (const one of net) dropDescriptorNumbers(one, 'fds');
  if (Array.isArray(devices)) for (const one of devices) dropDescriptorNumbers(one, 'fd');
  return vmm.create(decode(vmConfig, json)).then(() => noContent);
}
