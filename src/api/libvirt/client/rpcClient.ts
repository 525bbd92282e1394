/** The client's end of the protocol: calls, their answers in any order, events, streams and keepalive. */
import type { Abortable } from '../../../host/abort.ts';
import {
  encodeFrame,
  type Frame,
  FrameError,
  FrameReader,
  Keepalive,
  MAX_PAYLOAD,
  MessageType,
  Program,
  Status,
  VERSION,
} from '../frames.ts';
import { Code, Domain, errorBody, LibvirtError } from '../libvirtError.ts';
import type { Answer, Fields, Signature } from '../signatures/signature.ts';
import type { StructOf } from '../types.ts';
import { XdrError, XdrReader, XdrWriter } from '../xdr.ts';
import { afterMs } from './deadline.ts';
import { Heartbeat, type KeepaliveOptions } from './heartbeat.ts';
import { LibvirtStream, type StreamChannel } from './libvirtStream.ts';
import type { Transport } from './transport.ts';

export interface CallOptions extends Abortable {
  /** Milliseconds that the answer may take; `Infinity` for no limit. What was begun goes on. */
  readonly timeoutMs?: number | undefined;
}

/** Calls that were given up, whose answers may still come. */
const MAX_GIVEN_UP = 4_096;
/** Bytes of answers to a peer that does not read them. */
const MAX_UNSENT = 8 << 20;
const MAX_SERIAL = 2 ** 32;
const empty = new Uint8Array();

interface Pending {
  readonly procedure: number;
  /** Takes the reply. */
  settle(frame: Frame): void;
  /** The connection has ended. */
  fail(error: Error): void;
}

/** Gets messages that answer no call. */
type MessageListener = (procedure: number, payload: Uint8Array) => void;

export interface RpcOptions {
  /** For calls that have no time of their own, in milliseconds. */
  readonly timeoutMs: number;
  readonly onMessage: MessageListener;
}

export class RpcClient {
  /** Resolves when the connection has ended: why, and whether this side has closed it. Never rejects. */
  readonly ended: Promise<{ readonly error: LibvirtError; readonly closed: boolean }>;
  readonly #transport: Transport;
  readonly #options: RpcOptions;
  readonly #reader = new FrameReader();
  readonly #pending = new Map<number, Pending>();
  /** Serials of calls that were given up, whose answers are dropped. */
  readonly #givenUp = new Map<number, Pending>();
  readonly #streams = new Map<number, LibvirtStream>();
  /** Streams that are not read: nothing is taken from the transport meanwhile. */
  readonly #full = new Set<number>();
  #heartbeat: Heartbeat | undefined;
  #serial = 0;
  #end: LibvirtError | undefined;
  #resolveEnded: (end: { error: LibvirtError; closed: boolean }) => void = () => {};

  constructor(transport: Transport, options: RpcOptions) {
    this.#transport = transport;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    const { input, output } = transport;
    const lost = () => this.#lost();
    input.on('data', (bytes: Uint8Array) => this.#hear(bytes));
    input.once('end', lost).once('close', lost).on('error', lost);
    output.once('close', lost).on('error', lost);
    input.resume();
  }

  /** @throws LibvirtError if the daemon refuses, does not answer in time, or is gone; the signal's reason */
  call<A extends Fields, R extends Fields>(
    signature: Signature<A, R>,
    args: StructOf<A>,
    options: CallOptions = {},
  ): Promise<Answer<R>> {
    return this.#call(signature, args, options, { taken: (answer) => answer });
  }

  /**
   * As `call`, for answers that change what the messages behind them mean: `taken` has seen it before they are heard.
   */
  callAnd<A extends Fields, R extends Fields, T>(
    signature: Signature<A, R>,
    args: StructOf<A>,
    options: CallOptions,
    handlers: { taken(answer: Answer<R>): T; tooLate?(answer: Answer<R>): void },
  ): Promise<T> {
    return this.#call(signature, args, options, handlers);
  }

  /** A call that opens a stream. */
  async openStream<A extends Fields, R extends Fields>(
    signature: Signature<A, R>,
    args: StructOf<A>,
    options: CallOptions = {},
  ): Promise<{ readonly stream: LibvirtStream; readonly answer: Answer<R> }> {
    return this.#call(signature, args, options, {
      taken: (answer, serial) => ({ stream: this.#addStream(signature.number, serial), answer }),
      tooLate: (_, serial) => this.#addStream(signature.number, serial).destroy(),
    });
  }

  startKeepalive(options: KeepaliveOptions): void {
    this.#heartbeat ??= new Heartbeat(
      options,
      () => this.#message(Program.keepalive, Keepalive.ping),
      () => this.#fail(lostError(`connection closed due to keepalive timeout`)),
    );
  }

  /** Ends everything at once, with what is pending. */
  close(): void {
    this.#fail(closedError(), true);
  }

  /** Ends everything because of what the peer said or did. */
  fail(message: string): void {
    this.#fail(lostError(message));
  }

  #call<A extends Fields, R extends Fields, T>(
    signature: Signature<A, R>,
    args: StructOf<A>,
    { signal, timeoutMs = this.#options.timeoutMs }: CallOptions,
    handlers: {
      taken(answer: Answer<R>, serial: number): T;
      tooLate?(answer: Answer<R>, serial: number): void;
    },
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (this.#end) throw closedError();
      const payload = encodeArguments(signature, args);
      const serial = this.#nextSerial();
      const giveUp = (reason: unknown) => {
        stopWaiting();
        reject(reason);
        this.#giveUp(serial, {
          procedure: signature.number,
          fail: () => {},
          settle: (frame) => this.#settleLate(signature, frame, handlers.tooLate),
        });
      };
      const stopWaiting = watchDeadline(signal, timeoutMs, signature.api, giveUp);
      this.#pending.set(serial, {
        procedure: signature.number,
        settle: (frame) => {
          stopWaiting();
          try {
            if (frame.status !== Status.ok) throw decodeError(frame.payload);
            resolve(handlers.taken(decodeAnswer(signature, frame), serial));
          } catch (error) {
            reject(error);
          }
        },
        fail: (error) => {
          stopWaiting();
          reject(error);
        },
      });
      this.#send({ ...header(signature.number, MessageType.call, serial), payload });
    });
  }

  #settleLate<A extends Fields, R extends Fields>(
    signature: Signature<A, R>,
    frame: Frame,
    tooLate: ((answer: Answer<R>, serial: number) => void) | undefined,
  ): void {
    if (frame.status !== Status.ok || tooLate === undefined) return;
    try {
      tooLate(decodeAnswer(signature, frame), frame.serial);
    } catch (error) {
      // There is no call to be rejected.
      this.fail((error as Error).message);
    }
  }

  #giveUp(serial: number, late: Pending): void {
    this.#pending.delete(serial);
    this.#givenUp.set(serial, late);
    if (this.#givenUp.size > MAX_GIVEN_UP) this.fail('the daemon does not answer');
  }

  #nextSerial(): number {
    do {
      this.#serial = (this.#serial + 1) % MAX_SERIAL;
    } while (
      this.#pending.has(this.#serial) ||
      this.#givenUp.has(this.#serial) ||
      this.#streams.has(this.#serial)
    );
    return this.#serial;
  }

  #hear(bytes: Uint8Array): void {
    this.#heartbeat?.heard();
    try {
      for (const frame of this.#reader.add(bytes)) {
        if (this.#end) return;
        this.#dispatch(frame);
      }
    } catch (error) {
      if (!(error instanceof FrameError) && !(error instanceof XdrError)) throw error;
      this.fail(`the daemon cannot be understood: ${error.message}`);
    }
  }

  #dispatch(frame: Frame): void {
    const { program, version, type, procedure } = frame;
    if (program === Program.keepalive) {
      if (procedure === Keepalive.ping) this.#message(Program.keepalive, Keepalive.pong);
    } else if (program !== Program.remote || version !== VERSION) {
      throw new XdrError(`a message of program ${program} version ${version}`);
    } else if (type === MessageType.reply) {
      this.#reply(frame);
    } else if (type === MessageType.message) {
      this.#options.onMessage(procedure, frame.payload);
    } else if (type === MessageType.stream) {
      this.#streams.get(frame.serial)?.hear(frame.status, frame.payload);
    } else if (type === MessageType.streamHole) {
      // No stream with holes was asked for.
      this.#streams
        .get(frame.serial)
        ?.destroy(new LibvirtError(Code.rpc, Domain.streams, 'a hole in a stream'));
    } else {
      throw new XdrError(`a message of type ${type}`);
    }
  }

  #reply(frame: Frame): void {
    const { serial, procedure, status } = frame;
    const waiting = this.#pending.get(serial) ?? this.#givenUp.get(serial);
    if (waiting === undefined) throw new XdrError(`an answer to no call (serial ${serial})`);
    if (waiting.procedure !== procedure)
      throw new XdrError(`an answer to procedure ${procedure} that was not called`);
    if (status !== Status.ok && status !== Status.error) throw new XdrError(`an answer of status ${status}`);
    this.#pending.delete(serial);
    this.#givenUp.delete(serial);
    waiting.settle(frame);
  }

  #addStream(procedure: number, serial: number): LibvirtStream {
    const channel: StreamChannel = {
      send: (status, payload, sent) =>
        this.#send({ ...header(procedure, MessageType.stream, serial), status, payload }, sent),
      setFull: (full) => this.#setFull(serial, full),
      decodeError,
      forget: () => {
        this.#streams.delete(serial);
        this.#setFull(serial, false);
      },
    };
    const stream = new LibvirtStream(channel);
    this.#streams.set(serial, stream);
    return stream;
  }

  #setFull(serial: number, full: boolean): void {
    if (full) this.#full.add(serial);
    else this.#full.delete(serial);
    this.#heartbeat?.hold(this.#full.size > 0);
    if (this.#full.size > 0) this.#transport.input.pause();
    else if (!this.#end) this.#transport.input.resume();
  }

  #message(program: number, procedure: number): void {
    this.#send({ ...header(procedure, MessageType.message, 0), program, payload: empty });
    if (this.#transport.output.writableLength > MAX_UNSENT) this.fail('the daemon asks and does not read');
  }

  #send(frame: Frame, sent?: () => void): void {
    if (!this.#end) this.#transport.output.write(encodeFrame(frame), sent && (() => sent()));
  }

  #lost(): void {
    if (this.#end) return;
    void this.#transport.reason().then((reason) => {
      this.#fail(lostError(`End of file while reading data${reason === undefined ? '' : `: ${reason}`}`));
    });
  }

  #fail(error: LibvirtError, closed = false): void {
    if (this.#end) return;
    this.#end = error;
    this.#heartbeat?.stop();
    this.#transport.close();
    for (const { fail } of this.#pending.values()) fail(error);
    this.#pending.clear();
    this.#givenUp.clear();
    for (const stream of this.#streams.values()) stream.destroy(closed ? undefined : error);
    this.#resolveEnded({ error, closed });
  }
}

function header(procedure: number, type: number, serial: number): Omit<Frame, 'payload'> {
  return { program: Program.remote, version: VERSION, procedure, type, serial, status: Status.ok };
}

/** Watches a signal and the clock. @returns what ends the watching */
function watchDeadline(
  signal: AbortSignal | undefined,
  timeoutMs: number,
  api: string,
  giveUp: (reason: unknown) => void,
): () => void {
  const abort = () => giveUp(signal?.reason);
  const late = () =>
    giveUp(
      new LibvirtError(
        Code.operationTimeout,
        Domain.rpc,
        `Timed out during operation: no answer to ${api} within ${timeoutMs} ms`,
      ),
    );
  const stop = afterMs(timeoutMs, late);
  signal?.addEventListener('abort', abort);
  return () => {
    stop();
    signal?.removeEventListener('abort', abort);
  };
}

function encodeArguments<A extends Fields, R extends Fields>(
  { args }: Signature<A, R>,
  values: StructOf<A>,
): Uint8Array {
  const writer = new XdrWriter();
  try {
    args.write(writer, values);
  } catch (error) {
    if (!(error instanceof XdrError) && !(error instanceof RangeError)) throw error;
    throw new LibvirtError(Code.invalidArgument, Domain.rpc, `invalid argument: ${error.message}`);
  }
  const payload = writer.finish();
  if (payload.length <= MAX_PAYLOAD) return payload;
  throw new LibvirtError(
    Code.overflow,
    Domain.rpc,
    `a call of ${payload.length} bytes, more than ${MAX_PAYLOAD}`,
  );
}

function decodeAnswer<A extends Fields, R extends Fields>(
  { ret, api }: Signature<A, R>,
  frame: Frame,
): Answer<R> {
  try {
    return ret.read(new XdrReader(frame.payload));
  } catch (error) {
    const { message } = error as Error;
    throw new LibvirtError(
      Code.rpc,
      Domain.rpc,
      `Unable to decode message payload: ${api} answered with ${message}`,
    );
  }
}

function decodeError(payload: Uint8Array): LibvirtError {
  try {
    const { code, domain, message, level } = errorBody.read(new XdrReader(payload));
    return new LibvirtError(code, domain, message ?? `error ${code}`, level);
  } catch (error) {
    const { message } = error as Error;
    return new LibvirtError(
      Code.rpc,
      Domain.rpc,
      `Unable to decode message payload: an error with ${message}`,
    );
  }
}

function closedError(): LibvirtError {
  return new LibvirtError(Code.internal, Domain.rpc, 'internal error: client socket is closed');
}

function lostError(what: string): LibvirtError {
  return new LibvirtError(Code.systemError, Domain.rpc, what);
}
