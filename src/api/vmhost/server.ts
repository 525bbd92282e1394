/** The VM's end of the vmhost protocol: answers a supervisor on a socket for as long as the VM lives. */

import { listenStream, type StreamConnection, type StreamHandlers } from '../../host/listen.ts';
import type { SocketClaim } from '../rest/socketClaim.ts';
import type { VmController } from './controller.ts';
import { JsonObjectReader } from './jsonObjectReader.ts';
import {
  DEFAULT_STOP_SECONDS,
  EXCHANGE_TIMEOUT_MS,
  encodeVmhost,
  MAX_VMHOST_MESSAGE,
  type VmhostRequest,
  type VmhostResponse,
} from './protocol.ts';

/** At once; whoever has been silent longest makes room for one more. */
const MAX_CONNECTIONS = 256;
/** What a timer can wait for (2^31 - 1 ms), in seconds. */
const MAX_STOP_SECONDS = 2_147_483;

export interface VmhostServerOptions {
  /** Hears what is done, a line at a time. */
  readonly log?: (line: string) => void;
}

/** Requests of supervisors, and what they set going. */
export class VmhostServer {
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
    if (this.#connections.size >= MAX_CONNECTIONS) {
      const [oldest] = this.#connections;
      oldest?.close();
    }
    const served = new VmhostConnection(
      connection,
      (text) => this.#answer(text),
      () => this.#connections.delete(served),
    );
    this.#connections.add(served);
    return served;
  }

  closeAll(): void {
    for (const connection of this.#connections) connection.close();
  }

  /** @throws Error if the text is no request */
  #answer(text: string): VmhostResponse {
    const { method, timeoutSeconds } = parseRequest(text);
    switch (method as VmhostRequest['method']) {
      case 'status':
        return { ok: true, state: this.#controller.state };
      case 'info':
        return this.#info();
      case 'stop':
        this.#stop(timeoutSeconds);
        return { ok: true, state: 'stopping' };
      case 'force_stop':
        this.#forceStop();
        return { ok: true, state: 'stopping' };
      default:
        return { ok: false, error: `unknown method: ${method}` };
    }
  }

  #info(): VmhostResponse {
    const { state, sshPort, backend } = this.#controller;
    return { ok: true, state, ...(sshPort > 0 && { ssh_port: sshPort }), ...(backend !== '' && { backend }) };
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

/** One request, one answer, within the time of an exchange. */
class VmhostConnection implements StreamHandlers {
  readonly #connection: StreamConnection;
  readonly #answer: (text: string) => VmhostResponse;
  readonly #gone: () => void;
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #reader = new JsonObjectReader(MAX_VMHOST_MESSAGE);
  #answered = false;

  constructor(connection: StreamConnection, answer: (text: string) => VmhostResponse, gone: () => void) {
    this.#connection = connection;
    this.#answer = answer;
    this.#gone = gone;
    this.#timer = setTimeout(() => this.close(), EXCHANGE_TIMEOUT_MS);
  }

  data(bytes: Uint8Array): void {
    if (this.#answered) return;
    try {
      const text = this.#reader.add(bytes);
      if (text !== undefined) this.#respond(this.#answer(text));
    } catch (error) {
      this.#refuse((error as Error).message);
    }
  }

  ended(): void {
    if (!this.#answered) this.#refuse('it ends before it is complete');
  }

  drained(): void {}

  closed(): void {
    clearTimeout(this.#timer);
    this.#gone();
  }

  close(): void {
    this.#answered = true;
    this.#connection.terminate();
  }

  #refuse(reason: string): void {
    this.#respond({ ok: false, error: `invalid request: ${reason}` });
  }

  #respond(response: VmhostResponse): void {
    this.#answered = true;
    this.#connection.write(encodeVmhost(response));
    this.#connection.end();
  }
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
  /** Closes every connection and stops listening. Removes nothing. */
  close(): void;
}

/** Listens where the claim allows it. @throws Error if the address cannot be listened on */
export async function listenVmhost(
  controller: VmController,
  claim: SocketClaim,
  options: VmhostServerOptions = {},
): Promise<ServedVmhost> {
  const server = new VmhostServer(controller, options);
  const listener = await listenStream(claim.socket, (connection) => server.accept(connection));
  return {
    close: () => {
      listener.close(true);
      server.closeAll();
    },
  };
}
