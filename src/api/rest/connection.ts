/** One client: requests in, answers out, in order and one at a time. */
import type { StreamConnection, StreamHandlers } from '../../host/listen.ts';
import { type ApiVmm, answerRequest } from './endpoints.ts';
import { HttpParseError, HttpParser, type HttpRequest } from './httpRequest.ts';
import { type Answer, encodeAnswer, encodeContinue, encodeParseError } from './httpResponse.ts';

/** Pipelined bytes that may wait behind a slow request before reading stops. */
const MAX_WAITING = 64 * 1024;

export class Connection implements StreamHandlers {
  /** Milliseconds on the monotonic clock when the client last sent something. */
  lastActive: number = performance.now();

  readonly #vmm: ApiVmm;
  readonly #stream: StreamConnection;
  readonly #parser: HttpParser;
  readonly #onClosed: () => void;
  readonly #onIdle: () => void;
  #busy = false;
  #paused = false;
  /** No more requests are taken. */
  #finished = false;
  /** The peer will send no more. */
  #peerEnded = false;

  /**
   * @param onClosed called once, when the connection is gone
   * @param onIdle called whenever an answer was given, or has left, and no other request waits
   */
  constructor(vmm: ApiVmm, stream: StreamConnection, onClosed: () => void, onIdle: () => void) {
    this.#vmm = vmm;
    this.#stream = stream;
    this.#onClosed = onClosed;
    this.#onIdle = onIdle;
    this.#parser = new HttpParser(() => stream.write(encodeContinue()));
  }

  /** True while a request is being carried out, or its answer has not left. */
  get busy(): boolean {
    return this.#busy || this.#stream.waiting;
  }

  /** True if nothing was received that has not been answered. */
  get idle(): boolean {
    return !this.busy && this.#parser.idle;
  }

  data(bytes: Uint8Array): void {
    if (this.#finished) return;
    this.lastActive = performance.now();
    this.#parser.push(bytes);
    if (!this.#busy) this.#work();
    else if (this.#parser.buffered > MAX_WAITING) this.#pause();
  }

  ended(): void {
    this.#peerEnded = true;
    if (!this.#busy) this.finish();
  }

  drained(): void {
    this.#onIdle();
  }

  closed(): void {
    this.#finished = true;
    this.#onClosed();
  }

  /** Closes once everything written has left. */
  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#stream.end();
  }

  #work(): void {
    while (!this.#finished && !this.#busy) {
      const request = this.#nextRequest();
      if (request === undefined) break;
      const answer = answerRequest(this.#vmm, request);
      if (answer instanceof Promise) this.#wait(answer);
      else this.#stream.write(encodeAnswer(answer));
    }
    if (this.#busy) return;
    this.#resume();
    if (this.#peerEnded) this.finish();
    this.#onIdle();
  }

  #nextRequest(): HttpRequest | undefined {
    try {
      return this.#parser.next();
    } catch (error) {
      if (!(error instanceof HttpParseError)) throw error;
      this.#stream.write(encodeParseError(error.message));
      this.finish();
      return undefined;
    }
  }

  #wait(answer: Promise<Answer>): void {
    this.#busy = true;
    answer.then((value) => {
      this.#busy = false;
      if (!this.#finished) this.#stream.write(encodeAnswer(value));
      this.#work();
    });
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#stream.pause();
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#stream.resume();
  }
}
