/** libvirt's protocol over TLS. A client is told that it is accepted by one byte, before its first call. */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import {
  createMutualTlsServer,
  HANDSHAKE_MS,
  type MutualTlsOptions,
  type MutualTlsServer,
  type TlsAddress,
} from '../tls/mutualTls.ts';
import { TLS_ADMITTED } from './signatures/constants.ts';

export interface TlsOptions extends TlsAddress, MutualTlsOptions {}

const ADMITTED = Uint8Array.of(TLS_ADMITTED);
const REFUSED = Uint8Array.of(0);

/**
 * A server that does not listen yet.
 * @param accept gets each client that was admitted
 * @param warn gets which clients were not, and why
 * @throws Error if a certificate or key cannot be used
 */
export function createTlsServer(
  options: TlsOptions,
  accept: (socket: Socket) => void,
  warn: (message: string) => void,
): MutualTlsServer {
  const admit = (socket: TLSSocket) => {
    socket.write(ADMITTED);
    accept(socket);
  };
  // With 1.3 session tickets come before the byte of acceptance, and clients up to libvirt 9 fail on them. A handshake
  // that fails ends them by SIGPIPE, so that they could not say why.
  const protocol = { maxVersion: 'TLSv1.2', refusesItself: true } as const;
  return createMutualTlsServer({ ...options, ...protocol }, { accept: admit, refuse, warn });
}

/**
 * A client that is told so says it better than one whose connection ends. It keeps it no longer, whatever it goes on
 * sending.
 */
export function refuse(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), HANDSHAKE_MS);
  socket.on('error', () => {}).once('close', () => clearTimeout(timer));
  socket.resume().end(REFUSED);
}
