/** A TLS port for clients with a certificate of our own authority only. */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureVersion, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import { MAX_PORT } from '../../config/limits.ts';
import { readSmallFile } from '../../host/regularFile.ts';
import { describeError } from '../../vmm/errors.ts';

export interface TlsAddress {
  readonly host: string;
  readonly port: number;
}

export interface MutualTlsOptions {
  /** Has `cacert.pem`, `servercert.pem`, `serverkey.pem` and, if there is one, `cacrl.pem`. */
  readonly folder: string;
  /**
   * Patterns of subjects, with `*` and `?`, of which a client's has to match one; without any, every client of the
   * authority may come.
   */
  readonly allowedSubjects: readonly string[];
}

/** What the protocol above TLS has to do with it. */
interface TlsProtocol {
  /** 1.3 unless given. */
  readonly maxVersion?: SecureVersion;
  /**
   * A client that is not admitted is told by `refuse`, in the protocol's own words, whatever is wrong with its
   * certificate; else its handshake fails.
   */
  readonly refusesItself?: boolean;
  /** A client that has said everything is still answered; its connection is the protocol's to end. */
  readonly halfOpen?: boolean;
}

export interface MutualTlsServer {
  readonly server: Server;
  /**
   * Reads the certificates anew, for clients that come from now on.
   * @throws Error if they cannot be used: those from before are
   */
  reload(): void;
}

export interface Reception {
  /** Gets each client that was admitted. */
  accept(socket: TLSSocket): void;
  /** Sends a refusal to one that is not admitted. */
  refuse(socket: TLSSocket): void;
  /** Gets which clients were not admitted, and why. */
  warn(message: string): void;
}

/** How long a handshake may take, and how many may be going on: the oldest makes room for the next. */
export const HANDSHAKE_MS = 10_000;
const MAX_HANDSHAKES = 128;
/** Between lines about clients that were refused. */
const REFUSALS_MS = 1_000;

/**
 * A server that does not listen yet.
 * @throws Error if a certificate or key cannot be used
 */
export function createMutualTlsServer(
  options: Options,
  { accept, refuse, warn }: Reception,
): MutualTlsServer {
  const handshakes = new Handshakes();
  const refused = refusals(warn);
  const admit = (socket: TLSSocket) => {
    handshakes.done(socket);
    const reason = checkPeer(socket, options.allowedSubjects);
    if (reason === undefined) return accept(socket);
    refused(socket, reason);
    refuse(socket);
  };
  const server = createTls(options, admit);
  server.on('connection', (socket: Socket) => handshakes.begin(socket));
  server.on('tlsClientError', (error, socket) => {
    refused(socket, describeError(error).trim());
    socket.destroy();
  });
  const reload = () => usable(options, () => server.setSecureContext(contextOf(options)));
  return { server, reload };
}

/** Why a client is not admitted. */
function checkPeer(socket: TLSSocket, allowedSubjects: readonly string[]): string | undefined {
  // To the runtimes a client without one may be authorized: with TLS 1.3, if it takes up a session again.
  if (socket.getPeerX509Certificate() === undefined) return 'it has no certificate';
  if (!socket.authorized) return `its certificate is not accepted (${socket.authorizationError})`;
  const subject = subjectOf(socket);
  if (allowedSubjects.length === 0 || allowedSubjects.some((pattern) => matches(pattern, subject)))
    return undefined;
  return `its subject is ${subject}, which is not on the list`;
}

/** The socket of a handshake, and the one that is there when it is done, have only their peer in common. */
class Handshakes {
  readonly #byPeer = new Map<string, Socket>();

  begin(socket: Socket): void {
    const peer = peerOf(socket);
    this.#byPeer.set(peer, socket);
    socket.once('close', () => {
      if (this.#byPeer.get(peer) === socket) this.#byPeer.delete(peer);
    });
    for (const [oldest, abandoned] of this.#byPeer) {
      if (this.#byPeer.size <= MAX_HANDSHAKES) break;
      this.#byPeer.delete(oldest);
      abandoned.destroy();
    }
  }

  done(socket: Socket): void {
    this.#byPeer.delete(peerOf(socket));
  }
}

/** Refusals are reported once a second at most: anyone who reaches the port can cause any number of them. */
function refusals(warn: (message: string) => void): (socket: Socket, reason: string) => void {
  let untold = 0;
  let last = Number.NEGATIVE_INFINITY;
  return (socket, reason) => {
    const now = performance.now();
    if (now - last < REFUSALS_MS) return void untold++;
    const others = untold === 0 ? '' : ` (and ${untold} others before it)`;
    warn(`the TLS client ${peerOf(socket)} was refused: ${reason}${others}`);
    last = now;
    untold = 0;
  };
}

type Options = MutualTlsOptions & TlsProtocol;

/** Bun takes all of it anew with new certificates, Node.js what concerns them. */
function contextOf({ folder, maxVersion, refusesItself = false }: Options): TlsOptions {
  return {
    ca: readSmallFile(`${folder}/cacert.pem`),
    cert: readSmallFile(`${folder}/servercert.pem`),
    key: readSmallFile(`${folder}/serverkey.pem`),
    ...readRevoked(`${folder}/cacrl.pem`),
    requestCert: true,
    rejectUnauthorized: !refusesItself,
    minVersion: 'TLSv1.2',
    ...(maxVersion && { maxVersion }),
    // What a certificate was worth when a session began says nothing of what it is worth now.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

function createTls(options: Options, admit: (socket: TLSSocket) => void): Server {
  const { halfOpen: allowHalfOpen = false } = options;
  const context = { ...contextOf(options), handshakeTimeout: HANDSHAKE_MS, allowHalfOpen };
  return usable(options, () => createServer(context, admit));
}

function usable<T>({ folder }: Options, use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw new Error(`The certificates in ${folder} cannot be used: ${describeError(error)}`);
  }
}

function readRevoked(path: string): { crl?: Buffer } {
  try {
    return { crl: readSmallFile(path) };
  } catch (error) {
    // A list that is there and cannot be read is no reason to admit every client.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress}:${remotePort}`;
}

/** As libvirt's own tools show it (`virt-pki-query-dn`), such as `C=DE,O=Example\, Inc,CN=alice`. */
function subjectOf(socket: TLSSocket): string {
  const lines = socket.getPeerX509Certificate()?.subject.split('\n') ?? [];
  return lines.map((line) => line.replace(/^emailAddress=/, 'EMAIL=')).join(',');
}

/** Shell patterns as g_pattern_match_simple() has them: `*` is any text, `?` one character. */
export function matches(pattern: string, text: string): boolean {
  let [at, star, from] = [0, -1, 0];
  for (let i = 0; i < text.length; ) {
    if (pattern[at] === '*') {
      [star, from] = [at++, i];
    } else if (pattern[at] === '?' || (at < pattern.length && pattern[at] === text[i])) {
      at++;
      i++;
    } else if (star >= 0) {
      // The last star takes one character more.
      [at, i] = [star + 1, ++from];
    } else {
      return false;
    }
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}

/**
 * @param text `ADDRESS:PORT` or `[IPV6]:PORT`
 * @param defaultPort with it the port may be left out
 * @returns undefined if it is none of these
 */
export function parseListenAddress(text: string, defaultPort = Number.NaN): TlsAddress | undefined {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const port = Number(found?.[3] ?? defaultPort);
  if (!found || !(port <= MAX_PORT)) return undefined;
  return { host: (found[1] ?? found[2]) as string, port };
}
