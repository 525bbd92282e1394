/** `listenStream` on Node.js. */
import type { Socket } from 'node:net';
import type { Accept, StreamListener } from './listen.ts';

/** Loaded when it is first called: Bun would pay 3 ms and 2 MB for it. */
const net = () => process.getBuiltinModule('node:net');

/** @param fd that is bound, and the listener's from now on */
export function listenOnNode(fd: number, accept: Accept): Promise<StreamListener> {
  const sockets = new Set<Socket>();
  const server = net().createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    serve(socket, accept);
    socket.once('close', () => sockets.delete(socket));
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd }, () => {
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

/** `AdoptStream`. */
export function adoptOnNode(fd: number, accept: Accept): void {
  serve(new (net().Socket)({ fd, allowHalfOpen: true }), accept);
}

/** A connection that cannot be made is one that closes. */
export function connectOnNode(path: string, accept: Accept): void {
  serve(net().connect({ path, allowHalfOpen: true }), accept);
}

function serve(socket: Socket, accept: Accept): void {
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
    ref: () => {
      socket.ref();
    },
    unref: () => {
      socket.unref();
    },
  });
  socket.on('data', (bytes) => handlers.data(bytes));
  socket.on('end', () => handlers.ended());
  socket.on('drain', () => handlers.drained());
  socket.on('close', () => handlers.closed());
  // A broken connection is closed right after.
  socket.on('error', () => {});
}
