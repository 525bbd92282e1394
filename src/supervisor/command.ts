/** `tsvmmd`: the supervisor as a process. */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { claimSocket } from '../api/rest/socketClaim.ts';
import { UsageError } from '../cli/usageError.ts';
import { keepIgnoredSignals, onSignal } from '../host/signals.ts';
import { loadNative } from '../native.ts';
import { createApiServer } from './httpApi.ts';
import { findLauncher } from './launcher.ts';
import { type Places, supervisorPlaces } from './places.ts';
import { Supervisor } from './supervisor.ts';

const DEFAULT_POOL = 1;
const MAX_POOL = 64;

const HELP = `Usage: tsvmmd [--dir DIR] [--pool N] [--stop-vms]

Runs VMs, each as a process of its own, and looks after them. Definitions, logs and sockets are below DIR, or
$TSVMM_DIR; without either, below /var/lib/tsvmm and /run/tsvmm for root, and $XDG_STATE_HOME/tsvmm and $XDG_RUNTIME_DIR/tsvmm for others.
Programs talk to tsvmmd.sock (JSON over HTTP), people use: tsvmm run, ps, start, stop, rm, logs, events, ...

  --dir DIR     keep everything below DIR ($TSVMM_DIR)
  --pool N      processes that are kept ready for VMs that start (${DEFAULT_POOL}, at most ${MAX_POOL})
  --stop-vms    at SIGTERM end the VMs in order; without it they live on, and the next tsvmmd finds them
  --help        print this help
`;

/** @param args behind the program's name @returns the exit code @throws UsageError, VmmError */
export async function supervisorCommand(args: readonly string[]): Promise<number> {
  const options = parse(args);
  if (options === undefined) {
    process.stdout.write(HELP);
    return 0;
  }
  process.umask(0o077);
  const places = supervisorPlaces(options.dir, process.env);
  for (const folder of [places.root, dirname(places.apiSocket)])
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  // Also what makes this the only supervisor of its folder.
  const claim = claimSocket(loadNative(), { path: places.apiSocket });
  process.on('exit', () => {
    // First, because the claim is what keeps the next process from the path.
    rmSync(places.apiSocket, { force: true });
    claim.release();
  });
  return runSupervisor(places, options);
}

interface SupervisorCommandOptions {
  readonly dir: string | undefined;
  readonly pool: number;
  readonly stopVms: boolean;
}

async function runSupervisor(places: Places, { pool, stopVms }: SupervisorCommandOptions): Promise<number> {
  const say = (message: string) => void process.stderr.write(`tsvmmd: ${message}\n`);
  const supervisor = new Supervisor({ places, launcher: findLauncher(), poolSize: pool, warn: say });
  const asked = new Promise<void>((resolve) => {
    keepIgnoredSignals();
    onSignal('SIGTERM', resolve);
    onSignal('SIGINT', resolve);
  });
  await supervisor.open();
  const server = createApiServer(supervisor);
  await listenAt(server, places.apiSocket);
  const { serveLibvirt } = await import('../api/libvirt/server.ts');
  const libvirt = await serveLibvirt(supervisor, dirname(places.apiSocket));
  say(`serving ${places.apiSocket}`);
  await asked;
  server.close();
  libvirt.close();
  if (stopVms) await supervisor.stopAll();
  supervisor.close();
  server.closeAllConnections();
  return 0;
}

/**
 * By its path, because Bun's HTTP server takes no descriptor. The path is this process's by its claim, in a folder that is the
 * user's alone.
 */
async function listenAt(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
}

/** Undefined if help is asked for. */
function parse(args: readonly string[]): SupervisorCommandOptions | undefined {
  let values: { dir?: string; pool?: string; 'stop-vms'?: boolean; help?: boolean };
  try {
    const options = {
      dir: { type: 'string' },
      pool: { type: 'string' },
      'stop-vms': { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    } as const;
    ({ values } = parseArgs({ args: [...args], options }));
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (values.help) return undefined;
  const pool = Number(values.pool ?? DEFAULT_POOL);
  if (!Number.isInteger(pool) || pool < 0 || pool > MAX_POOL) {
    throw new UsageError(`--pool ${values.pool} is no number from 0 to ${MAX_POOL}`);
  }
  return { dir: values.dir, pool, stopVms: values['stop-vms'] ?? false };
}
