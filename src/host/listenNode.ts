/** `listenStream` on Node.js. A file of its own: Bun would pay 3 ms and 2 MB for loading node:net. */
import { createServer, type Socket } from 'node:net';
import type { ListenTarget, StreamConnection, StreamHandlers, StreamListener } from './listen.ts';

export function listenOnNode(
  target: ListenTarget,
  accept: (connection: StreamConnection) => StreamHandlers,
): Promise<StreamListener> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    serve(socket, accept);
    socket.once('close', () => sockets.delete(socket));
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(target, () => {
      server.removeListener('error', reject);
      resolve({
        close: (connectionsToo) => {
          server.close();
          if (connectionsToo) for (const socket of sockets) socket.destroy();
        },
      });
    });
  });
}

function serve(socket: Socket, accept: (connection: StreamConnection) => StreamHandlers): void {
  const handlers = accept({
    get waiting() {
      return socket.writableLength > 0;
    },
    write: (bytes) => {
      socket.write(bytes);
    },
    end: () => {
      socket.end();
    },
    terminate: () => {
      socket.destroy();
    },
    pause: () => {
      socket.pause();
    },
    resume: () => {
      socket.resume();
    },
  });
  socket.on('data', (bytes) => handlers.data(bytes));
  socket.on('end', () => handlers.ended());
  socket.on('drain', () => handlers.drained());
  socket.on('close', () => handlers.closed());
  // A broken connection is closed right after; there is nobody to tell.
  socket.on('error', () => {});
}
