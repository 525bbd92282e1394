/** A client that sends bytes as a test wants them, and what comes back. */
import type net from 'node:net';
import { onTestFinished } from 'vitest';

export interface RawClient<S extends net.Socket> {
  readonly socket: S;
  text(): string;
  isClosed(): boolean;
}

/** @param socket gone at the end of the test */
export function rawClient<S extends net.Socket>(socket: S): RawClient<S> {
  let text = '';
  let closed = false;
  socket.on('data', (bytes) => {
    text += bytes.toString('latin1');
  });
  for (const event of ['end', 'close', 'error']) {
    socket.on(event, () => {
      closed = true;
    });
  }
  onTestFinished(() => void socket.destroy());
  return { socket, text: () => text, isClosed: () => closed };
}
