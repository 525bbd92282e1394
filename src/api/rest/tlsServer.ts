/** The REST API on a TCP port, for clients with a certificate. Loaded only when asked for. */
import type { TLSSocket } from 'node:tls';
import type { NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { createMutualTlsServer, type MutualTlsOptions, type TlsAddress } from '../tls/mutualTls.ts';
import { watchCertificates } from '../tls/renewal.ts';
import type { ApiVmm } from './endpoint.ts';
import { type RestOptions, type RestServer, Server } from './server.ts';
import { TlsStreams } from './tlsStreams.ts';

export interface RestTlsOptions extends TlsAddress, MutualTlsOptions {}

/** Beyond what the server itself tells that they are too many. */
const MAX_SOCKETS = 1024;

/**
 * Serves the API of `vmm` until closed.
 * @param warn gets which clients were not admitted, and why
 * @throws VmmError if the certificates cannot be used, or the port cannot be listened on
 */
export async function serveRestWithTls(
  vmm: ApiVmm,
  tls: RestTlsOptions,
  files: Pick<NativeAddon, 'closeFile'>,
  warn: (message: string) => void,
  options: RestOptions = {},
): Promise<RestServer> {
  const { host, port } = tls;
  let streams: TlsStreams | undefined;
  const accept = (socket: TLSSocket) => streams?.add(socket);
  const refuse = (socket: TLSSocket) => void socket.destroy();
  try {
    const reception = { accept, refuse, warn };
    const { server: listener, reload } = createMutualTlsServer({ ...tls, halfOpen: true }, reception);
    listener.maxConnections = MAX_SOCKETS;
    // SIGHUP ends a VM.
    const unwatch = watchCertificates(tls.folder, reload, warn);
    listener.once('close', unwatch);
    const server = new Server(vmm, options, (onEvent) => {
      streams = new TlsStreams(onEvent, files.closeFile);
      return { streams, handle: streams.handle, stopListening: () => void listener.close() };
    });
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen({ host, port }, resolve);
    });
    return server;
  } catch (error) {
    throw new VmmError(`Cannot serve the API with TLS on ${host}:${port}`, { cause: error });
  }
}
