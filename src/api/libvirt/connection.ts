/** One client's connection: its calls, their answers in the order in which they are ready, its streams and events. */
import type { Socket } from 'node:net';
import type { Domains } from './domains.ts';
import { Code, Domain, encodeError, LibvirtError, unsupported } from './errors.ts';
import {
  encodeFrame,
  type Frame,
  FrameReader,
  HEADER_ROOM,
  Keepalive,
  MAX_MESSAGE,
  MAX_PAYLOAD,
  MessageType,
  Program,
  Status,
  VERSION,
  writeHeader,
} from './frames.ts';
import { LAST_PROCEDURE, procedures, STORAGE_VOL_LOOKUP_BY_PATH } from './procedures/index.ts';
import type { Procedure } from './procedures/procedure.ts';
import { notOpen, readOnlyRefused, type Session } from './session.ts';
import { KEEPALIVE } from './signatures/constants.ts';
import { Streams } from './streams.ts';
import { XdrError, XdrReader, XdrWriter } from './xdr.ts';

/** Calls of a client at once; it is not listened to beyond that. */
const MAX_CALLS = 5;
/** Calls that have arrived and wait: what one read brought. Beyond it the client is closed. */
const MAX_WAITING = 4_096;
/** Calls of a client that are begun before other clients have their turn. */
const CALLS_IN_A_TURN = 64;
/** Bytes that a client may leave unread before none of its calls is begun. */
const CONGESTED = 1 << 20;
/** Bytes that a client may leave unread, events among them, before it is closed. */
const MAX_UNREAD = 8 << 20;
/** Bytes of a message of a client that has not opened the connection. */
const MAX_EARLY_MESSAGE = 262_144;
/** How long a client may take until it has opened the connection. */
const OPEN_MS = 30_000;

const UNSUPPORTED_PROGRAMS: readonly number[] = [Program.qemu, Program.lxc];

const empty = new Uint8Array();

export interface ConnectionContext {
  readonly domains: Domains;
  readonly readOnly: boolean;
  readonly consoleOwners: Map<string, () => void>;
  /** Called once the client has opened the connection. */
  opened(): void;
  /** Gets warnings for people. */
  warn(message: string): void;
}

export class Connection {
  readonly #socket: Socket;
  readonly #reader = new FrameReader(MAX_EARLY_MESSAGE);
  readonly #session: Session;
  readonly #waiting: Frame[] = [];
  /** Of those that wait, how many have been begun: they are dropped together. */
  #begun = 0;
  #running = 0;
  #turn: ReturnType<typeof setImmediate> | undefined;
  /** What is sent in a turn leaves at its end, together. */
  #together: Uint8Array[] | undefined;
  /** Bytes of that. */
  #togetherSize = 0;
  #keepalive: ReturnType<typeof setInterval> | undefined;
  readonly #opening: ReturnType<typeof setTimeout>;
  #silentFor = 0;
  #opened: (() => void) | undefined;
  readonly #warn: ConnectionContext['warn'];

  constructor(socket: Socket, { domains, readOnly, consoleOwners, opened, warn }: ConnectionContext) {
    this.#socket = socket;
    this.#opened = opened;
    this.#warn = warn;
    const streams = new Streams((frame) => this.#send(frame), consoleOwners);
    this.#session = {
      domains,
      streams,
      readOnlySocket: readOnly,
      send: (procedure, payload) => this.#message(Program.remote, procedure, payload),
      // Whole, once it has left: a client that keeps its side open keeps nothing else.
      end: () => setImmediate(() => socket.end(() => socket.destroy())),
      startKeepalive: () => this.#startKeepalive(),
      opened: false,
      readOnly,
      uri: '',
      callbacks: new Map(),
      nextCallback: 1,
      autoDestroy: new Map(),
      ended: false,
    };
    socket.on('data', (bytes) => this.#hear(bytes));
    socket.on('drain', () => {
      streams.drained();
      this.#startCalls();
    });
    socket.on('error', () => {});
    socket.once('close', () => this.#closed());
    this.#opening = setTimeout(() => {
      if (!this.#session.opened) socket.destroy();
    }, OPEN_MS);
  }

  #hear(bytes: Uint8Array): void {
    this.#silentFor = 0;
    try {
      for (const frame of this.#reader.read(bytes)) {
        this.#dispatch(frame);
        // An open that comes in the same piece is answered before what is behind it is looked at.
        if (!this.#session.opened) this.#startCalls();
        if (this.#session.opened) this.#hasOpened();
      }
      this.#startCalls();
      if (this.#session.opened) this.#hasOpened();
    } catch {
      // What follows cannot be understood.
      this.#socket.destroy();
    }
  }

  #hasOpened(): void {
    this.#reader.limit = MAX_MESSAGE;
    this.#opened?.();
    this.#opened = undefined;
  }

  #dispatch(frame: Frame): void {
    const { program, type, procedure } = frame;
    if (program === Program.keepalive) {
      if (procedure === Keepalive.ping) this.#message(Program.keepalive, Keepalive.pong, empty);
    } else if (type === MessageType.stream) {
      this.#session.streams.hear(frame);
    } else if (type === MessageType.call) {
      this.#waiting.push(frame);
      if (this.#waiting.length - this.#begun > MAX_WAITING) this.#socket.destroy();
    } else {
      // Descriptors would come between the messages, and nothing else is a client's to send.
      this.#socket.destroy();
    }
  }

  /** Others have their turn in between if there are many. */
  #startCalls(): void {
    if (this.#turn) return;
    this.#together = [];
    for (let left = CALLS_IN_A_TURN; left > 0 && this.#mayStart(); left--) {
      this.#answer(this.#waiting[this.#begun++] as Frame);
    }
    if (this.#begun === this.#waiting.length || this.#begun > MAX_WAITING) {
      this.#waiting.splice(0, this.#begun);
      this.#begun = 0;
    }
    const sent = this.#together;
    this.#together = undefined;
    this.#togetherSize = 0;
    if (sent.length > 0) this.#write(sent.length === 1 ? (sent[0] as Uint8Array) : Buffer.concat(sent));
    if (this.#mayStart()) {
      this.#turn = setImmediate(() => {
        this.#turn = undefined;
        this.#startCalls();
      });
    }
    if (this.#waiting.length > this.#begun) this.#socket.pause();
    else this.#socket.resume();
  }

  #mayStart(): boolean {
    const { destroyed, writableLength } = this.#socket;
    const waiting = this.#waiting.length > this.#begun;
    const unread = writableLength + this.#togetherSize;
    return waiting && this.#running < MAX_CALLS && !destroyed && unread < CONGESTED;
  }

  #answer(frame: Frame): void {
    try {
      const procedure = this.#find(frame);
      const args = readArguments(procedure, frame.payload) as never;
      const result = procedure.run({ session: this.#session, args, serial: frame.serial });
      if (result instanceof Promise) this.#answerLater(frame, procedure, result);
      else this.#reply(frame, procedure, result);
    } catch (error) {
      this.#refuse(frame, error);
    }
  }

  #answerLater(frame: Frame, procedure: Procedure, result: Promise<unknown>): void {
    this.#running++;
    result
      .then((value) => this.#reply(frame, procedure, value))
      .catch((error) => this.#refuse(frame, error))
      .finally(() => {
        this.#running--;
        this.#startCalls();
      });
  }

  #reply(frame: Frame, { ret }: Procedure, result: unknown): void {
    const bytes = encodeAnswer(ret, result);
    const { program, version, procedure, serial } = frame;
    const type = MessageType.reply;
    writeHeader(bytes, { program, version, procedure, serial, type, status: Status.ok });
    this.#write(bytes);
  }

  #refuse(frame: Frame, error: unknown): void {
    this.#send({ ...frame, type: MessageType.reply, status: Status.error, payload: encodeError(error) });
  }

  #find({ program, version, procedure: number }: Frame): Procedure {
    if (UNSUPPORTED_PROGRAMS.includes(program) && version === VERSION) {
      throw unsupported(`procedure ${number} of program ${program}`);
    }
    if (program !== Program.remote || version !== VERSION) {
      throw new LibvirtError(Code.rpc, Domain.rpc, `Cannot find program ${program} version ${version}`);
    }
    const procedure = procedures.get(number);
    if (procedure === undefined) throw unknownProcedure(number);
    if (!procedure.early && !this.#session.opened) throw notOpen();
    if (procedure.writes && this.#session.readOnly) throw readOnlyRefused(procedure.api);
    return procedure;
  }

  #send(frame: Frame): boolean {
    return this.#write(encodeFrame(frame));
  }

  /** False if it has to wait for the client. */
  #write(message: Uint8Array): boolean {
    if (this.#together) {
      this.#together.push(message);
      this.#togetherSize += message.length;
      return true;
    }
    if (this.#socket.writableLength > MAX_UNREAD && !this.#socket.destroyed) {
      this.#warn("A client of libvirt's protocol is disconnected: it does not read what it is sent");
      this.#socket.destroy();
    }
    return !this.#socket.destroyed && this.#socket.write(message);
  }

  #message(program: number, procedure: number, payload: Uint8Array): void {
    const type = MessageType.message;
    this.#send({ program, version: VERSION, procedure, type, serial: 0, status: Status.ok, payload });
  }

  #startKeepalive(): void {
    this.#keepalive ??= setInterval(() => {
      // What it may have said is not read while its calls are under way.
      if (this.#socket.isPaused()) this.#silentFor = 0;
      else if (this.#silentFor++ >= KEEPALIVE.count) this.#socket.destroy();
      else if (this.#silentFor > 1) this.#message(Program.keepalive, Keepalive.ping, empty);
    }, KEEPALIVE.intervalMs);
  }

  #closed(): void {
    clearInterval(this.#keepalive);
    clearTimeout(this.#opening);
    clearImmediate(this.#turn);
    this.#session.streams.closeAll();
    for (const unwatch of this.#session.callbacks.values()) unwatch();
    this.#session.ended = true;
    for (const [vm, runId] of this.#session.autoDestroy) {
      if (vm.runId === runId) vm.stop(0, true).catch(() => {});
    }
  }
}

function unknownProcedure(number: number): LibvirtError {
  if (number === STORAGE_VOL_LOOKUP_BY_PATH) {
    return new LibvirtError(
      Code.noStorageVolume,
      18,
      'Storage volume not found: no storage vol with matching path',
    );
  }
  if (number > 0 && number <= LAST_PROCEDURE) return unsupported(`procedure ${number}`);
  return new LibvirtError(Code.rpc, Domain.rpc, `unknown procedure: ${number}`);
}

/** Behind the room for a header. @throws LibvirtError if it is more than a message may have */
function encodeAnswer(ret: Procedure['ret'], result: unknown): Uint8Array {
  const writer = new XdrWriter(HEADER_ROOM, HEADER_ROOM + MAX_PAYLOAD);
  try {
    ret.write(writer, result);
  } catch (error) {
    if (!(error instanceof XdrError)) throw error;
    throw new LibvirtError(Code.rpc, Domain.rpc, `Unable to encode message payload: ${error.message}`);
  }
  return writer.finish();
}

function readArguments(procedure: Procedure, payload: Uint8Array): unknown {
  try {
    return procedure.args.read(new XdrReader(payload));
  } catch (error) {
    if (!(error instanceof XdrError)) throw error;
    throw new LibvirtError(Code.rpc, Domain.rpc, `Unable to decode message payload: ${error.message}`);
  }
}
