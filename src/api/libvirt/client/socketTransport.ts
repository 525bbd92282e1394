/** UNIX sockets, and TCP without encryption. */
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { Code, Domain, LibvirtError } from '../libvirtError.ts';
import type { Transport, TransportContext } from './transport.ts';
import { type LibvirtUri, localSocket } from './uri.ts';

const TCP_PORT = 16_509;

export async function openSocket(uri: LibvirtUri, context: TransportContext): Promise<Transport> {
  const local = uri.transport === 'unix';
  const path = localSocket(uri, context.readOnly, context.environment);
  const { host = '', port = TCP_PORT } = uri;
  const socket = local
    ? await connected({ path }, `socket to '${path}'`, context.signal)
    : await connected(
        { host: host || 'localhost', port, noDelay: true },
        `'${host}:${port}'`,
        context.signal,
      );
  return socketTransport(socket, local);
}

export function socketTransport(socket: Socket, secure: boolean): Transport {
  let failure: string | undefined;
  socket.on('error', (error) => {
    failure = error.message;
  });
  return {
    input: socket,
    output: socket,
    secure,
    reason: async () => failure,
    close: () => socket.destroy(),
  };
}

/** @param what the sentence says was tried */
export function connected(options: NetConnectOpts, what: string, signal: AbortSignal): Promise<Socket> {
  return opened(connect(options), 'connect', `Failed to connect ${what}`, signal);
}

/** Waits until a socket is ready. @throws LibvirtError that begins with `failed`, or the signal's reason */
export function opened<S extends Socket>(
  socket: S,
  event: 'connect' | 'secureConnect',
  failed: string,
  signal: AbortSignal,
): Promise<S> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      signal.removeEventListener('abort', abort);
      socket.off('error', fail).off('close', closed);
    };
    const end = (error: unknown) => {
      settle();
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    };
    const abort = () => end(signal.reason);
    const fail = (error: Error) => {
      end(new LibvirtError(Code.systemError, Domain.rpc, `${failed}: ${error.message}`));
    };
    const closed = () => fail(new Error('the connection was closed'));
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort);
    socket.once('error', fail).once('close', closed);
    socket.once(event, () => {
      settle();
      resolve(socket);
    });
  });
}
