/** Finds out why a port was closed: its guest reboots, another client has it, or it is gone. */
import { stat } from 'node:fs/promises';
import { sleep } from '../../host/sleep.ts';
import { socketIdentity } from '../../host/socketIdentity.ts';
import { loadNative } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import type { GuestPort } from './guestPort.ts';
import { type ConsoleTarget, locatePort } from './target.ts';

const INTERVAL_MS = 100;
/** How long a guest may take to have its port again. */
const REBOOT_MS = 10_000;
/** The same where it cannot be found out whether the VM is still there. */
const ALONE_MS = 2_000;
/** A socket that is still the same one after this has closed our connection alone. */
const SAME_MS = 1_000;

export type Fate =
  /** It is there again. */
  | { readonly port: GuestPort }
  /** The socket goes on without us. */
  | 'taken'
  | 'gone';

/** Of the port, to be told from a later one; undefined if it has none. */
export async function identityOf({ kind, path }: GuestPort): Promise<string | undefined> {
  return kind === 'pty' ? undefined : socketIdentity(path);
}

/** @param identity of the port when it was attached to */
export async function fateOf(
  target: ConsoleTarget,
  last: GuestPort,
  identity: string | undefined,
): Promise<Fate> {
  const start = performance.now();
  const limit = target.kind === 'api' ? REBOOT_MS : ALONE_MS;
  for (let since = 0; since < limit; since = performance.now() - start) {
    await sleep(INTERVAL_MS);
    const port = await again(target);
    if (port === 'gone') return 'gone';
    if (port === undefined) continue;
    if (port.kind === 'pty') {
      if (await isThere(port.path)) return { port };
      continue;
    }
    const now = await identityOf(port);
    if (now === undefined) continue;
    if (now !== identity || port.path !== last.path) return { port };
    if (since >= SAME_MS && isServed(port.path)) return 'taken';
  }
  return 'gone';
}

/** Undefined if it may come back. */
async function again(target: ConsoleTarget): Promise<GuestPort | 'gone' | undefined> {
  try {
    // A pseudo terminal by itself has no second life.
    return target.kind === 'pty' ? 'gone' : await locatePort(target);
  } catch (error) {
    if (!(error instanceof VmmError)) throw error;
    return error.code === 'ENOENT' || error.code === 'ECONNREFUSED' ? 'gone' : undefined;
  }
}

/** A process that was killed leaves its socket behind. */
function isServed(path: string): boolean {
  try {
    loadNative().closeFile(loadNative().connectUnix(path, true));
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EAGAIN';
  }
}

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
