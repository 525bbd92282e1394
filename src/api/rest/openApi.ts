/** The API's OpenAPI document, written from the endpoints and the schema. Loaded only when asked for. */
import {
  collectSchemas,
  type Json,
  jsonContent,
  objectSchema,
  reference,
} from '../../config/openApiSchemas.ts';
import { vmConfig } from '../../config/vmConfig.ts';
import { API_VERSION } from '../../vmm/version.ts';
import { listEndpoints } from './endpoints.ts';
import { codeStatuses, PROBLEM_TYPE } from './strictErrors.ts';

/** Answers that are no configuration: their fields are few and written by hand where they are made. */
const answers: Readonly<Record<string, Json>> = {
  VmmPingResponse: objectSchema({
    build_version: { type: 'string' },
    version: { type: 'string' },
    pid: { type: 'integer', format: 'int64' },
    features: { type: 'array', items: { type: 'string' } },
  }),
  VmInfo: objectSchema({
    config: reference(vmConfig.name),
    state: { type: 'string', enum: ['Created', 'Running', 'BreakPoint', 'Paused'] },
    memory_actual_size: { type: 'integer', format: 'uint64' },
    memory_requested_size: {
      type: 'integer',
      format: 'uint64',
      description: 'Bytes that the guest is asked to have, where devices give it memory or take some',
    },
    pending_vcpus: reference('PendingVcpus'),
    pending_devices: {
      type: 'object',
      additionalProperties: { type: 'array', items: { type: 'object' } },
      description:
        'Devices that the guest was asked to give up and has still, by their field in the configuration',
    },
    device_tree: { type: 'object', additionalProperties: reference('DeviceNode') },
  }),
  DeviceNode: objectSchema({
    id: { type: 'string' },
    resources: { type: 'array', items: { type: 'object' } },
    parent: { type: 'string' },
    children: { type: 'array', items: { type: 'string' } },
    pci_bdf: { type: 'string' },
    pending_removal: {
      type: 'boolean',
      description: 'Whether the guest was asked to give the device up, and has not',
    },
  }),
  PendingVcpus: objectSchema({
    starting: {
      type: 'array',
      items: { type: 'integer' },
      description: 'vCPUs that were added, and that the guest has not started',
    },
    leaving: {
      type: 'array',
      items: { type: 'integer' },
      description: 'vCPUs that the guest was asked to give up, and has not',
    },
  }),
  PciDeviceInfo: objectSchema({ id: { type: 'string' }, bdf: { type: 'string' } }),
  VmCounters: {
    type: 'object',
    additionalProperties: { type: 'object', additionalProperties: { type: 'integer', format: 'uint64' } },
  },
  OpenApiDocument: { type: 'object', description: 'OpenAPI 3.0' },
  Error: { type: 'array', items: { type: 'string' }, description: 'Outermost message first' },
  Problem: {
    ...objectSchema({
      title: { type: 'string', description: 'What could not be done' },
      status: { type: 'integer' },
      code: { type: 'string', description: describeCodes() },
      detail: { type: 'string', description: 'Why' },
    }),
    required: ['title', 'status', 'code'],
    description: 'What the command gives with --api-strict for an error (RFC 9457)',
  },
};

/** What any operation may answer. */
const FAILURE: Json = {
  description: 'Failure',
  content: { ...jsonContent(reference('Error')), [PROBLEM_TYPE]: { schema: reference('Problem') } },
};

const answerOf: Readonly<Record<string, string>> = {
  'openapi.json': 'OpenApiDocument',
  'vmm.ping': 'VmmPingResponse',
  'vm.info': 'VmInfo',
  'vm.counters': 'VmCounters',
};

export function openApiDocument(): Json {
  const schemas: Json = {};
  for (const { body } of listEndpoints()) if (body) collectSchemas(body, schemas);
  return {
    openapi: '3.0.3',
    info: { title: 'tsvmm', version: API_VERSION },
    servers: [{ url: 'http://localhost' }],
    paths: Object.fromEntries(listEndpoints().map(describeEndpoint)),
    components: { schemas: { ...schemas, ...answers } },
  };
}

const METRICS: Json = {
  operationId: 'metrics',
  description: 'What the VM and the process count, for Prometheus',
  responses: {
    200: { description: 'Text format 0.0.4', content: { 'text/plain': { schema: { type: 'string' } } } },
  },
};

const EVENTS: Json = {
  operationId: 'vm.events',
  description:
    'Events as the event monitor writes them, each with an id, until the client or the VMM goes away',
  parameters: [
    {
      name: 'after',
      in: 'query',
      description:
        'Begin after the event with this id, as far as events are kept; with the next event unless given',
      schema: { type: 'integer', format: 'int64', minimum: 0, maximum: 999_999_999_999_999 },
    },
  ],
  responses: {
    200: {
      description: 'Server-Sent Events',
      content: { 'text/event-stream': { schema: { type: 'string' } } },
    },
    default: FAILURE,
  },
};

function describeEndpoint({ path, method, body }: ReturnType<typeof listEndpoints>[number]): [string, Json] {
  const name = path.slice(path.lastIndexOf('/') + 1);
  for (const special of [EVENTS, METRICS]) {
    if (name === special.operationId) return [path, { get: special }];
  }
  const answer = name.startsWith('vm.add-') ? 'PciDeviceInfo' : answerOf[name];
  const operation: Json = {
    operationId: name,
    ...(body && { requestBody: { required: true, content: jsonContent(reference(body.name)) } }),
    responses: {
      ...(answer && { 200: { description: 'Success', content: jsonContent(reference(answer)) } }),
      ...(answer === 'PciDeviceInfo' && { 204: { description: 'Added to a VM that is only configured' } }),
      ...(!answer && { [name === 'vmm.shutdown' ? 200 : 204]: { description: 'Success' } }),
      default: FAILURE,
    },
  };
  return [path, { [method.toLowerCase()]: operation }];
}

function describeCodes(): string {
  const codes = codeStatuses().map(([code, statuses]) => `${code} (${statuses.join(', ')})`);
  return `With the statuses that each comes with: ${codes.join(', ')}; any other with 422`;
}
