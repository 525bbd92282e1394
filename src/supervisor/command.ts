/** `tsvmmd`: the supervisor as a process. */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import type { TlsOptions } from '../api/libvirt/tls.ts';
import { claimApiPath } from '../api/rest/socketClaim.ts';
import { writeOut } from '../cli/standardOutput.ts';
import { UsageError, unparsed } from '../cli/usageError.ts';
import { listenQuietly } from '../host/quietStreams.ts';
import { keepIgnoredSignals, onSignal } from '../host/signals.ts';
import { sleep } from '../host/sleep.ts';
import { loadNative, type NativeAddon } from '../native.ts';
import { describeError, VmmError } from '../vmm/errors.ts';
import { claimSocketPath, type SocketPath } from '../vmm/listeningSocket.ts';
import { printable } from '../vmm/printable.ts';
import { createApiServer } from './httpApi.ts';
import { listenAtPath, listenOnDescriptor } from './httpListener.ts';
import { findLauncher } from './launcher.ts';
import { API_SOCKET_NAME, type Places, supervisorPlaces } from './places.ts';
import { type ServiceManager, serviceManager } from './service.ts';
import { Supervisor } from './supervisor.ts';

const DEFAULT_POOL = 1;
const MAX_POOL = 64;

const HELP = `Usage: tsvmmd [--dir DIR] [--pool N] [--stop-vms] [--listen-tls ADDRESS[:PORT]]

Runs VMs, each as a process of its own, and looks after them. Definitions, logs and sockets are below DIR, or
$TSVMM_DIR; without either, below /var/lib/tsvmm and /run/tsvmm for root, and $XDG_STATE_HOME/tsvmm and $XDG_RUNTIME_DIR/tsvmm for others.
Programs talk to tsvmmd.sock (JSON over HTTP), people use: tsvmm run, ps, start, stop, rm, logs, events, ...

  --dir DIR     keep everything below DIR ($TSVMM_DIR)
  --pool N      processes that are kept ready for VMs that start (${DEFAULT_POOL}, at most ${MAX_POOL})
  --stop-vms    at SIGTERM end the VMs in order; without it they live on, and the next tsvmmd finds them
  --openapi     print the OpenAPI document of tsvmmd.sock (GET /v1/openapi.json)
  --help        print this help

libvirt's clients come by virttsvmmd-sock and virttsvmmd-sock-ro, beside tsvmmd.sock, and with a certificate by the network:

  --listen-tls ADDRESS[:PORT]
                listen there with TLS (port 16514)
  --tls-dir DIR cacert.pem, servercert.pem, serverkey.pem and, if there is one, cacrl.pem (pki, where the definitions are);
                SIGHUP reads them anew
  --tls-allowed-dn PATTERN
                admit clients whose subject matches only, such as 'C=DE,O=Example,CN=*'; more than once for more of them
`;

/** @param args behind the program's name @returns the exit code @throws UsageError, VmmError */
export async function supervisorCommand(args: readonly string[]): Promise<number> {
  const options = await parse(args);
  if (typeof options === 'string') {
    await writeOut(options);
    return 0;
  }
  process.umask(0o077);
  const native = loadNative();
  const service = serviceManager(native, process.env, say);
  const places = supervisorPlaces(options.dir, process.env);
  for (const folder of [places.root, dirname(places.apiSocket)]) makeFolder(folder);
  const children = await claimFolder(native, places);
  process.on('exit', children.close);
  const handedOver = service.sockets.get(API_SOCKET_NAME);
  const api = handedOver ?? claimApiPath(native, places.apiSocket);
  if (typeof api !== 'number') process.on('exit', api.close);
  return runSupervisor(places, options, { native, service, children, api });
}

/** What a supervisor has before it runs. */
interface Claimed {
  readonly native: NativeAddon;
  readonly service: ServiceManager;
  /** For the processes of VMs. */
  readonly children: SocketPath;
  /** For programs: claimed, or a descriptor that listens already. */
  readonly api: SocketPath | number;
}

function say(message: string): void {
  process.stderr.write(`tsvmmd: ${printable(message)}\n`);
}

/** @throws VmmError */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    accessSync(path, constants.W_OK);
  } catch (error) {
    throw new VmmError(`Cannot keep anything in ${path}`, { cause: error });
  }
}

/**
 * A process that the one before had just forked when it was killed holds its descriptors, and so its claim, until it
 * executes its own program.
 */
const CLAIM = { ms: 2_000, retryMs: 20 };

/** Makes this the only supervisor of the folder. @throws VmmError */
async function claimFolder(native: NativeAddon, { root, childSocket }: Places): Promise<SocketPath> {
  for (let waited = 0; ; waited += CLAIM.retryMs) {
    try {
      return claimSocketPath(native, childSocket);
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_TSVMM_SOCKET_LOCKED')
        throw new VmmError(`Cannot keep anything in ${root}`, { cause: error });
      if (waited >= CLAIM.ms) throw new VmmError(`Another tsvmmd looks after ${root}`, { cause: error });
    }
    await sleep(CLAIM.retryMs);
  }
}

interface SupervisorCommandOptions {
  readonly dir: string | undefined;
  readonly pool: number;
  readonly stopVms: boolean;
  /** Its folder is absent where it is the usual one. */
  readonly tls: (Omit<TlsOptions, 'folder'> & { readonly folder: string | undefined }) | undefined;
}

async function runSupervisor(
  places: Places,
  { pool, stopVms, tls }: SupervisorCommandOptions,
  { native, service, children, api }: Claimed,
): Promise<number> {
  const supervisor = new Supervisor({
    places,
    listen: (accept) => listenQuietly(children.listen, accept),
    launcher: findLauncher(),
    poolSize: pool,
    warn: say,
  });
  const asked = new Promise<void>((resolve) => {
    keepIgnoredSignals();
    onSignal('SIGTERM', resolve);
    onSignal('SIGINT', resolve);
  });
  await supervisor.open();
  const server = createApiServer(supervisor, say);
  const listener = await (typeof api === 'number'
    ? listenOnDescriptor(server, api)
    : listenAtPath(server, api));
  const { serveLibvirt } = await import('../api/libvirt/server.ts');
  const libvirt = await serveLibvirt(supervisor, {
    native,
    folder: dirname(places.apiSocket),
    ...(places.libvirtFolder !== undefined && { linkFolder: places.libvirtFolder }),
    sockets: service.sockets,
    tls: tls && { ...tls, folder: tls.folder ?? `${places.root}/pki` },
    warn: say,
  });
  onSignal('SIGHUP', () => reload(libvirt));
  say(`serving ${places.apiSocket}`);
  service.ready();
  await asked;
  service.stopping();
  listener.close();
  libvirt.close();
  if (stopVms) await supervisor.stopAll();
  supervisor.close();
  listener.closeAllConnections();
  return 0;
}

function reload(libvirt: { reload(): void }): void {
  try {
    libvirt.reload();
    say('what was read at the start was read anew');
  } catch (error) {
    say(`nothing was read anew: ${describeError(error)}`);
  }
}

/** A text if that is all that is asked for. */
async function parse(args: readonly string[]): Promise<SupervisorCommandOptions | string> {
  const options = {
    dir: { type: 'string' },
    pool: { type: 'string' },
    'stop-vms': { type: 'boolean' },
    'listen-tls': { type: 'string' },
    'tls-dir': { type: 'string' },
    'tls-allowed-dn': { type: 'string', multiple: true },
    openapi: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  } as const;
  const values = parseWords({ args: [...args], options });
  if (values.help) return HELP;
  if (values.openapi) {
    const { supervisorOpenApi } = await import('./openApi.ts');
    const { writeJson } = await import('../api/rest/jsonWriter.ts');
    return `${writeJson(supervisorOpenApi(), '  ')}\n`;
  }
  const pool = Number(values.pool ?? DEFAULT_POOL);
  if (!Number.isInteger(pool) || pool < 0 || pool > MAX_POOL) {
    throw new UsageError(`--pool ${values.pool} is no number from 0 to ${MAX_POOL}`);
  }
  const folder = values['tls-dir'];
  const allowedSubjects = values['tls-allowed-dn'] ?? [];
  const listen = values['listen-tls'];
  if (listen === undefined && (folder !== undefined || allowedSubjects.length > 0)) {
    throw new UsageError('--tls-dir and --tls-allowed-dn say how --listen-tls is served, which is not given');
  }
  const address = listen === undefined ? undefined : await readAddress(listen);
  return {
    dir: values.dir,
    pool,
    stopVms: values['stop-vms'] ?? false,
    tls: address && { ...address, folder, allowedSubjects },
  };
}

async function readAddress(text: string): Promise<{ host: string; port: number }> {
  const { TLS_PORT } = await import('../api/libvirt/signatures/constants.ts');
  const { parseListenAddress } = await import('../api/tls/mutualTls.ts');
  const address = parseListenAddress(text, TLS_PORT);
  if (address === undefined) throw new UsageError(`--listen-tls ${text} is no ADDRESS[:PORT]`);
  return address;
}

function parseWords<T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>>['values'] {
  try {
    return parseArgs(config).values;
  } catch (error) {
    throw unparsed(error);
  }
}
