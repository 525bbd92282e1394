/** A way from programs of this machine to sockets in the lab. */
import net from 'node:net';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import type { Lab } from '../../scripts/lab/lab.mjs';
import { temporaryFolder } from '../kvm/support.ts';

/** A UNIX socket of this machine, each of whose connections is one to a socket in the lab. */
export function tunnel(lab: Lab, inLab: string): string {
  const file = path.join(temporaryFolder(), path.basename(inLab));
  const server = net.createServer((socket) => {
    const job = lab.start({
      command: ['socat', '-', `UNIX-CONNECT:${inLab}`],
      onStdout: (bytes) => {
        socket.write(bytes);
      },
      onStderr: () => {},
    });
    socket.on('data', (bytes) => job.write(bytes));
    socket.on('error', () => {}).on('close', () => job.kill(9));
    job.exited.then(
      () => socket.destroy(),
      () => socket.destroy(),
    );
  });
  server.listen(file);
  onTestFinished(() => {
    server.close();
  });
  return file;
}
