/** Connections to other processes' UNIX sockets, for commands: with a timeout, and human-readable errors. */

import { MAX_SOCKET_PATH } from '../config/limits.ts';
import { type Accept, streamAdopter } from '../host/listen.ts';
import { type ConnectWithin, connectWithin } from '../host/unixClient.ts';
import { loadNative } from '../native.ts';
import { VmmError } from '../vmm/errors.ts';
import { printable } from '../vmm/printable.ts';

/** What a socket is for: messages name it. */
interface SocketUse {
  /** Such as `the API of a VM`. */
  readonly what: string;
  /** What to do if there is none, as a phrase. */
  readonly advice: string;
}

export interface ConnectOptions extends ConnectWithin {
  readonly use: SocketUse;
}

/**
 * @param accept says who serves the connection
 * @returns its descriptor, which is the connection's
 * @throws VmmError a human-readable sentence
 */
export async function connectStream(path: string, options: ConnectOptions, accept: Accept): Promise<number> {
  const native = loadNative();
  const fd = await connectWithin(native, path, options).catch(async (error: unknown) => {
    throw await failure(path, options.use, error);
  });
  const adopt = streamAdopter();
  native.disownFile(fd);
  adopt(fd, accept);
  return fd;
}

async function failure(path: string, { what, advice }: SocketUse, error: unknown): Promise<VmmError> {
  const { code, message } = error as NodeJS.ErrnoException;
  const name = printable(path);
  const refuse = (text: string) => new VmmError(text, { code: code ?? 'ERR_TSVMM_FAILED' });
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return refuse(`There is no socket ${name}: ${advice}`);
    case 'ECONNREFUSED':
      return refuse(
        (await isSocket(path))
          ? `Nobody serves the socket ${name} any more: ${advice}`
          : `${name} is no socket, and so not ${what}`,
      );
    case 'EPROTOTYPE':
      return refuse(`The socket ${name} is of another type, and so not ${what}`);
    case 'EACCES':
    case 'EPERM':
      return refuse(`You may not use the socket ${name}: ${await whose(path)}`);
    case 'ENAMETOOLONG':
      return refuse(`The path of a socket has at most ${MAX_SOCKET_PATH} bytes, which ${name} has not`);
    case 'EAGAIN':
      return refuse(`The socket ${name} accepts nobody: its process is stuck, or has too many clients`);
    default:
      return refuse(`Cannot connect to ${name}: ${message}`);
  }
}

async function isSocket(path: string): Promise<boolean> {
  const { stat } = await import('node:fs/promises');
  return stat(path).then(
    (found) => found.isSocket(),
    () => true,
  );
}

async function whose(path: string): Promise<string> {
  const { stat } = await import('node:fs/promises');
  return stat(path).then(
    ({ uid }) => `it is of the user ${uid}, and you are ${process.geteuid?.()}`,
    () => "its folder is another user's",
  );
}
