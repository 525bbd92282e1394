/** The supervisor's end of the vmhost protocol. */
import { recognizeAnyCopy } from '../../config/anyCopy.ts';
import { JsonObjectReader } from './jsonObjectReader.ts';
import {
  CONNECT_TIMEOUT_MS,
  EXCHANGE_TIMEOUT_MS,
  encodeVmhost,
  MAX_VMHOST_MESSAGE,
  type VmhostRequest,
  type VmhostResponse,
} from './protocol.ts';

/** The VM's process refused, did not answer, or is not there. */
export class VmhostError extends Error {
  /** `ERR_TSVMM_VMHOST` if it refused or answered nonsense, `ETIMEDOUT`, or what connecting failed with. */
  readonly code: string;

  /** @internal */
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'VmhostError';
    this.code = code;
  }
}
recognizeAnyCopy(VmhostError, 'VmhostError');

/**
 * Asks the process of one VM. Each call is a connection of its own, takes at most 30 s, and rejects with VmhostError.
 */
export class VmhostClient {
  readonly #socketPath: string;

  /** @param socketPath of the VM's `vmhost.sock` */
  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  status(): Promise<VmhostResponse> {
    return this.#call({ method: 'status' });
  }

  info(): Promise<VmhostResponse> {
    return this.#call({ method: 'info' });
  }

  /**
   * Returns as soon as the stop has begun.
   * @param timeoutSeconds until the VM is ended by force, 30 unless given
   */
  stop(timeoutSeconds?: number): Promise<VmhostResponse> {
    const seconds = timeoutSeconds ? { timeout_seconds: timeoutSeconds } : {};
    return this.#call({ method: 'stop', ...seconds });
  }

  /** Also after `stop`, which then waits no longer. */
  forceStop(): Promise<VmhostResponse> {
    return this.#call({ method: 'force_stop' });
  }

  /**
   * Presses the power button, and has the guest started anew when it has powered off. Returns when the VM has heard of
   * it.
   */
  restart(): Promise<VmhostResponse> {
    return this.#call({ method: 'restart' });
  }

  /** Never rejects. */
  async isAlive(): Promise<boolean> {
    try {
      return (await this.status()).ok;
    } catch {
      return false;
    }
  }

  async #call(request: VmhostRequest): Promise<VmhostResponse> {
    const answer = await exchange(this.#socketPath, encodeVmhost(request));
    if (!answer.ok && answer.error) throw new VmhostError('ERR_TSVMM_VMHOST', answer.error);
    return answer;
  }
}

async function exchange(path: string, request: Uint8Array): Promise<VmhostResponse> {
  const { connect } = await import('node:net');
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const reader = new JsonObjectReader(MAX_VMHOST_MESSAGE);
    const finish = (settle: () => void) => {
      clearTimeout(connecting);
      clearTimeout(exchanging);
      socket.destroy();
      settle();
    };
    const fail = (code: string, message: string, cause?: unknown) =>
      finish(() => reject(new VmhostError(code, `${path}: ${message}`, { cause })));
    const late = () => fail('ETIMEDOUT', 'no answer in time');
    const connecting = setTimeout(late, CONNECT_TIMEOUT_MS);
    const exchanging = setTimeout(late, EXCHANGE_TIMEOUT_MS);
    socket.on('connect', () => {
      clearTimeout(connecting);
      socket.write(request);
    });
    socket.on('data', (bytes) => {
      try {
        const text = reader.add(bytes);
        if (text !== undefined) finish(() => resolve(JSON.parse(text) as VmhostResponse));
      } catch (error) {
        fail('ERR_TSVMM_VMHOST', `an answer that cannot be read: ${(error as Error).message}`, error);
      }
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      fail(error.code ?? 'ERR_TSVMM_VMHOST', error.message, error),
    );
    socket.on('close', () => fail('ERR_TSVMM_VMHOST', 'closed without an answer'));
  });
}
