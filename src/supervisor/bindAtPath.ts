/** Servers of the runtime on UNIX sockets. */
import { chmodSync } from 'node:fs';
import type { Server } from 'node:net';
import { PRIVATE_FILE } from '../host/openFlags.ts';
import type { SocketPath } from '../vmm/listeningSocket.ts';

/**
 * Listens at a path that is claimed, in a folder that is the user's alone. When the server is closed, the runtime
 * removes what is at the name that it has bound: to be done before the claim is given back.
 * @throws Error
 */
export async function bindAtPath(server: Server, claim: SocketPath): Promise<void> {
  const { bindName } = claim;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(bindName, resolve);
  });
  try {
    chmodSync(bindName, PRIVATE_FILE);
    claim.place();
  } catch (error) {
    server.close();
    throw error;
  }
}
