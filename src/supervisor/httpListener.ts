/** The sockets on which the API's HTTP server accepts connections. */
import type { Server } from 'node:http';
import { createServer, type Socket } from 'node:net';
import type { SocketPath } from '../vmm/listeningSocket.ts';
import { bindAtPath } from './bindAtPath.ts';

export interface Listener {
  /** Accepts no more. */
  close(): void;
  /** Ends the connections that are left. */
  closeAllConnections(): void;
}

/** @param claim is given back when the listener closes @throws Error */
export async function listenAtPath(server: Server, claim: SocketPath): Promise<Listener> {
  await bindAtPath(server, claim);
  return {
    close: () => {
      server.close();
      claim.close();
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
