/** The connection of a VM's process to the supervisor that started it. A VM that is up does without it if the supervisor ends. */
import { connect, type Socket } from 'node:net';
import { JsonObjectReader } from './jsonObjectReader.ts';
import {
  type ChildAssignment,
  encodeLine,
  encodeVmhost,
  MAX_VMHOST_MESSAGE,
  type VmhostReport,
  type VmhostResponse,
} from './protocol.ts';

/** Bytes that a supervisor may leave unread before it is given up. */
const MAX_UNREAD = 1 << 20;
/** How long the last report may take to leave. */
const FAREWELL_MS = 1_000;

export class SupervisorLink {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** @param name of the VM that is run; absent where the supervisor is to say which. @throws Error if nobody listens */
  static connect(path: string, name: string | undefined): Promise<SupervisorLink> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject).on('error', () => {});
        const hello = { pid: process.pid, ...(name !== undefined && { name }) };
        socket.write(encodeLine({ hello }));
        resolve(new SupervisorLink(socket));
      });
    });
  }

  /** Waits until the supervisor says which VM to run. Undefined if it has gone instead. */
  assignment(): Promise<ChildAssignment['start'] | undefined> {
    const reader = new JsonObjectReader(MAX_VMHOST_MESSAGE);
    return new Promise((resolve) => {
      this.#socket.once('close', () => resolve(undefined));
      this.#socket.on('data', (bytes) => {
        try {
          const text = reader.add(bytes);
          if (text !== undefined) resolve((JSON.parse(text) as ChildAssignment).start);
        } catch {
          this.#socket.destroy();
        }
      });
    });
  }

  /** Calls once, when the supervisor has gone; never while this returns. */
  onGone(listener: () => void): void {
    if (this.#socket.closed) queueMicrotask(listener);
    else this.#socket.once('close', listener);
  }

  /** Lost if the supervisor has gone. */
  send(message: VmhostResponse | VmhostReport): void {
    if (this.#socket.writableLength > MAX_UNREAD) this.#socket.destroy();
    else if (this.#socket.writable) this.#socket.write(encodeVmhost(message));
  }

  /** Returns when what was sent has left, or after a second. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.destroyed) return resolve();
      const timer = setTimeout(() => this.#socket.destroy(), FAREWELL_MS);
      this.#socket.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
      this.#socket.destroySoon();
    });
  }
}
