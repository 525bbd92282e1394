/**
 * Connections that last as long as a VM and say next to nothing, like those between a supervisor and its VMs'
 * processes. While Bun has a socket of its own open, whatever that does, it wakes up every second for the date of HTTP
 * answers and every four seconds for time-outs (uSockets' sweep timer): so on Bun the core keeps these.
 */
import { loadNative, type NativeAddon } from '../native.ts';
import { bun } from './bun.ts';
import { CoreStreams } from './coreStreams.ts';
import type { Accept, StreamListener } from './listen.ts';
import { adoptOnNode, connectOnNode, listenOnNode } from './listenNode.ts';
import { connectWithin } from './unixClient.ts';

/** Connections at once, where the caller has no limit of its own. */
const ANY_NUMBER = 65_536;

let streams: CoreStreams | undefined;

/** One thread of the core for all of them, but for a second listener's. */
function coreStreams(): CoreStreams {
  streams ??= new CoreStreams(loadNative());
  return streams;
}

function listenInCore(fd: number, accept: Accept): StreamListener {
  const shared = coreStreams();
  return (shared.listens ? new CoreStreams(loadNative()) : shared).listen(fd, ANY_NUMBER, accept);
}

/** @param listen makes the socket; says who closes its descriptor @throws Error if it cannot be listened on */
export async function listenQuietly(
  listen: (closer: 'caller' | 'runtime') => number,
  accept: Accept,
): Promise<StreamListener> {
  if (bun) return listenInCore(listen('caller'), accept);
  return listenOnNode(listen('runtime'), accept);
}

/** @throws Error why the socket is not served */
export async function connectQuietly(path: string, deadline: number, accept: Accept): Promise<void> {
  if (bun) {
    const native = loadNative();
    return coreStreams().adopt(await connectWithin(native, path, { deadline }), accept);
  }
  connectOnNode(path, accept);
}

/** @param fd of a connected socket, which is the connection's from then on */
export async function adoptQuietly(
  sockets: Pick<NativeAddon, 'disownFile'>,
  fd: number,
  accept: Accept,
): Promise<void> {
  if (bun) return coreStreams().adopt(fd, accept);
  sockets.disownFile(fd);
  adoptOnNode(fd, accept);
}
