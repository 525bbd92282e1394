/** libvirt's remote protocol on UNIX sockets: one to manage domains, one that may only look. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import type { Supervisor } from '../../supervisor/supervisor.ts';
import { Connection } from './connection.ts';
import { Domains } from './domains.ts';

/** What clients look for with a URI of scheme `tsvmm`. */
export const SOCKET_NAME = 'virttsvmmd-sock';
const READ_ONLY_SUFFIX = '-ro';
const PRIVATE = 0o600;
const MAX_CONNECTIONS = 1_024;

export interface LibvirtServer {
  /** Closes every connection and removes the sockets. */
  close(): void;
}

/**
 * Serves both sockets in a folder, which is the caller's alone by the lock that it holds.
 * @throws Error if one of them cannot be listened on
 */
export async function serveLibvirt(supervisor: Supervisor, folder: string): Promise<LibvirtServer> {
  const domains = new Domains(supervisor);
  const consoleOwners = new Map<string, () => void>();
  const servers: { readonly server: Server; readonly path: string }[] = [];
  const sockets = new Set<{ destroy(): void }>();
  for (const readOnly of [false, true]) {
    const path = `${folder}/${SOCKET_NAME}${readOnly ? READ_ONLY_SUFFIX : ''}`;
    const server = createServer({ allowHalfOpen: false }, (socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      new Connection(socket, { domains, readOnly, consoleOwners });
    });
    server.maxConnections = MAX_CONNECTIONS;
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    chmodSync(path, PRIVATE);
    servers.push({ server, path });
  }
  return {
    close: () => {
      for (const socket of sockets) socket.destroy();
      for (const { server, path } of servers) {
        server.close();
        rmSync(path, { force: true });
      }
    },
  };
}
