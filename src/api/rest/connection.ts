/** One client's connection: requests are answered in order, one at a time. */

import type { Abortable } from '../../host/abort.ts';
import type { NativeAddon, StreamServerHandle } from '../../native.ts';
import type { EventLog } from '../../vmm/eventLog.ts';
import { Descriptors } from './descriptors.ts';
import type { ApiVmm } from './endpoint.ts';
import { answerRequest } from './endpoints.ts';
import type { ErrorStyle } from './errorStyle.ts';
import { EventStream, type EventsRequest } from './eventStream.ts';
import { HttpParseError, HttpParser, type HttpRequest } from './httpRequest.ts';
import { type Answer, encodeAnswer, encodeContinue } from './httpResponse.ts';
import type { MemoryBudget } from './memoryBudget.ts';
import type { RememberedAnswers } from './rememberedAnswers.ts';

/**
 * How long a request may take to arrive, and what is written at once to be taken. How long the server takes is not
 * counted.
 */
const DEADLINE_MS = 10_000;
/** Requests of one connection that are answered before others have their turn. */
const TURN = 16;
/** Requests of a client that has left that are carried out all the same; what it sent beyond is dropped. */
const MAX_UNHEARD = 16;
/** Longer requests are not worth remembering. */
const MAX_REMEMBERED = 1024;

export type Streams = Pick<
  NativeAddon,
  'streamTake' | 'streamWrite' | 'streamRest' | 'streamEnd' | 'streamAbort' | 'closeFile'
>;

/** What all connections of a server have in common. */
export interface ConnectionContext {
  readonly vmm: ApiVmm;
  readonly streams: Streams;
  readonly server: StreamServerHandle;
  readonly events: EventLog | undefined;
  readonly errors: ErrorStyle;
  /** Undefined where the core has no part in a connection. */
  readonly remembered: RememberedAnswers | undefined;
  /** Of bodies that are on their way. */
  readonly bodies: MemoryBudget;
  /** Called whenever an answer was given, or has left, and no other request waits. */
  readonly onQuiet: () => void;
}

export class Connection implements Abortable {
  readonly #context: ConnectionContext;
  readonly #id: number;
  readonly #parser: HttpParser;
  /** Came with a part of the request that is arriving. */
  readonly #descriptors: Descriptors;
  /** Came with what was taken last: they are of the request that its last byte belongs to. */
  readonly #lastDescriptors: Descriptors;
  /** A request is being carried out. */
  #busy = false;
  /** Bytes that were written wait for the client to read. */
  #waiting = false;
  /** The core has more for the parser. */
  #readable = false;
  /** Goes on in a turn of its own. */
  #scheduled = false;
  /** The client will send no more. */
  #ended = false;
  /** Nor will it read. */
  #gone = false;
  /** The same, though there may be more of what it sent. */
  #left = false;
  /** No more requests are taken. */
  #finished = false;
  /** Answers whose client had left. */
  #unheard = 0;
  /** Of the request that is being carried out, if it asked for its signal. */
  #abandonment: AbortController | undefined;
  /** Instead of further answers. */
  #events: EventStream | undefined;
  #deadline: NodeJS.Timeout | undefined;
  /** What was taken last, if that was all that the parser has. */
  #wholeInput: Uint8Array | undefined;

  constructor(context: ConnectionContext, id: number) {
    this.#context = context;
    this.#id = id;
    this.#descriptors = new Descriptors(context.streams);
    this.#lastDescriptors = new Descriptors(context.streams);
    const { bodies, errors } = context;
    this.#parser = new HttpParser(bodies, () => this.#write(encodeContinue()), errors.anyMethod);
  }

  /** True while a request is being carried out, or its answer has not left. */
  get busy(): boolean {
    return this.#busy || this.#waiting;
  }

  /** Of the request that is being carried out: aborted when the client leaves. */
  get signal(): AbortSignal {
    this.#abandonment ??= new AbortController();
    if (this.#gone || this.#left) this.#abandonment.abort();
    return this.#abandonment.signal;
  }

  /** True once no more requests are taken. */
  get finished(): boolean {
    return this.#finished;
  }

  received(): void {
    this.#readable = true;
    if (this.#events) this.#passOver();
    else if (this.#busy) this.#lookAfterClient();
    else this.#work();
  }

  drained(): void {
    this.#waiting = false;
    this.#stopDeadline();
    this.#events?.drained();
    this.#work();
  }

  /** Told while a request is carried out, also if other requests wait behind it. */
  gone(): void {
    this.#left = true;
    this.#abandonment?.abort();
  }

  closed(): void {
    this.#gone = true;
    this.#abandonment?.abort();
    this.#finished = true;
    this.#dispose();
  }

  /** Takes no further request, and closes once everything written has left. */
  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#dispose();
    this.#context.streams.streamEnd(this.#context.server, this.#id);
    // A client that does not read is not waited for without end.
    if (this.#waiting) this.#startDeadline();
  }

  /** Writes and closes. */
  refuse(bytes: Uint8Array): void {
    if (this.#finished) return;
    this.#write(bytes);
    this.finish();
  }

  #work(): void {
    for (let count = 0; this.#mayGoOn(); count++) {
      if (this.#unheard >= MAX_UNHEARD) {
        this.finish();
        break;
      }
      if (count === TURN) {
        this.#scheduleWork();
        return;
      }
      const request = this.#nextRequest();
      if (request === undefined) break;
      this.#answer(request);
    }
    this.#settle();
  }

  #mayGoOn(): boolean {
    return !this.#finished && !this.#busy && !this.#waiting && !this.#scheduled && !this.#events;
  }

  #scheduleWork(): void {
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#work();
    });
  }

  #nextRequest(): HttpRequest | undefined {
    try {
      for (;;) {
        const request = this.#parser.next();
        if (request !== undefined || !this.#take()) return request;
      }
    } catch (error) {
      if (!(error instanceof HttpParseError)) throw error;
      this.refuse(this.#context.errors.encodeParseError(error));
      return undefined;
    }
  }

  /** Hands the parser what has come meanwhile. False if nothing has. */
  #take(): boolean {
    if (!this.#readable) return false;
    const { streams, server } = this.#context;
    const { bytes, descriptors, more, ended, gone } = streams.streamTake(server, this.#id);
    this.#readable = more;
    this.#descriptors.add(this.#lastDescriptors.take());
    this.#lastDescriptors.add(descriptors);
    if (ended || gone) this.#ended = true;
    this.#gone = gone;
    const isWhole = this.#parser.idle && descriptors.length === 0 && bytes.length <= MAX_REMEMBERED;
    this.#wholeInput = isWhole ? bytes : undefined;
    this.#parser.push(bytes);
    return bytes.length > 0;
  }

  #answer(request: HttpRequest): void {
    // It has arrived. Whatever follows has a deadline of its own, once the client is waited for again.
    this.#stopDeadline();
    const input = this.#parser.idle ? this.#wholeInput : undefined;
    this.#wholeInput = undefined;
    const descriptors = this.#descriptors.split();
    if (this.#parser.idle) descriptors.add(this.#lastDescriptors.take());
    const { vmm, events, errors } = this.#context;
    const answer = answerRequest(vmm, request, descriptors, { events, errors, client: this });
    if (answer instanceof Promise) {
      this.#wait(request, answer, descriptors);
      return;
    }
    descriptors.close();
    if (answer.lasting && input && !this.#endsWith(request))
      this.#context.remembered?.add(input, request, answer);
    this.#send(request, answer);
    if (answer.events) this.#startEvents(answer.events);
  }

  #endsWith(request: HttpRequest): boolean {
    return request.isLast === true && this.#context.errors.closesOnRequest;
  }

  #send(request: HttpRequest, answer: Answer): void {
    const isLast = this.#endsWith(request);
    this.#write(encodeAnswer(answer, isLast));
    if (isLast && !answer.events) this.finish();
  }

  #startEvents(request: EventsRequest): void {
    this.#events = new EventStream(request, (text) => {
      this.#write(Buffer.from(text));
      if (this.#events) this.#watchClient();
      return !this.#waiting;
    });
    this.#passOver();
  }

  /** A client that listens has nothing more to say; it may leave. */
  #passOver(): void {
    const { streams, server } = this.#context;
    while (this.#readable) {
      const { descriptors, more, gone } = streams.streamTake(server, this.#id);
      this.#readable = more;
      for (const fd of descriptors) streams.closeFile(fd);
      if (gone) this.finish();
    }
  }

  #wait(request: HttpRequest, answer: Promise<Answer>, descriptors: Descriptors): void {
    this.#busy = true;
    answer.then((value) => {
      descriptors.close();
      this.#abandonment = undefined;
      this.#busy = false;
      if (!this.#finished) this.#send(request, value);
      this.#work();
    });
    this.#lookAfterClient();
  }

  /**
   * Of a client that is to wait, for a guest perhaps: if it leaves, what it asked for goes on, but has no place among
   * the connections any more, and does not wait. What it had sent beyond that is carried out in its turn; no more of it
   * is taken before.
   */
  #lookAfterClient(): void {
    while (this.#parser.idle && this.#take());
    if (!this.#gone) return;
    this.#abandonment?.abort();
    if (this.#parser.idle) this.finish();
  }

  #write(bytes: Uint8Array): void {
    const { streams, server } = this.#context;
    const written = streams.streamWrite(server, this.#id, bytes);
    if (written === 'waiting') this.#waiting = true;
    if (written === 'lost') this.#unheard++;
  }

  /** After as much as can be done for now. */
  #settle(): void {
    if (this.#scheduled) return;
    if (!this.#finished) this.#watchClient();
    if (!this.busy) this.#context.onQuiet();
  }

  #watchClient(): void {
    if (this.#busy) {
      this.#stopDeadline();
    } else if (this.#waiting) {
      this.#startDeadline();
    } else if (this.#events) {
      this.#stopDeadline();
    } else if (this.#ended) {
      this.finish();
    } else if (!this.#parser.idle) {
      this.#startDeadline();
    } else if (this.#context.streams.streamRest(this.#context.server, this.#id)) {
      this.#stopDeadline();
    } else {
      // A remembered answer.
      this.#waiting = true;
      this.#startDeadline();
    }
  }

  #startDeadline(): void {
    this.#deadline ??= setTimeout(() => this.#late(), DEADLINE_MS);
  }

  #stopDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
  }

  #late(): void {
    this.#deadline = undefined;
    if (this.#waiting) {
      this.#finished = true;
      this.#dispose();
      this.#context.streams.streamAbort(this.#context.server, this.#id);
      return;
    }
    const seconds = DEADLINE_MS / 1000;
    const error = new HttpParseError(`The request did not arrive within ${seconds} s.`, 'late');
    this.refuse(this.#context.errors.encodeParseError(error));
  }

  #dispose(): void {
    this.#events?.close();
    this.#stopDeadline();
    this.#parser.release();
    this.#descriptors.close();
    this.#lastDescriptors.close();
  }
}
