/** The command line's client of the supervisor's API. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { readAnswer } from '../../api/rest/jsonReader.ts';
import { writeJson } from '../../api/rest/jsonWriter.ts';
import { VmmError } from '../../vmm/errors.ts';

/** So often a supervisor that has not answered yet is asked whether it answers at all, and so long may that take. */
const PING_MS = 15_000;

/** What can be given up. */
interface Exchange {
  destroy(error: Error): unknown;
}

/**
 * How long an answer takes only the supervisor knows: a stop waits for the guest. It is given up when the supervisor
 * does not answer anything else.
 */
export class SupervisorClient {
  readonly #socketPath: string;
  readonly #pingMs: number;

  constructor(socketPath: string, pingMs = PING_MS) {
    this.#socketPath = socketPath;
    this.#pingMs = pingMs;
  }

  /**
   * @returns the answer's JSON, undefined without any
   * @throws VmmError what the supervisor answered, or that there is none
   */
  async call<T = undefined>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const answer = await this.#send(method, path, body, signal);
    const text = await this.#read(answer);
    return (text === '' ? undefined : readAnswer(text)) as T;
  }

  /** An answer that goes on, as text. Ends with the connection, or when `signal` is aborted. */
  async *stream(path: string, signal?: AbortSignal): AsyncGenerator<string> {
    const answer = await this.#send('GET', path);
    signal?.addEventListener('abort', () => answer.destroy(), { once: true });
    try {
      for await (const chunk of answer.setEncoding('utf8')) yield chunk as string;
    } catch (error) {
      if (signal?.aborted) return;
      const message = `The supervisor at ${this.#socketPath} has gone: its VMs live on unless it was told to stop them`;
      throw new VmmError(message, { cause: error });
    }
  }

  #send(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<IncomingMessage> {
    const payload = body === undefined ? undefined : writeJson(body);
    return new Promise((resolve, reject) => {
      const headers = payload === undefined ? {} : { 'Content-Length': Buffer.byteLength(payload) };
      const options = {
        socketPath: this.#socketPath,
        method,
        path,
        headers,
        agent: false,
        ...(signal && { signal }),
      };
      const sent = httpRequest(options, (answer) => {
        unwatch();
        if ((answer.statusCode ?? 500) < 400) resolve(answer);
        else this.#refusal(answer).then(reject, reject);
      });
      const unwatch = this.#watch(sent);
      sent.on('error', (error: NodeJS.ErrnoException) => {
        unwatch();
        reject(this.#noAnswer(error));
      });
      sent.end(payload);
    });
  }

  /** The whole of an answer that comes to an end. */
  async #read(answer: IncomingMessage): Promise<string> {
    const unwatch = this.#watch(answer);
    try {
      let text = '';
      for await (const chunk of answer.setEncoding('utf8')) text += chunk;
      return text;
    } catch (error) {
      throw this.#noAnswer(error as Error);
    } finally {
      unwatch();
    }
  }

  async #refusal(answer: IncomingMessage): Promise<VmmError> {
    const text = await this.#read(answer);
    try {
      return new VmmError((JSON.parse(text) as { error: string }).error);
    } catch {
      return new VmmError(`The supervisor answered with status ${answer.statusCode}`);
    }
  }

  /** @returns ends it */
  #watch(exchange: Exchange): () => void {
    const timer = setInterval(() => {
      this.#ping().catch(() => {
        exchange.destroy(new Error(`no answer within ${(2 * this.#pingMs) / 1000} s`));
      });
    }, this.#pingMs);
    return () => clearInterval(timer);
  }

  /** Whatever it answers. */
  #ping(): Promise<void> {
    return new Promise((resolve, reject) => {
      const options = { socketPath: this.#socketPath, path: '/v1/ping', agent: false };
      const sent = httpRequest(options, (answer) => {
        answer.resume();
        resolve();
      });
      const timer = setTimeout(() => sent.destroy(new Error('no answer')), this.#pingMs);
      sent
        .on('error', reject)
        .on('close', () => clearTimeout(timer))
        .end();
    });
  }

  #noAnswer(error: NodeJS.ErrnoException): VmmError {
    const absent = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
    const message = absent
      ? `No supervisor serves ${this.#socketPath}: start one with 'tsvmmd', or name its folder with --dir or TSVMM_DIR`
      : `The supervisor at ${this.#socketPath} does not answer`;
    return new VmmError(message, absent ? {} : { cause: error });
  }
}
