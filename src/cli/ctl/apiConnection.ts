/** A client's connection to a VM's REST API: requests one after the other, each within a time. */
import type { StreamConnection } from '../../host/listen.ts';
import { loadNative } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { printable } from '../../vmm/printable.ts';
import { connectStream } from '../unixStream.ts';
import { AnswerReader, type ApiAnswer, NotHttp } from './httpAnswer.ts';

export interface ApiRequest {
  readonly method: 'GET' | 'PUT';
  /** Such as `vm.boot`. */
  readonly endpoint: string;
  /** JSON. */
  readonly body?: string;
  /** Sent along (SCM_RIGHTS); they stay the caller's as well. */
  readonly descriptors?: readonly number[];
}

const USE = {
  what: 'the API of a VM',
  advice: 'is the process there that serves it (--api-socket)?',
};

/** The connection ended, in order, before anything was answered. */
export class NoAnswer extends VmmError {}

interface Waiting {
  resolve(answer: ApiAnswer): void;
  reject(error: Error): void;
}

export class ApiConnection {
  readonly #path: string;
  #reader = new AnswerReader();
  #connection: StreamConnection | undefined;
  #fd = -1;
  #waiting: Waiting | undefined;
  /** Why nothing more is answered. */
  #over: Error | undefined;

  private constructor(path: string) {
    this.#path = path;
  }

  /** @throws VmmError */
  static async open(path: string, timeoutMs: number): Promise<ApiConnection> {
    const api = new ApiConnection(path);
    const deadline = performance.now() + timeoutMs;
    api.#fd = await connectStream(path, { use: USE, deadline }, (connection) => {
      api.#connection = connection;
      return {
        data: (bytes) => api.#received(bytes),
        ended: () => api.#ended(),
        drained: () => {},
        closed: () => api.#ended(),
      };
    });
    return api;
  }

  /** One call at a time. @throws VmmError if it is not answered in time, or not by such an API */
  async call(request: ApiRequest, timeoutMs: number): Promise<ApiAnswer> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      return await new Promise<ApiAnswer>((resolve, reject) => {
        this.#waiting = { resolve, reject };
        const late = () => reject(this.#error(`did not answer within ${timeoutMs / 1000} s`));
        timer = setTimeout(late, timeoutMs);
        if (this.#over) reject(this.#over);
        else this.#send(request);
      });
    } finally {
      clearTimeout(timer);
      this.#waiting = undefined;
    }
  }

  close(): void {
    this.#connection?.terminate();
  }

  #send({ method, endpoint, body, descriptors = [] }: ApiRequest): void {
    const length = body === undefined ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`;
    const head = `${method} /api/v1/${endpoint} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n${length}\r\n`;
    const bytes = Buffer.from(head + (body ?? ''));
    const sent = descriptors.length > 0 ? this.#sendDescriptors(bytes, descriptors) : 0;
    this.#connection?.write(bytes.subarray(sent));
  }

  #sendDescriptors(bytes: Uint8Array, descriptors: readonly number[]): number {
    try {
      return loadNative().sendDescriptors(this.#fd, bytes, descriptors);
    } catch (error) {
      const which = `${descriptors.length === 1 ? 'descriptor' : 'descriptors'} ${descriptors.join(', ')}`;
      if ((error as NodeJS.ErrnoException).code !== 'EBADF') {
        throw new VmmError(`Cannot send the ${which}`, { cause: error });
      }
      throw new VmmError(`Cannot send the ${which}: not open in this process`, { code: 'EBADF' });
    }
  }

  #received(bytes: Uint8Array): void {
    try {
      const answer = this.#reader.add(bytes);
      if (answer !== undefined) this.#waiting?.resolve(answer);
    } catch (error) {
      const said = printable(this.#reader.beginning);
      this.#fail(
        error instanceof NotHttp ? this.#error(`is not ${USE.what}: it says "${said}"`) : (error as Error),
      );
      this.close();
    }
  }

  #ended(): void {
    const answer = this.#reader.end();
    if (answer !== undefined) this.#waiting?.resolve(answer);
    if (this.#reader.empty) this.#fail(new NoAnswer(this.#text('closed the connection without an answer')));
    else this.#fail(this.#error('ended in the middle of its answer'));
  }

  #fail(error: Error): void {
    this.#over ??= error;
    this.#waiting?.reject(this.#over);
  }

  #text(what: string): string {
    return `The socket ${this.#path} ${what}`;
  }

  #error(what: string): VmmError {
    return new VmmError(this.#text(what));
  }
}
