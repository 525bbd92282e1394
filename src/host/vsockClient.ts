/** The host's end of a stream to the guest, over the UNIX socket of a socket device. */
import { connect, type Socket } from 'node:net';

/** The device's answer: `OK`, and the port that the guest sees as this side's. */
const ANSWER = /^OK \d{1,10}\n$/;
const MAX_ANSWER = 'OK 4294967295\n'.length;

/**
 * Connects to the guest's listener at `port`. Each side may stop sending (`end`) and still receive.
 * @param path of the device's socket
 * @param signal gives it up: a guest may leave the question unanswered
 * @throws Error with code ECONNREFUSED if the guest does not accept, an errno name if there is no device or the path is
 * none
 */
export function connectVsock(path: string, port: number, signal?: AbortSignal): Promise<Socket> {
  // It would be the name of an abstract socket, which is anybody's.
  if (path.includes('\0')) {
    return Promise.reject(Object.assign(new Error('A socket path contains a zero byte'), { code: 'EINVAL' }));
  }
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const socket = connect({ path, allowHalfOpen: true });
    let answer = '';
    const abort = () => fail(signal?.reason);
    const fail = (error: Error) => {
      signal?.removeEventListener('abort', abort);
      socket.on('error', () => {}).destroy();
      reject(error);
    };
    const refused = () => {
      const error = new Error(`The guest does not accept connections at port ${port}`);
      fail(Object.assign(error, { code: 'ECONNREFUSED' }));
    };
    // Byte by byte: what comes behind the answer is the socket's next owner's.
    const hear = () => {
      for (let byte = socket.read(1); byte !== null; byte = socket.read(1)) {
        answer += (byte as Buffer).toString('latin1');
        if (ANSWER.test(answer)) {
          signal?.removeEventListener('abort', abort);
          socket.off('readable', hear).off('error', fail).off('end', refused).off('close', refused);
          resolve(socket);
          return;
        }
        if (answer.length >= MAX_ANSWER) return refused();
      }
    };
    signal?.addEventListener('abort', abort);
    socket.on('readable', hear).on('error', fail).on('end', refused).on('close', refused);
    socket.write(`CONNECT ${port}\n`);
  });
}
