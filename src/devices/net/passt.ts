/**
 * User networking: a `passt` process for each network device, which needs no privileges. It is joined to the device by
 * a stream socket and ends with it, however this process ends. Loaded only for VMs that have such a device.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { sleep } from '../../host/sleep.ts';
import type { NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import type { PortForward } from './userNetwork.ts';

export interface UserNetwork {
  readonly forwards: readonly PortForward[];
  /** What the guest is told by DHCP; passt's own choice unless given. */
  readonly mtu?: number;
}

const START_SECONDS = 10;

/** Of what it says, in characters: enough for the reason why it does not start. */
const MAX_PRINTED = 4096;
/** Where programs are if nothing says so (as in environ(7)). */
const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin';

/** The passt of a VM that ended just now, or is restarting, may hold forwarded ports for some milliseconds. */
const BIND_ATTEMPTS = 25;
const BIND_RETRY_MS = 20;

/** How long after its end something of what it said may still arrive. */
const STDERR_GRACE_MS = 200;

/** The descriptor that the child finds its end of the socket at. */
const CHILD_FD = 3;

/** What passt says of itself on every host without a system log, or when root starts it. */
const NOISE = /^(Failed to send \d+ bytes to syslog|Don't run as root.*|)$/;

/**
 * Starts passt and waits until it serves.
 * @returns the descriptor of the socket to it, which is the caller's
 * @throws VmmError
 */
export async function startPasst(native: NativeAddon, network: UserNetwork): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const [ours, theirs] = native.streamPair();
    try {
      const { code, message } = await launch(passtArguments(network), theirs);
      if (code === 0) return ours;
      const occupied = network.forwards.length > 0 && /bind|in use/i.test(message);
      if (!occupied || attempt === BIND_ATTEMPTS) throw failure(network, code, message, occupied);
    } catch (error) {
      native.closeFile(ours);
      throw error;
    } finally {
      native.closeFile(theirs);
    }
    native.closeFile(ours);
    await sleep(BIND_RETRY_MS);
  }
}

/**
 * Whether the guest can reach services on the host's loopback address, at its gateway's. They are not meant for guests;
 * but without that, passt of 2023 cannot return the guest's answers to datagrams that the host itself sent.
 */
export function reachesLoopback(network: UserNetwork): boolean {
  return network.forwards.some(({ protocol }) => protocol === 'udp');
}

/** @throws nothing: what is wrong with the words, passt says */
function passtArguments(network: UserNetwork): string[] {
  const ports = network.forwards.flatMap(({ protocol, address, hostPort, guestPort }) => [
    `--${protocol}-ports`,
    `${address}/${hostPort}:${guestPort}`,
  ]);
  return [
    ...['--quiet', '--fd', String(CHILD_FD)],
    ...(reachesLoopback(network) ? [] : ['--no-map-gw']),
    ...nameServers().flatMap((address) => ['--dns', address]),
    ...(network.mtu === undefined ? [] : ['--mtu', String(network.mtu)]),
    ...ports,
  ];
}

/** It goes into the background, and its first process ends, when it is ready. */
function launch(args: readonly string[], socket: number): Promise<{ code: number; message: string }> {
  return new Promise((resolve, reject) => {
    const child: ChildProcess = spawn('passt', args, {
      stdio: ['ignore', 'ignore', 'pipe', socket],
      // It handles what guests send: nothing of ours is to be found in it, nor to change what it does.
      env: { PATH: process.env.PATH ?? DEFAULT_PATH },
    });
    let printed = '';
    const finish = (code: number | null, why?: string) => {
      clearTimeout(timer);
      child.stderr?.destroy();
      resolve({ code: code ?? -1, message: [stderrText(printed), why].filter(Boolean).join('; ') });
    };
    let timer = setTimeout(() => {
      child.kill('SIGKILL');
      // Its end is not waited for: what the host keeps it in may have none.
      child.unref();
      finish(null, `passt was not ready within ${START_SECONDS} s`);
    }, START_SECONDS * 1000);
    child.stderr?.on('data', (bytes) => {
      printed = `${printed}${bytes}`.slice(0, MAX_PRINTED);
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      reject(spawnFailure(error));
    });
    child.on('close', (code) => finish(code));
    child.on('exit', (code) => {
      // Whatever it left in the background may hold stderr open.
      clearTimeout(timer);
      timer = setTimeout(finish, STDERR_GRACE_MS, code);
    });
  });
}

function stderrText(printed: string): string {
  const lines = printed.split('\n').map((line) => line.trim());
  return lines.filter((line) => !NOISE.test(line)).join('; ');
}

function spawnFailure(error: NodeJS.ErrnoException): VmmError {
  if (error.code !== 'ENOENT') return new VmmError('Cannot run passt for user networking', { cause: error });
  return new VmmError(
    'User networking needs passt, which is not installed: Debian has it as package "passt"',
  );
}

function failure(network: UserNetwork, code: number, message: string, occupied: boolean): VmmError {
  const why = message === '' ? `passt ended with ${code < 0 ? 'a signal' : `exit code ${code}`}` : message;
  if (!occupied) return new VmmError(`The user network does not start: ${why}`);
  const ports = network.forwards.map(
    ({ protocol, address, hostPort }) => `${protocol} ${address}:${hostPort}`,
  );
  return new VmmError(`A forwarded port (${ports.join(', ')}) cannot be used: ${why}`);
}

/**
 * Name servers that the guest is to be told of where the host's own list does not help: a resolver on its loopback
 * address is out of a guest's reach, and systemd-resolved keeps the list of the real ones beside it.
 */
function nameServers(): string[] {
  const listed = nameServersIn('/etc/resolv.conf');
  if (listed.some((address) => !isLoopback(address))) return [];
  return nameServersIn('/run/systemd/resolve/resolv.conf').filter((address) => !isLoopback(address));
}

function nameServersIn(path: string): string[] {
  let text = '';
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    // No such list.
  }
  return [...text.matchAll(/^\s*nameserver\s+([0-9a-fA-F.:]+)\s*$/gm)].map((found) => String(found[1]));
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}
