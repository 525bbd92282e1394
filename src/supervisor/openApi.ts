/** The supervisor's OpenAPI document, written from its routes and the schemas. Loaded only when asked for. */
import { collectSchemas, type Json, jsonContent, objectSchema, reference } from '../config/openApiSchemas.ts';
import { vmConfig } from '../config/vmConfig.ts';
import { packageVersion } from '../vmm/version.ts';
import { vmPolicy } from './definition.ts';
import type { AnswerKind, Route } from './route.ts';
import { routes } from './routes.ts';
import { type LastExit, VM_STATES } from './vmState.ts';

const text = { type: 'string' };
const integer = { type: 'integer', format: 'int64' };
/** All there are, as the compiler sees to. */
const exitReasons: Readonly<Record<LastExit['reason'], true>> = {
  'power-off': true,
  request: true,
  'vcpu-error': true,
  'reboot-failed': true,
  reset: true,
  panic: true,
  'start-failed': true,
  killed: true,
};
const lastExit = objectSchema({
  reason: { ...text, enum: Object.keys(exitReasons) },
  code: integer,
  message: text,
  incomplete: { type: 'boolean' },
});

/** In OpenAPI 3.0 nothing may stand beside a reference. */
function unlessBroken(schema: string): Json {
  return { allOf: [reference(schema)], description: 'Absent where it cannot be read: see error' };
}

/** Answers: their fields are few and written by hand where they are made. */
const answers: Readonly<Record<string, Json>> = {
  Ping: objectSchema({ version: text, pid: integer }),
  Vm: {
    ...objectSchema({
      name: text,
      state: { ...text, enum: VM_STATES },
      paused: { type: 'boolean', description: 'Its guest stands still' },
      pid: integer,
      started_at: { ...text, format: 'date-time' },
      uptime_seconds: integer,
      last_exit: { ...lastExit, description: 'How its last run ended' },
      error: { ...text, description: 'Why it could not start, does not answer, or cannot be read' },
      restarts: { ...integer, description: 'Starts in a row because it ended by itself' },
      folder: text,
      config: unlessBroken(vmConfig.name),
      policy: unlessBroken(vmPolicy.name),
    }),
    required: ['name', 'state', 'restarts', 'folder'],
  },
  Vms: { type: 'array', items: reference('Vm') },
  Stats: objectSchema({
    state: text,
    cpu_seconds: { type: 'number', description: 'Processor time of its process' },
    memory_bytes: { ...integer, description: "Memory of its process in use, the guest's included" },
    counters: { type: 'object', description: 'By device and name' },
  }),
  AllStats: {
    type: 'array',
    items: objectSchema({
      name: text,
      state: text,
      pid: integer,
      uptime_seconds: integer,
      cpu_seconds: { type: 'number' },
      memory_bytes: integer,
    }),
  },
  OpenApiDocument: { type: 'object', description: 'OpenAPI 3.0' },
  Error: { ...objectSchema({ error: text }), required: ['error'] },
};

const FAILURES: Json = Object.fromEntries(
  Object.entries({ 400: 'Not understood', 404: 'No such VM', 409: 'Not in this state', 500: 'Failed' }).map(
    ([status, description]) => [status, { description, content: jsonContent(reference('Error')) }],
  ),
);

/** Of an operation that may have any method. */
const ANY_METHODS = ['get', 'put'];

export function supervisorOpenApi(): Json {
  const schemas: Json = {};
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    if (route.body) collectSchemas(route.body, schemas);
    const path = pathOf(route);
    for (const method of route.method === '*' ? ANY_METHODS : [route.method.toLowerCase()]) {
      const id = route.method === '*' ? `${route.id}.${method}` : route.id;
      paths[path] = { ...paths[path], [method]: operation(route, id) };
    }
  }
  return {
    openapi: '3.0.3',
    info: { title: 'tsvmmd', version: packageVersion },
    servers: [{ url: 'http://localhost' }],
    paths,
    components: { schemas: { ...schemas, ...answers } },
  };
}

function pathOf({ path }: Route): string {
  return path.replace('**', '{path}').replace('*', '{name}');
}

function operation(route: Route, operationId: string): Json {
  const names = [...pathOf(route).matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string);
  const parameters = [
    ...names.map((name) => ({ name, in: 'path', required: true, schema: text })),
    ...Object.entries(route.query ?? {}).map(([name, description]) => ({
      name,
      in: 'query',
      description,
      schema: text,
    })),
  ];
  const { body, answer } = route;
  const optional = body && !Object.values(body.fields).some((field) => 'required' in field);
  return {
    operationId,
    description: route.help,
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: { required: !optional, content: jsonContent(reference(body.name)) } }),
    responses: { ...success(route, answer), ...FAILURES },
  };
}

function success({ id }: Route, answer: AnswerKind | undefined): Json {
  if (id === 'vmApi') return { default: { description: "Whatever the VM's own REST API answers" } };
  if (answer === undefined) return { 204: { description: 'Done' } };
  const content = answer.includes('/') ? { [answer]: { schema: text } } : jsonContent(reference(answer));
  return { [id === 'defineVm' ? 201 : 200]: { description: 'Success', content } };
}
