/** Streams on a connection: bytes of a console, both ways, behind the call that opened them. */
import { connect, type Socket } from 'node:net';
import { socketIdentity } from '../../host/socketIdentity.ts';
import { Code, Domain, encodeError, LibvirtError } from './errors.ts';
import { type Frame, MAX_PACKET, MessageType, Program, Status, VERSION } from './frames.ts';

/** Bytes that a guest may leave unread before what a client types is lost. */
const MAX_UNWRITTEN = 1 << 20;
/** A guest that restarts has its port anew after a moment. */
const RECONNECT_MS = 100;
/** A socket that is still the same one after this has closed our connection alone: for another client. */
const SAME_MS = 1_000;

const DOMAIN_QEMU = 10;
const nothing = new Uint8Array();

/** Where a guest's port is reached. */
export interface GuestPort {
  /** Of its UNIX socket. */
  readonly path: string;
  /** Whether the guest is still there. */
  alive(): boolean;
}

interface OpenStream {
  readonly serial: number;
  readonly procedure: number;
  readonly port: GuestPort;
  socket: Socket | undefined;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Of the socket that it was connected to, to be told from a later one. */
  identity: string | undefined;
  /** The server's side has ended: the client's answer is awaited. */
  ended: boolean;
}

export class Streams {
  readonly #send: (frame: Frame) => boolean;
  readonly #open = new Map<number, OpenStream>();
  /** Takes a port away from the stream that has it, of whichever connection. */
  readonly #owners: Map<string, () => void>;

  /** @param send a frame; false if it has to wait, as `drained` then tells @param owners of all connections */
  constructor(send: (frame: Frame) => boolean, owners: Map<string, () => void>) {
    this.#send = send;
    this.#owners = owners;
  }

  /**
   * Joins a guest's port to the call of that serial.
   * @throws LibvirtError if another stream has the serial, or has the port, unless `force`
   */
  attach(procedure: number, serial: number, port: GuestPort, force: boolean): void {
    if (this.#open.get(serial)?.ended === false) {
      throw new LibvirtError(Code.rpc, Domain.streams, `the serial ${serial} has a stream already`);
    }
    const takeAway = this.#owners.get(port.path);
    if (takeAway && !force) {
      const message = 'operation failed: Active console session exists for this domain';
      throw new LibvirtError(Code.operationFailed, DOMAIN_QEMU, message);
    }
    takeAway?.();
    const stream: OpenStream = {
      serial,
      procedure,
      port,
      socket: undefined,
      timer: undefined,
      identity: undefined,
      ended: false,
    };
    this.#open.set(serial, stream);
    this.#owners.set(port.path, () => this.#abort(stream, 'stream had I/O failure'));
    this.#connect(stream);
  }

  /** A packet of the client. One for a stream that is gone is dropped. */
  hear({ serial, status, payload }: Frame): void {
    const stream = this.#open.get(serial);
    if (stream === undefined) return;
    if (status === Status.continue) {
      if (stream.socket && stream.socket.writableLength < MAX_UNWRITTEN) stream.socket.write(payload);
      return;
    }
    this.#close(stream);
    this.#packet(stream, Status.ok, nothing);
  }

  /** What was sent has left. */
  drained(): void {
    for (const { socket } of this.#open.values()) socket?.resume();
  }

  closeAll(): void {
    for (const stream of this.#open.values()) this.#close(stream);
  }

  #connect(stream: OpenStream): void {
    const socket = connect({ path: stream.port.path });
    stream.socket = socket;
    socket.on('connect', () => {
      void socketIdentity(stream.port.path).then((identity) => {
        stream.identity = identity;
      });
    });
    socket.on('data', (bytes) => this.#fromGuest(stream, socket, bytes));
    socket.on('error', () => {});
    socket.on('close', () => {
      if (stream.ended || stream.socket !== socket) return;
      stream.socket = undefined;
      this.#reconnectLater(stream, performance.now());
    });
  }

  /** After a restart of the guest, unless another client has taken the port. @param closed when the connection was */
  #reconnectLater(stream: OpenStream, closed: number): void {
    if (!stream.port.alive()) {
      this.#end(stream);
      return;
    }
    stream.timer = setTimeout(async () => {
      const same =
        stream.identity !== undefined && (await socketIdentity(stream.port.path)) === stream.identity;
      if (stream.ended) return;
      if (!same) this.#connect(stream);
      else if (performance.now() - closed < SAME_MS) this.#reconnectLater(stream, closed);
      else this.#abort(stream, 'another client has taken the console');
    }, RECONNECT_MS);
  }

  #fromGuest(stream: OpenStream, socket: Socket, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += MAX_PACKET) {
      const sent = this.#packet(stream, Status.continue, bytes.subarray(at, at + MAX_PACKET));
      if (!sent) socket.pause();
    }
  }

  /** Tells the client, which finishes the stream; one that never does keeps nothing but an entry. */
  #end(stream: OpenStream): void {
    this.#release(stream);
    this.#packet(stream, Status.continue, nothing);
  }

  #abort(stream: OpenStream, reason: string): void {
    this.#close(stream);
    this.#packet(stream, Status.error, encodeError(new LibvirtError(Code.rpc, Domain.streams, reason)));
  }

  #close(stream: OpenStream): void {
    this.#open.delete(stream.serial);
    this.#release(stream);
  }

  #release(stream: OpenStream): void {
    if (stream.ended) return;
    stream.ended = true;
    clearTimeout(stream.timer);
    this.#owners.delete(stream.port.path);
    stream.socket?.destroy();
  }

  #packet({ procedure, serial }: OpenStream, status: number, payload: Uint8Array): boolean {
    const type = MessageType.stream;
    return this.#send({
      program: Program.remote,
      version: VERSION,
      procedure,
      type,
      serial,
      status,
      payload,
    });
  }
}
