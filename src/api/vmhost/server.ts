/** The VM's end of the vmhost protocol: answers a supervisor on a socket for as long as the VM lives. */

import { MAX_TIMER_MS } from '../../config/limits.ts';
import type { StreamConnection, StreamHandlers } from '../../host/listen.ts';
import { listenQuietly } from '../../host/quietStreams.ts';
import type { VmmExit } from '../../vmm/events.ts';
import type { SocketClaim } from '../rest/socketClaim.ts';
import type { VmController } from './controller.ts';
import { JsonObjectReader } from './jsonObjectReader.ts';
import {
  DEFAULT_STOP_SECONDS,
  EXCHANGE_TIMEOUT_MS,
  encodeVmhost,
  LAST_REPORT_MS,
  MAX_UNREAD_REPORTS,
  MAX_VMHOST_MESSAGE,
  type VmhostMethod,
  type VmhostReport,
  type VmhostResponse,
} from './protocol.ts';

/** At once; for one more, the connection that has been silent longest is closed. */
const MAX_CONNECTIONS = 256;
const MAX_STOP_SECONDS = Math.floor(MAX_TIMER_MS / 1000);

export interface VmhostServerOptions {
  /** Gets what is done, a line at a time. */
  readonly log?: (line: string) => void;
}

/** Requests of supervisors, and what they set going. */
class VmhostServer {
  readonly #controller: VmController;
  readonly #log: (line: string) => void;
  readonly #connections = new Set<VmhostConnection>();
  #stopping = false;
  #forcing = false;

  constructor(controller: VmController, { log = () => {} }: VmhostServerOptions = {}) {
    this.#controller = controller;
    this.#log = log;
  }

  accept(connection: StreamConnection): StreamHandlers {
    if (this.#connections.size >= MAX_CONNECTIONS) this.#closeOldest();
    const served = new VmhostConnection(connection, {
      request: (text) => this.#serve(text, served),
      gone: () => this.#connections.delete(served),
    });
    this.#connections.add(served);
    return served;
  }

  /** Tells watchers how the VM ended, and closes every connection once that has left, or after a second. */
  async finish(exit?: VmmExit): Promise<void> {
    const closed = [...this.#connections].map((connection) => connection.finish(exit));
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LAST_REPORT_MS);
    });
    await Promise.race([Promise.all(closed), late]);
    clearTimeout(timer);
    for (const connection of this.#connections) connection.close();
  }

  /** Watchers stay: they are not waited for. */
  #closeOldest(): void {
    for (const connection of this.#connections) {
      if (connection.watching) continue;
      connection.close();
      return;
    }
  }

  /** @throws Error if the text is no request */
  #serve(text: string, connection: VmhostConnection): void {
    const { method, timeoutSeconds } = parseRequest(text);
    if (method === 'watch') connection.watch(this.#controller);
    else connection.respond(this.#answer(method, timeoutSeconds));
  }

  #answer(method: string, timeoutSeconds: number): VmhostResponse {
    switch (method as Exclude<VmhostMethod, 'watch'>) {
      case 'status':
        return stateOf(this.#controller);
      case 'info':
        return this.#info();
      case 'stop':
        this.#stop(timeoutSeconds);
        return { ok: true, state: 'stopping' };
      case 'force_stop':
        this.#forceStop();
        return { ok: true, state: 'stopping' };
      case 'restart':
        this.#log('starting the guest anew when it has powered off');
        this.#controller.restart().catch((error: Error) => this.#log(`restart failed: ${error.message}`));
        return stateOf(this.#controller);
      default:
        return { ok: false, error: `unknown method: ${method}` };
    }
  }

  #info(): VmhostResponse {
    const { sshPort, backend } = this.#controller;
    return {
      ...stateOf(this.#controller),
      ...(sshPort > 0 && { ssh_port: sshPort }),
      ...(backend !== '' && { backend }),
    };
  }

  /** The first one counts: a second does not give the guest more time. */
  #stop(seconds: number): void {
    if (this.#stopping || this.#forcing) return;
    this.#stopping = true;
    this.#log(`stopping the VM within ${seconds} s`);
    this.#inBackground(this.#controller.stop(seconds * 1000), 'stop');
  }

  #forceStop(): void {
    if (this.#forcing) return;
    this.#forcing = true;
    this.#log('ending the VM by force');
    this.#inBackground(this.#controller.forceStop(), 'force_stop');
  }

  /** What failed may be asked for again. */
  #inBackground(work: Promise<void>, what: string): void {
    work.catch((error) => {
      this.#stopping = false;
      this.#forcing = false;
      this.#log(`${what} failed: ${(error as Error).message}`);
    });
  }
}

interface ConnectionOwner {
  /** @throws Error if the text is no request */
  request(text: string): void;
  gone(): void;
}

/** One request and its answer, within the time of an exchange; a watcher stays until the VM is gone. */
class VmhostConnection implements StreamHandlers {
  readonly #connection: StreamConnection;
  readonly #owner: ConnectionOwner;
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #reader = new JsonObjectReader(MAX_VMHOST_MESSAGE);
  readonly #whenClosed: Promise<void>;
  #resolveClosed: () => void = () => {};
  #answered = false;
  #unwatch: (() => void) | undefined;
  /** Reports since the peer began to be slow. */
  #unread = 0;

  constructor(connection: StreamConnection, owner: ConnectionOwner) {
    this.#connection = connection;
    this.#owner = owner;
    this.#timer = setTimeout(() => this.close(), EXCHANGE_TIMEOUT_MS);
    this.#whenClosed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  get watching(): boolean {
    return this.#unwatch !== undefined;
  }

  data(bytes: Uint8Array): void {
    if (this.#answered) return;
    try {
      const text = this.#reader.add(bytes);
      if (text !== undefined) this.#owner.request(text);
    } catch (error) {
      this.#refuse((error as Error).message);
    }
  }

  ended(): void {
    // A watcher keeps its side open: the end of that is the only sign that it has gone.
    if (this.watching) this.close();
    else if (!this.#answered) this.#refuse('it ends before it is complete');
  }

  drained(): void {
    this.#unread = 0;
  }

  closed(): void {
    clearTimeout(this.#timer);
    this.#unwatch?.();
    this.#owner.gone();
    this.#resolveClosed();
  }

  close(): void {
    this.#answered = true;
    this.#connection.terminate();
  }

  respond(response: VmhostResponse): void {
    this.#answered = true;
    this.#connection.write(encodeVmhost(response));
    this.#connection.end();
  }

  watch(controller: VmController): void {
    this.#answered = true;
    clearTimeout(this.#timer);
    this.#connection.write(
      encodeVmhost({ ...stateOf(controller), uptime_seconds: controller.uptimeSeconds }),
    );
    this.#unwatch = controller.watch((event) => this.#report({ event }));
  }

  /** Resolves when the connection is closed. */
  finish(exit: VmmExit | undefined): Promise<void> {
    if (!this.watching) this.close();
    else if (exit) this.#report({ exit });
    this.#connection.end();
    return this.#whenClosed;
  }

  #report(report: VmhostReport): void {
    if (this.#connection.waiting && ++this.#unread > MAX_UNREAD_REPORTS) this.close();
    else this.#connection.write(encodeVmhost(report));
  }

  #refuse(reason: string): void {
    this.respond({ ok: false, error: `invalid request: ${reason}` });
  }
}

function stateOf({ state, paused }: VmController): VmhostResponse {
  return { ok: true, state, ...(paused && { paused }) };
}

function parseRequest(text: string): { method: string; timeoutSeconds: number } {
  const { method, timeout_seconds: seconds } = JSON.parse(text) as Record<string, unknown>;
  if (typeof method !== 'string') throw new Error('it names no method');
  if (seconds !== undefined && seconds !== null && !Number.isInteger(seconds)) {
    throw new Error('timeout_seconds is not a whole number');
  }
  const given = Number(seconds ?? 0);
  const timeoutSeconds = given > 0 ? Math.min(given, MAX_STOP_SECONDS) : DEFAULT_STOP_SECONDS;
  return { method, timeoutSeconds };
}

export interface ServedVmhost {
  /** Stops listening, tells watchers how the VM ended if it did, and closes every connection. Removes nothing. */
  close(exit?: VmmExit): Promise<void>;
}

/** Listens where the claim allows it. @throws Error if the address cannot be listened on */
export async function listenVmhost(
  controller: VmController,
  claim: SocketClaim,
  options: VmhostServerOptions = {},
): Promise<ServedVmhost> {
  const server = new VmhostServer(controller, options);
  const listener = await listenQuietly(claim.listen, (connection) => server.accept(connection));
  return {
    close: (exit) => {
      listener.close(false);
      return server.finish(exit);
    },
  };
}
