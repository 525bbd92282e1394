/** The command line's client of the supervisor's API. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { readAnswer } from '../../api/rest/jsonReader.ts';
import { writeJson } from '../../api/rest/jsonWriter.ts';
import { VmmError } from '../../vmm/errors.ts';

/** Longer than any stop that the supervisor would wait for. */
const ANSWER_MS = 24 * 3_600_000;

export class SupervisorClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /**
   * @returns the answer's JSON, undefined without any
   * @throws VmmError what the supervisor answered, or that there is none
   */
  async call<T = undefined>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const answer = await this.#send(method, path, body, signal);
    let text = '';
    for await (const chunk of answer.setEncoding('utf8')) text += chunk;
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
        timeout: ANSWER_MS,
        ...(signal && { signal }),
      };
      const sent = httpRequest(options, (answer) => {
        if ((answer.statusCode ?? 500) < 400) resolve(answer);
        else refusal(answer).then(reject, reject);
      });
      sent.on('error', (error: NodeJS.ErrnoException) => reject(this.#noAnswer(error)));
      sent.end(payload);
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

async function refusal(answer: IncomingMessage): Promise<VmmError> {
  let text = '';
  for await (const chunk of answer.setEncoding('utf8')) text += chunk;
  try {
    return new VmmError((JSON.parse(text) as { error: string }).error);
  } catch {
    return new VmmError(`The supervisor answered with status ${answer.statusCode}`);
  }
}
