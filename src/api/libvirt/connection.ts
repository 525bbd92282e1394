/** One client: its calls, their answers in whichever order they come, its streams and events. */
import type { Socket } from 'node:net';
import type { Domains } from './domains.ts';
import { Code, Domain, encodeError, LibvirtError, unsupported } from './errors.ts';
import {
  encodeFrame,
  type Frame,
  FrameReader,
  Keepalive,
  MessageType,
  Program,
  Status,
  VERSION,
} from './frames.ts';
import { LAST_PROCEDURE, procedures, STORAGE_VOL_LOOKUP_BY_PATH } from './procedures/index.ts';
import type { Procedure } from './procedures/procedure.ts';
import { notOpen, readOnlyRefused, type Session } from './session.ts';
import { Streams } from './streams.ts';
import { XdrError, XdrReader, XdrWriter } from './xdr.ts';

/** Calls of a client at once; it is not listened to beyond that. */
const MAX_CALLS = 5;
/** Calls that have arrived and wait: what one read brought. Beyond it the client is closed. */
const MAX_WAITING = 4_096;
/** Bytes that a client may leave unread, events among them, before it is closed. */
const MAX_UNREAD = 8 << 20;
/** How long a client may take until it has opened the connection. */
const OPEN_MS = 30_000;

const KEEPALIVE_MS = 5_000;
const KEEPALIVE_TRIES = 5;

const empty = new Uint8Array();

export interface ConnectionContext {
  readonly domains: Domains;
  readonly readOnly: boolean;
  readonly consoleOwners: Map<string, () => void>;
}

export class Connection {
  readonly #socket: Socket;
  readonly #domains: Domains;
  readonly #reader = new FrameReader();
  readonly #session: Session;
  readonly #waiting: Frame[] = [];
  #running = 0;
  #keepalive: ReturnType<typeof setInterval> | undefined;
  readonly #opening: ReturnType<typeof setTimeout>;
  #silentFor = 0;

  constructor(socket: Socket, { domains, readOnly, consoleOwners }: ConnectionContext) {
    this.#socket = socket;
    this.#domains = domains;
    const streams = new Streams((frame) => this.#send(frame), consoleOwners);
    this.#session = {
      domains,
      streams,
      readOnlySocket: readOnly,
      send: (procedure, payload) => this.#message(Program.remote, procedure, payload),
      end: () => setImmediate(() => socket.end()),
      startKeepalive: () => this.#startKeepalive(),
      opened: false,
      readOnly,
      uri: '',
      callbacks: new Map(),
      nextCallback: 1,
      autoDestroy: new Set(),
    };
    socket.on('data', (bytes) => this.#hear(bytes));
    socket.on('drain', () => streams.drained());
    socket.on('error', () => {});
    socket.once('close', () => this.#closed());
    this.#opening = setTimeout(() => {
      if (!this.#session.opened) socket.destroy();
    }, OPEN_MS);
  }

  #hear(bytes: Uint8Array): void {
    this.#silentFor = 0;
    try {
      for (const frame of this.#reader.add(bytes)) this.#dispatch(frame);
    } catch {
      // What follows cannot be understood.
      this.#socket.destroy();
    }
  }

  #dispatch(frame: Frame): void {
    const { program, type, procedure } = frame;
    if (program === Program.keepalive) {
      if (procedure === Keepalive.ping) this.#message(Program.keepalive, Keepalive.pong, empty);
    } else if (type === MessageType.stream) {
      this.#session.streams.hear(frame);
    } else if (type === MessageType.call) {
      this.#waiting.push(frame);
      if (this.#waiting.length > MAX_WAITING) this.#socket.destroy();
      this.#startCalls();
    } else {
      // Descriptors would come between the messages, and nothing else is a client's to send.
      this.#socket.destroy();
    }
  }

  #startCalls(): void {
    while (this.#running < MAX_CALLS) {
      const frame = this.#waiting.shift();
      if (frame === undefined) break;
      this.#running++;
      void this.#answer(frame).finally(() => {
        this.#running--;
        this.#startCalls();
      });
    }
    if (this.#waiting.length > 0) this.#socket.pause();
    else this.#socket.resume();
  }

  async #answer(frame: Frame): Promise<void> {
    const reply = (status: number, payload: Uint8Array) =>
      this.#send({ ...frame, type: MessageType.reply, status, payload });
    try {
      const procedure = this.#find(frame);
      const args = readArguments(procedure, frame.payload) as never;
      const result = await procedure.run({ session: this.#session, args, serial: frame.serial });
      const writer = new XdrWriter();
      procedure.ret.write(writer, result);
      reply(Status.ok, writer.finish());
    } catch (error) {
      reply(Status.error, encodeError(error));
    }
  }

  #find({ program, version, procedure: number }: Frame): Procedure {
    if (program !== Program.remote || version !== VERSION) {
      throw new LibvirtError(Code.rpc, Domain.rpc, `Cannot find program ${program} version ${version}`);
    }
    const procedure = procedures.get(number);
    if (procedure === undefined) throw unknownProcedure(number);
    if (!procedure.early && !this.#session.opened) throw notOpen();
    if (procedure.writes && this.#session.readOnly) throw readOnlyRefused(procedure.api);
    return procedure;
  }

  /** False if it has to wait for the client. */
  #send(frame: Frame): boolean {
    if (this.#socket.writableLength > MAX_UNREAD) this.#socket.destroy();
    return !this.#socket.destroyed && this.#socket.write(encodeFrame(frame));
  }

  #message(program: number, procedure: number, payload: Uint8Array): void {
    const type = MessageType.message;
    this.#send({ program, version: VERSION, procedure, type, serial: 0, status: Status.ok, payload });
  }

  #startKeepalive(): void {
    this.#keepalive ??= setInterval(() => {
      if (this.#silentFor++ >= KEEPALIVE_TRIES) this.#socket.destroy();
      else if (this.#silentFor > 1) this.#message(Program.keepalive, Keepalive.ping, empty);
    }, KEEPALIVE_MS);
  }

  #closed(): void {
    clearInterval(this.#keepalive);
    clearTimeout(this.#opening);
    this.#session.streams.closeAll();
    for (const unwatch of this.#session.callbacks.values()) unwatch();
    for (const uuid of this.#session.autoDestroy) this.#destroy(uuid);
  }

  #destroy(uuid: string): void {
    try {
      this.#domains
        .byUuid(uuid)
        .stop(0, true)
        .catch(() => {});
    } catch {
      // It has gone before.
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

function readArguments(procedure: Procedure, payload: Uint8Array): unknown {
  try {
    return procedure.args.read(new XdrReader(payload));
  } catch (error) {
    if (!(error instanceof XdrError)) throw error;
    throw new LibvirtError(Code.rpc, Domain.rpc, `Unable to decode message payload: ${error.message}`);
  }
}
