/** Opens connections. */
import type { Abortable } from '../../../host/abort.ts';
import { Code, Domain, LibvirtError } from '../libvirtError.ts';
import { Auth, Feature, KEEPALIVE, OPEN_READ_ONLY } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import { type CloseReason, LibvirtConnection } from './connection.ts';
import { afterMs } from './deadline.ts';
import { LibvirtDomain } from './domain.ts';
import { DomainEvents } from './domainEvents.ts';
import type { KeepaliveOptions } from './heartbeat.ts';
import { type CallOptions, RpcClient } from './rpcClient.ts';
import { openTransport, type Transport } from './transport.ts';
import { type LibvirtUri, parseUri } from './uri.ts';

export interface ConnectOptions extends Abortable {
  /** Only looks; changes nothing. */
  readonly readOnly?: boolean | undefined;
  /** Milliseconds until the connection has to be open, its authentication included; 30,000 unless given. */
  readonly timeoutMs?: number | undefined;
  /** Milliseconds that a call may take which has no `timeoutMs` of its own; 60,000 unless given. */
  readonly callTimeoutMs?: number | undefined;
  /** How a connection is found to be lost; every 5,000 ms, 5 times, unless given. False: not at all. */
  readonly keepalive?: KeepaliveOptions | false | undefined;
}

const CONNECT_MS = 30_000;
const CALL_MS = 60_000;
const CONNECTION_CLOSED_MESSAGE = 362;

/**
 * Connects to a daemon that speaks libvirt's protocol: `tsvmmd`, or any `libvirtd`.
 *
 * The transport is the part behind the plus: `unix` (with `?socket=PATH`, else where libvirt looks), `tls`, `ssh` (runs
 * the program), `tcp` (not encrypted) or `ext` (`?command=PROGRAM`). Without one it is `tls` where a
 * host is named, else `unix`.
 * @param uri such as `tsvmm+unix:///system?socket=PATH`, `tsvmm+tls://host/system`, `qemu+ssh://user@host/system`,
 * `test:///default`
 * @throws LibvirtError if the URI is not understood or not supported, or the daemon is not reached or refuses; the
 * signal's reason
 */
export async function connect(uri: string, options: ConnectOptions = {}): Promise<LibvirtConnection> {
  const { timeoutMs = CONNECT_MS, signal } = options;
  const target = parseUri(uri);
  const late = new AbortController();
  const stopWaiting = afterMs(timeoutMs, () => late.abort(tooLate(timeoutMs)));
  const stop = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
  try {
    stop.throwIfAborted();
    const context = { readOnly: options.readOnly === true, signal: stop, environment: process.env };
    return await open(target, await openTransport(target, context), options, stop);
  } finally {
    stopWaiting();
  }
}

async function open(
  target: LibvirtUri,
  transport: Transport,
  options: ConnectOptions,
  signal: AbortSignal,
): Promise<LibvirtConnection> {
  let dismissed = false;
  const rpc = new RpcClient(transport, {
    timeoutMs: options.callTimeoutMs ?? CALL_MS,
    onMessage: (procedure, payload) => {
      dismissed ||= procedure === CONNECTION_CLOSED_MESSAGE;
      if (dismissed) rpc.fail('the daemon has closed the connection');
      else events.hear(procedure, payload);
    },
  });
  const events = new DomainEvents(rpc, (dom) => new LibvirtDomain(rpc, dom));
  try {
    const call = { signal, timeoutMs: Number.POSITIVE_INFINITY };
    const uri = await handshake(rpc, target, options, call);
    const closed = rpc.ended.then(({ error, closed: byUs }): CloseReason => {
      return byUs ? { reason: 'client' } : { reason: dismissed ? 'daemon' : 'lost', error };
    });
    void closed.then(({ error }) => events.end(error));
    return new LibvirtConnection({ rpc, events, uri, secure: transport.secure, closed });
  } catch (error) {
    rpc.close();
    throw error;
  }
}

/** @returns the URI as the daemon knows it */
async function handshake(
  rpc: RpcClient,
  target: LibvirtUri,
  { keepalive = KEEPALIVE, readOnly }: ConnectOptions,
  call: CallOptions,
): Promise<string> {
  await authenticate(rpc, target.parameters.auth, call);
  // A daemon that is asked for it expects answers to its own questions from then on.
  if (keepalive && (await supports(rpc, Feature.keepalive, call))) rpc.startKeepalive(keepalive);
  await rpc.call(Remote.connectOpen, { name: target.name, flags: readOnly ? OPEN_READ_ONLY : 0 }, call);
  if (await supports(rpc, Feature.closeCallback, call)) {
    await rpc.call(Remote.connectRegisterCloseCallback, {}, call);
  }
  return target.name === '' ? (await rpc.call(Remote.connectGetUri, {}, call)).uri : target.name;
}

async function supports(rpc: RpcClient, feature: number, call: CallOptions): Promise<boolean> {
  try {
    return (await rpc.call(Remote.connectSupportsFeature, { feature }, call)).supported !== 0;
  } catch (error) {
    if (error instanceof LibvirtError && error.code === Code.noSupport) return false;
    throw error;
  }
}

/** By the first way that the daemon offers and that is there, or the one that the URI wants. */
async function authenticate(rpc: RpcClient, wanted: string | undefined, call: CallOptions): Promise<void> {
  const { types } = await rpc.call(Remote.authList, {}, call);
  const usable =
    wanted === undefined ? [Auth.none, Auth.polkit] : [wanted === 'polkit' ? Auth.polkit : Auth.none];
  const type = types.length === 0 ? Auth.none : types.find((each) => usable.includes(each as 0));
  if (type === Auth.polkit) await rpc.call(Remote.authPolkit, {}, call);
  if (type !== undefined) return;
  throw authFailed(
    types.includes(Auth.sasl) && wanted === undefined
      ? 'the daemon wants SASL, which is not supported'
      : `the daemon offers none of the ways to authenticate that are wanted (it has ${types.join(', ')})`,
  );
}

function authFailed(why: string): LibvirtError {
  return new LibvirtError(Code.authFailed, Domain.auth, `authentication failed: ${why}`);
}

function tooLate(timeoutMs: number): LibvirtError {
  return new LibvirtError(
    Code.operationTimeout,
    Domain.rpc,
    `Timed out during operation: the connection was not open within ${timeoutMs} ms`,
  );
}
