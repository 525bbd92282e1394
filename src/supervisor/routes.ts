/** The table of the supervisor's API: a new call is an entry here. */
import { ConfigError } from '../config/configError.ts';
import { decode } from '../config/decode.ts';
import type { Infer } from '../config/schema.ts';
import { packageVersion } from '../vmm/version.ts';
import { vmDefinition, vmRedefinition } from './definition.ts';
import { forwardToVm } from './forward.ts';
import { metricsText } from './metrics.ts';
import { type Route, type RouteRequest, vmOf } from './route.ts';
import { allStats, vmStats } from './stats.ts';
import { streamEvents, streamLog } from './streams.ts';

const stopRequest = {
  type: 'object',
  name: 'StopRequest',
  strict: true,
  fields: {
    timeout_seconds: {
      type: 'integer',
      max: 86_400,
      help: "Until the VM is ended by force; the policy's unless given",
    },
    force: { type: 'boolean', default: false, help: 'End it at once' },
  },
} as const;

type StopRequest = Infer<typeof stopRequest>;

const startRequest = {
  type: 'object',
  name: 'StartRequest',
  strict: true,
  fields: {
    paused: { type: 'boolean', default: false, help: "The guest's first instruction waits for vm.resume" },
  },
} as const;

type StartRequest = Infer<typeof startRequest>;

export const routes: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/ping',
    id: 'ping',
    answer: 'Ping',
    help: 'Version and process of the supervisor',
    handle: () => ({ json: { version: packageVersion, pid: process.pid } }),
  },
  {
    method: 'GET',
    path: '/v1/vms',
    help: 'All VMs',
    id: 'listVms',
    answer: 'Vms',
    handle: ({ supervisor }) => ({ json: supervisor.list() }),
  },
  {
    method: 'POST',
    path: '/v1/vms',
    help: 'Define a VM: { name, config, policy }',
    id: 'defineVm',
    body: vmDefinition,
    answer: 'Vm',
    handle: async ({ supervisor, body }) => ({ status: 201, json: supervisor.define(await body()) }),
  },
  {
    method: 'GET',
    path: '/v1/vms/*',
    help: 'One VM',
    id: 'vm',
    answer: 'Vm',
    handle: ({ supervisor, parameters }) => ({ json: vmOf(supervisor, parameters).describe() }),
  },
  {
    method: 'PUT',
    path: '/v1/vms/*',
    help: 'Replace a definition; it takes effect when the VM starts the next time',
    id: 'redefineVm',
    body: vmRedefinition,
    answer: 'Vm',
    handle: async ({ supervisor, parameters, body }) => ({
      json: supervisor.redefine(parameters[0] as string, await body()),
    }),
  },
  {
    method: 'DELETE',
    path: '/v1/vms/*',
    help: 'Remove a VM and its folder; ?force=true ends it first',
    id: 'removeVm',
    query: { force: 'true: end it first' },
    handle: async ({ supervisor, parameters, url }) => {
      await supervisor.remove(parameters[0] as string, url.searchParams.get('force') === 'true');
      return {};
    },
  },
  {
    method: 'POST',
    path: '/v1/vms/*/start',
    help: 'Start a VM: { paused }; answered when its guest runs, or could',
    id: 'startVm',
    body: startRequest,
    handle: async ({ supervisor, parameters, body }) => {
      const request: StartRequest = decode(startRequest, (await body()) ?? {});
      await vmOf(supervisor, parameters).start(request);
      return {};
    },
  },
  {
    method: 'POST',
    path: '/v1/vms/*/stop',
    help: 'Stop a VM: { timeout_seconds, force }; answered when it is gone',
    id: 'stopVm',
    body: stopRequest,
    handle: async (call) => {
      const { vm, seconds, force } = await stopOf(call);
      await vm.stop(seconds, force);
      return {};
    },
  },
  {
    method: 'POST',
    path: '/v1/vms/*/restart',
    help: 'Stop and start a VM',
    id: 'restartVm',
    body: stopRequest,
    handle: async (call) => {
      const { vm, seconds, force } = await stopOf(call);
      await vm.restart(seconds, force);
      return {};
    },
  },
  {
    method: 'GET',
    path: '/v1/vms/*/log',
    help: 'What the guest printed, or the log of its process',
    id: 'vmLog',
    query: {
      file: 'serial or vmhost',
      tail: 'So many of the last lines, or all',
      follow: 'true: go on with what comes',
    },
    answer: 'text/plain',
    handle: streamLog,
  },
  {
    method: 'GET',
    path: '/v1/vms/*/stats',
    help: "Processor time and memory of the VM's process, and its devices' counters",
    id: 'vmStats',
    answer: 'Stats',
    handle: async ({ supervisor, parameters }) => ({ json: await vmStats(vmOf(supervisor, parameters)) }),
  },
  {
    method: 'GET',
    path: '/v1/stats',
    help: 'Processor time and memory of the processes of all VMs that run',
    id: 'allStats',
    answer: 'AllStats',
    handle: ({ supervisor }) => ({ json: allStats(supervisor) }),
  },
  {
    method: '*',
    path: '/v1/vms/*/api/**',
    help: "The VM's own REST API, below it",
    id: 'vmApi',
    handle: forwardToVm,
  },
  {
    method: 'GET',
    path: '/v1/events',
    help: 'Events of all VMs as Server-Sent Events',
    id: 'events',
    query: { after: 'Begin after the event with this id, as far as events are kept' },
    answer: 'text/event-stream',
    handle: streamEvents,
  },
  {
    method: 'GET',
    path: '/v1/openapi.json',
    help: 'This description',
    id: 'openApi',
    answer: 'OpenApiDocument',
    handle: async () => ({ json: (await import('./openApi.ts')).supervisorOpenApi() }),
  },
  {
    method: 'GET',
    path: '/metrics',
    help: "All VMs in Prometheus' text format",
    id: 'metrics',
    answer: 'text/plain',
    handle: async ({ supervisor, response }) => {
      const text = await metricsText(supervisor);
      response.writeHead(200, { 'Content-Type': 'text/plain; version=0.0.4' }).end(text);
      return undefined;
    },
  },
];

export function findRoute(
  method: string,
  path: string,
): { readonly route: Route; readonly parameters: readonly string[] } | undefined {
  const parts = path.split('/');
  for (const route of routes) {
    if (route.method !== '*' && route.method !== method) continue;
    const parameters = match(route.path.split('/'), parts);
    if (parameters) return { route, parameters };
  }
  return undefined;
}

function match(pattern: readonly string[], parts: readonly string[]): string[] | undefined {
  const parameters: string[] = [];
  for (const [index, expected] of pattern.entries()) {
    if (expected === '**') return [...parameters, parts.slice(index).join('/')];
    const part = parts[index];
    if (part === undefined || (expected !== '*' && expected !== part)) return undefined;
    if (expected === '*') parameters.push(decodePart(part));
  }
  return parts.length === pattern.length ? parameters : undefined;
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new ConfigError('malformed', `The path has "${part}", which is not encoded as a URL's`);
  }
}

/** Which VM is to be stopped, and how. */
async function stopOf({ supervisor, parameters, body }: RouteRequest) {
  const vm = vmOf(supervisor, parameters);
  const { timeout_seconds, force }: StopRequest = decode(stopRequest, (await body()) ?? {});
  return { vm, seconds: timeout_seconds ?? (force ? 0 : vm.stopTimeout), force };
}
