/** The table of the API's endpoints: a new one is an entry here. */
import { ConfigError } from '../../config/configError.ts';
import { decode } from '../../config/decode.ts';
import { memoryVaries } from '../../config/memory.ts';
import { vmResize, vmResizeDisk } from '../../config/requests.ts';
import type { ObjectShape } from '../../config/schema.ts';
import { vmConfig } from '../../config/vmConfig.ts';
import { deviceRecords } from '../../devices/registry.ts';
import { API_VERSION, FEATURES, packageVersion } from '../../vmm/version.ts';
import type { Descriptors } from './descriptors.ts';
import { deviceEndpoints } from './deviceEndpoints.ts';
import {
  type ApiVmm,
  action,
  type Call,
  dropDescriptorNumbers,
  type Endpoint,
  type Endpoints,
  order,
} from './endpoint.ts';
import type { ErrorStyle } from './errorStyle.ts';
import { eventsEndpoint } from './eventsEndpoint.ts';
import type { HttpRequest, Method } from './httpRequest.ts';
import { type Answer, jsonAnswer, noContent } from './httpResponse.ts';
import { JsonError, readJson } from './jsonReader.ts';
import { referenceErrors } from './referenceErrors.ts';
import { RequestError } from './requestError.ts';
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
  'vm.resize': order(vmResize, ({ vmm, json, client }) => vmm.resize(decode(vmResize, json), client)),
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
    handle: counters,
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

export type AnswerOptions = Partial<Pick<Call, 'events' | 'client'>> & { readonly errors?: ErrorStyle };

/**
 * Carries one request out. Never throws or rejects: whatever goes wrong is an answer.
 * @param descriptors that came with it
 * @param events for those who listen
 */
export function answerRequest(
  vmm: ApiVmm,
  request: HttpRequest,
  descriptors: Descriptors,
  { events, errors = referenceErrors, client = {} }: AnswerOptions = {},
): Answer | Promise<Answer> {
  const answerError = (error: unknown) => withoutBodyForHead(request, errors.answer(requestErrorOf(error)));
  try {
    const { endpoint, query } = findEndpoint(request.path);
    checkRequest(endpoint, request);
    const json = typeof endpoint.body === 'object' ? readJson(decodeText(request.body)) : undefined;
    const { lastEventId } = request;
    const answer = endpoint.handle({ vmm, descriptors, events, query, client, lastEventId, json });
    return answer instanceof Promise ? answer.catch(answerError) : answer;
  } catch (error) {
    return answerError(error);
  }
}

/** @throws RequestError */
function checkRequest(endpoint: Endpoint, { method, body }: HttpRequest): void {
  if (method !== endpoint.method) {
    const silent = endpoint.silent && method !== 'GET' && method !== 'PUT';
    throw new RequestError('method', { allow: endpoint.method, ...(silent && { silent }) });
  }
  if (endpoint.body === 'refused' && body.length > 0) throw new RequestError('unexpected-body');
  if (typeof endpoint.body === 'object' && body.length === 0) {
    throw new RequestError('missing-body', { silent: endpoint.body === vmConfig });
  }
}

/** @throws RequestError if there is none */
function findEndpoint(path: string): { readonly endpoint: Endpoint; readonly query: string } {
  if (path === METRICS_PATH) return { endpoint: metricsEndpoint, query: '' };
  const [name = '', ...queries] = path.startsWith(PREFIX) ? path.slice(PREFIX.length).split('?') : [];
  const endpoint = Object.hasOwn(endpoints, name) ? endpoints[name] : undefined;
  if (endpoint === undefined || queries.length > (endpoint.query ? 1 : 0)) throw new RequestError('path');
  return { endpoint, query: queries[0] ?? '' };
}

function decodeText(body: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    throw new JsonError('invalid unicode code point');
  }
}

/** What a handler threw because of the body is the request's fault. */
function requestErrorOf(error: unknown): unknown {
  const isBody = error instanceof JsonError || (error instanceof ConfigError && error.kind === 'malformed');
  return isBody ? new RequestError('json', { detail: error.message }) : error;
}

/** RFC 9110 §9.3.2. */
function withoutBodyForHead({ method }: HttpRequest, answer: Answer): Answer {
  return method === 'HEAD' ? { ...answer, body: '' } : answer;
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
  const { countedMachine: machine, machineMemory: bytes } = vmm;
  const isLive = machine && bytes !== undefined && memoryVaries(value.config);
  const memory = isLive && { machine, bytes, info: value };
  return { ...jsonAnswer(value), lasting: true, ...(memory && { memory }) };
}

function counters({ vmm }: Call): Answer {
  const values = vmm.counters();
  const machine = vmm.countedMachine;
  return { ...jsonAnswer(values), lasting: true, ...(machine && { counters: { machine, values } }) };
}

function create({ vmm, json }: Call): Promise<Answer> {
  const fields = (json ?? {}) as Readonly<Record<string, unknown>>;
  for (const { field, addition } of deviceRecords) {
    const devices = fields[field];
    if (!addition?.descriptors || !Array.isArray(devices)) continue;
    for (const one of devices) dropDescriptorNumbers(one, addition.descriptors.field);
  }
  return vmm.create(decode(vmConfig, json)).then(() => noContent);
}
