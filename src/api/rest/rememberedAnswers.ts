/**
 * Requests that come again and again, byte for byte, and that the core answers without asking. When something changes,
 * it gets the new answers at once: else all clients that ask at that moment would wait for JavaScript, one after the
 * other.
 */
import type { NativeAddon, StreamServerHandle } from '../../native.ts';
import { countersText } from './countersAnswer.ts';
import type { HttpRequest } from './httpRequest.ts';
import { type Answer, encodeAnswer, type LiveCounters } from './httpResponse.ts';
import { memoryText } from './memoryAnswer.ts';

export type RememberingStreams = Pick<
  NativeAddon,
  'streamRemember' | 'streamRememberMemory' | 'streamRememberCounters' | 'streamForget'
>;

/** As many as the core keeps. */
const MAX_REQUESTS = 32;

interface Remembered {
  readonly bytes: Uint8Array;
  readonly request: HttpRequest;
}

export class RememberedAnswers {
  readonly #streams: RememberingStreams;
  readonly #server: StreamServerHandle;
  readonly #answer: (request: HttpRequest) => Answer | undefined;
  /** In the order in which they came. */
  readonly #requests: Remembered[] = [];

  /** @param answer what a request has for an answer now, undefined if that is not known at once */
  constructor(
    streams: RememberingStreams,
    server: StreamServerHandle,
    answer: (request: HttpRequest) => Answer | undefined,
  ) {
    this.#streams = streams;
    this.#server = server;
    this.#answer = answer;
  }

  /** @param bytes all of `request`, and nothing else */
  add(bytes: Uint8Array, request: HttpRequest, answer: Answer): void {
    const isKnown = this.#requests.some((one) => Buffer.compare(one.bytes, bytes) === 0);
    if (!isKnown) this.#requests.push({ bytes, request });
    if (this.#requests.length > MAX_REQUESTS) this.#forgetOldest();
    this.#give(bytes, answer);
  }

  /** Answers may be others than before. */
  refresh(): void {
    const answers = new Map<string, Answer | undefined>();
    for (const { bytes, request } of this.#requests) {
      const { path } = request;
      if (!answers.has(path)) answers.set(path, this.#answer(request));
      const answer = answers.get(path);
      if (answer?.lasting) this.#give(bytes, answer);
      else this.#streams.streamForget(this.#server, bytes);
    }
  }

  /** The core may have room for it still, and would give its answer for ever. */
  #forgetOldest(): void {
    const oldest = this.#requests.shift();
    if (oldest) this.#streams.streamForget(this.#server, oldest.bytes);
  }

  #give(bytes: Uint8Array, answer: Answer): void {
    const { memory, counters } = answer;
    if (counters) this.#giveCounters(bytes, counters);
    else if (memory) {
      const text = memoryText(memory);
      this.#streams.streamRememberMemory(this.#server, bytes, memory.machine, text);
    } else this.#streams.streamRemember(this.#server, bytes, encodeAnswer(answer));
  }

  #giveCounters(bytes: Uint8Array, { machine, values }: LiveCounters): void {
    try {
      this.#streams.streamRememberCounters(this.#server, bytes, machine, countersText(values));
    } catch {
      // A driver may have told of more meanwhile. The next who asks gets those, too.
      this.#streams.streamForget(this.#server, bytes);
    }
  }
}
