/**
 * The connection of a VM's process to the supervisor that started it. A VM that is up does without it if the supervisor
 * ends.
 */
import type { StreamConnection } from '../../host/listen.ts';
import { connectWithin } from '../../host/unixClient.ts';
import type { NativeAddon } from '../../native.ts';
import { JsonObjectReader } from './jsonObjectReader.ts';
import {
  type ChildAssignment,
  CONNECT_TIMEOUT_MS,
  encodeLine,
  encodeVmhost,
  LAST_REPORT_MS,
  MAX_UNREAD_REPORTS,
  MAX_VMHOST_MESSAGE,
  type VmhostReport,
  type VmhostResponse,
} from './protocol.ts';

type LinkSockets = Pick<NativeAddon, 'connectUnix' | 'writeNow' | 'disownFile'>;

export class SupervisorLink {
  readonly #sockets: LinkSockets;
  readonly #fd: number;
  #listening: Promise<void> | undefined;
  #connection: StreamConnection | undefined;
  /** What was sent before there was a connection to send it by. */
  #early: Uint8Array[] = [];
  /** Messages since the supervisor began to be slow. */
  #unread = 0;
  #gone = false;
  #received: (bytes: Uint8Array) => void = () => {};
  readonly #whenGone: (() => void)[] = [];

  private constructor(sockets: LinkSockets, fd: number) {
    this.#sockets = sockets;
    this.#fd = fd;
  }

  /**
   * Says who this process is. What the supervisor says, and that it has gone, is heard from `listen` on.
   * @param name of the VM that is run; absent where the supervisor is to say which. @throws Error if no supervisor
   * listens
   */
  static async connect(
    sockets: LinkSockets,
    path: string,
    name: string | undefined,
  ): Promise<SupervisorLink> {
    const fd = await connectWithin(sockets, path, { deadline: performance.now() + CONNECT_TIMEOUT_MS });
    const hello = { pid: process.pid, ...(name !== undefined && { name }) };
    // There is room for it: nothing was sent before.
    sockets.writeNow(fd, encodeLine({ hello }));
    return new SupervisorLink(sockets, fd);
  }

  /** The event loop has the connection from now on: what that needs is loaded then only. Idempotent. */
  listen(): Promise<void> {
    this.#listening ??= this.#listen();
    return this.#listening;
  }

  async #listen(): Promise<void> {
    const { adoptQuietly } = await import('../../host/quietStreams.ts');
    await adoptQuietly(this.#sockets, this.#fd, (connection) => {
      this.#connection = connection;
      for (const bytes of this.#early.splice(0)) connection.write(bytes);
      return {
        data: (bytes) => this.#received(bytes),
        ended: () => connection.terminate(),
        drained: () => {
          this.#unread = 0;
        },
        closed: () => this.#closed(),
      };
    });
  }

  /** Waits until the supervisor says which VM to run. Undefined if it has gone instead. */
  assignment(): Promise<ChildAssignment['start'] | undefined> {
    const reader = new JsonObjectReader(MAX_VMHOST_MESSAGE);
    return new Promise((resolve) => {
      this.onGone(() => resolve(undefined));
      this.#received = (bytes) => {
        try {
          const text = reader.add(bytes);
          if (text === undefined) return;
          this.#received = () => {};
          resolve((JSON.parse(text) as ChildAssignment).start);
        } catch {
          this.#connection?.terminate();
        }
      };
    });
  }

  /** Calls once, when the supervisor has gone; never while this returns. */
  onGone(listener: () => void): void {
    if (this.#gone) queueMicrotask(listener);
    else this.#whenGone.push(listener);
  }

  /** Lost if the supervisor has gone. */
  send(message: VmhostResponse | VmhostReport): void {
    if (this.#gone) return;
    const bytes = encodeVmhost(message);
    if (this.#connection === undefined) this.#early.push(bytes);
    else if (this.#connection.waiting && ++this.#unread > MAX_UNREAD_REPORTS) this.#connection.terminate();
    else this.#connection.write(bytes);
  }

  /** Returns when what was sent has left, or after a second. */
  async close(): Promise<void> {
    await this.listen();
    const connection = this.#connection;
    if (this.#gone || connection === undefined) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => connection.terminate(), LAST_REPORT_MS);
      this.onGone(() => {
        clearTimeout(timer);
        resolve();
      });
      connection.end();
    });
  }

  #closed(): void {
    this.#gone = true;
    for (const listener of this.#whenGone.splice(0)) listener();
  }
}
