/** libvirt's remote protocol: a UNIX socket to manage domains, one that may only look, and a port for TLS. */
import { chmodSync, lstatSync, mkdirSync, readlinkSync, rmSync, symlinkSync, unlinkSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { bindAtPath } from '../../supervisor/bindAtPath.ts';
import { ClientLimit, mostClients } from '../../supervisor/clientLimit.ts';
import type { Supervisor } from '../../supervisor/supervisor.ts';
import { describeError, VmmError } from '../../vmm/errors.ts';
import { claimSocketPath, type SocketPath, type Sockets } from '../../vmm/listeningSocket.ts';
import type { MutualTlsServer } from '../tls/mutualTls.ts';
import { Connection } from './connection.ts';
import { Domains } from './domains.ts';
import type { TlsOptions } from './tls.ts';

/** What clients look for with a URI of scheme `tsvmm`. */
export const SOCKET_NAME = 'virttsvmmd-sock';
const READ_ONLY_SUFFIX = '-ro';
/** Of a folder in which other daemons have their sockets. */
const EVERYBODYS = 0o755;

export interface LibvirtServer {
  /** Closes every connection and removes the sockets. */
  close(): void;
  /** Reads certificates anew. @throws Error if they cannot be used: those from before are */
  reload(): void;
}

export interface LibvirtOptions {
  readonly native: Sockets;
  /** Of both sockets. */
  readonly folder: string;
  /** Where clients look who are not told of it: it gets links to both. */
  readonly linkFolder?: string;
  /** Those that listen already, by name: they are used instead, and stay. */
  readonly sockets: ReadonlyMap<string, number>;
  readonly tls: TlsOptions | undefined;
  /** Receives human-readable warnings. */
  readonly warn: (message: string) => void;
}

interface Closable {
  close(): void;
}

/** @throws Error if a socket cannot be listened on, or the certificates cannot be used */
export async function serveLibvirt(
  supervisor: Supervisor,
  { native, folder, linkFolder, sockets, tls, warn }: LibvirtOptions,
): Promise<LibvirtServer> {
  const domains = new Domains(supervisor);
  const consoleOwners = new Map<string, () => void>();
  const connections = new Set<Socket>();
  const accept = (readOnly: boolean, name: string) => {
    // One that has opened its connection counts as at work.
    const limit = new ClientLimit<Socket>({
      most: mostClients(),
      socket: name,
      warn,
      disconnect: (socket) => socket.destroy(),
    });
    return (socket: Socket) => {
      if (!limit.add(socket)) return void socket.destroy();
      connections.add(socket);
      socket.once('close', () => {
        connections.delete(socket);
        limit.remove(socket);
      });
      new Connection(socket, { domains, readOnly, consoleOwners, opened: () => limit.busy(socket), warn });
    };
  };
  const listening: Closable[] = [];
  const close = () => {
    for (const socket of connections) socket.destroy();
    for (const each of listening) each.close();
  };
  try {
    for (const readOnly of [false, true]) {
      const name = `${SOCKET_NAME}${readOnly ? READ_ONLY_SUFFIX : ''}`;
      const fd = sockets.get(name);
      const listener =
        fd === undefined
          ? listenAt(native, `${folder}/${name}`, accept(readOnly, name))
          : listenOn(fd, accept(readOnly, name));
      listening.push(await listener);
      if (linkFolder !== undefined)
        listening.push(linkTo(`${folder}/${name}`, `${linkFolder}/${name}`, fd !== undefined, warn));
    }
    const secure = tls && (await listenWithTls(tls, accept(false, 'the TLS port'), warn));
    if (secure) listening.push(secure.server);
    return { close, reload: () => secure?.reload() };
  } catch (error) {
    close();
    throw error;
  }
}

async function listenAt(native: Sockets, path: string, accept: (socket: Socket) => void): Promise<Closable> {
  const server = createServer({ allowHalfOpen: false }, accept);
  let claim: SocketPath | undefined;
  try {
    claim = claimSocketPath(native, path);
    await bindAtPath(server, claim);
  } catch (error) {
    claim?.close();
    throw new VmmError(`Cannot listen on ${path}`, { cause: error });
  }
  const { close } = claim;
  return {
    close: () => {
      server.close();
      close();
    },
  };
}

async function listenOn(fd: number, accept: (socket: Socket) => void): Promise<Closable> {
  const server = createServer({ allowHalfOpen: false }, accept);
  await listen(server, { fd });
  return { close: () => server.close() };
}

/**
 * Clients that are told where the socket is do without it: what is in the way stays.
 * @param stays as its socket does, by which the next process is started
 */
function linkTo(path: string, link: string, stays: boolean, warn: (message: string) => void): Closable {
  const isLink = () => lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  try {
    const made = mkdirSync(dirname(link), { recursive: true });
    // The process's umask is for what is its own.
    if (made !== undefined) chmodSync(dirname(link), EVERYBODYS);
    if (isLink()) unlinkSync(link);
    symlinkSync(path, link);
  } catch (error) {
    warn(`libvirt's clients do not find it by ${link}: ${describeError(error)}`);
  }
  return {
    close: () => {
      if (!stays && isLink() && readlinkSync(link) === path) rmSync(link, { force: true });
    },
  };
}

async function listenWithTls(
  options: TlsOptions,
  accept: (socket: Socket) => void,
  warn: (message: string) => void,
): Promise<MutualTlsServer> {
  const { createTlsServer } = await import('./tls.ts');
  const secure = createTlsServer(options, accept, warn);
  const { host, port } = options;
  await listen(secure.server, { host, port });
  return secure;
}

async function listen(
  server: Server,
  where: { readonly fd: number } | { readonly host: string; readonly port: number },
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, resolve);
  });
}
