/** Every endpoint of the API: an entry here is all that one takes. */
import { ConfigError } from '../../config/configError.ts';
import { decode } from '../../config/decode.ts';
import { vmResize, vmResizeDisk } from '../../config/requests.ts';
import type { ObjectShape } from '../../config/schema.ts';
import { vmConfig } from '../../config/vmConfig.ts';
import { errorChain, VmmError } from '../../vmm/errors.ts';
import type { EventLog } from '../../vmm/eventLog.ts';
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
import { eventsEndpoint } from './eventsEndpoint.ts';
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
  'vm.events': eventsEndpoint,
  'vm.info': { method: 'GET', body: 'ignored', handle: info },
  'vm.counters': {
    method: 'GET',
    body: 'ignored',
    silent: true,
    handle: ({ vmm }) => jsonAnswer(vmm.counters()),
  },
};

/** Where Prometheus looks for it. */
const METRICS_PATH = '/metrics';
const metricsEndpoint: Endpoint = { method: 'GET', body: 'ignored', handle: metrics };

/** The endpoints with their methods, for documentation. */
export function listEndpoints(): {
  readonly path: string;
  readonly method: Method;
  readonly body?: ObjectShape;
}[] {
  const api = Object.entries(endpoints).map(([name, { method, body }]) => ({
    path: PREFIX + name,
    method,
    ...(typeof body === 'object' && { body }),
  }));
  return [...api, { path: METRICS_PATH, method: metricsEndpoint.method }];
}

/**
 * Carries one request out. Never throws or rejects: whatever goes wrong is an answer.
 * @param descriptors that came with it
 * @param events for those who listen
 */
export function answerRequest(
  vmm: ApiVmm,
  request: HttpRequest,
  descriptors: Descriptors,
  events?: EventLog,
): Answer | Promise<Answer> {
  const { method, path, body, lastEventId } = request;
  const found = findEndpoint(path);
  if (found === undefined) return errorAnswer(404, ['Not Found']);
  const { endpoint, query } = found;
  if (method !== endpoint.method) {
    const silent = endpoint.silent && method !== 'GET' && method !== 'PUT';
    return silent ? { status: 400, body: '' } : badRequest();
  }
  if (endpoint.body === 'refused' && body.length > 0) return badRequest();
  if (typeof endpoint.body === 'object' && body.length === 0) {
    return endpoint.body === vmConfig ? { status: 400, body: '' } : badRequest();
  }
  return run(endpoint, { vmm, descriptors, events, query, lastEventId }, body);
}

function findEndpoint(path: string): { readonly endpoint: Endpoint; readonly query: string } | undefined {
  if (path === METRICS_PATH) return { endpoint: metricsEndpoint, query: '' };
  if (!path.startsWith(PREFIX)) return undefined;
  const [name = '', ...queries] = path.slice(PREFIX.length).split('?');
  if (!Object.hasOwn(endpoints, name)) return undefined;
  const endpoint = endpoints[name] as Endpoint;
  if (queries.length > (endpoint.query ? 1 : 0)) return undefined;
  return { endpoint, query: queries[0] ?? '' };
}

function run(endpoint: Endpoint, call: Omit<Call, 'json'>, body: Uint8Array): Answer | Promise<Answer> {
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

async function metrics({ vmm }: Call): Promise<Answer> {
  const { METRICS_TYPE, metricsText } = await import('./metrics.ts');
  return { status: 200, body: metricsText(vmm), type: METRICS_TYPE };
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
