/** The sockets on which the API's HTTP server accepts connections. */
import { chmodSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { PRIVATE_FILE } from '../host/openFlags.ts';

export interface Listener {
  /** Accepts no more. */
  close(): void;
  /** Ends the connections that are left. */
  closeAllConnections(): void;
}

/** A path that is this process's by its claim, in a folder that is the user's alone. @throws Error */
export async function listenAtPath(server: Server, path: string): Promise<Listener> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, PRIVATE_FILE);
  return {
    close: () => {
      server.close();
      rmSync(path, { force: true });
    },
    closeAllConnections: () => server.closeAllConnections(),
  };
}

/**
 * A socket that listens already, and stays. Bun's HTTP server takes no descriptor (it listens on a TCP port of its own
 * instead), and so gets its connections from a server that does.
 * @throws Error
 */
export async function listenOnDescriptor(server: Server, fd: number): Promise<Listener> {
  const connections = new Set<Socket>();
  const acceptor = createServer({ allowHalfOpen: true }, (socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
    server.emit('connection', socket);
  });
  acceptor.maxConnections = server.maxConnections;
  await new Promise<void>((resolve, reject) => {
    acceptor.once('error', reject);
    acceptor.listen({ fd }, resolve);
  });
  return {
    close: () => acceptor.close(),
    closeAllConnections: () => {
      for (const socket of connections) socket.destroy();
    },
  };
}
