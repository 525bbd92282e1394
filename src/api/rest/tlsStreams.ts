/**
 * Connections over TLS in the way in which the addon has those of UNIX sockets, so that the same code serves both, with
 * the same limits. Loaded only when asked for.
 */
import type { TLSSocket } from 'node:tls';
import type { StreamEvent, StreamReceived, StreamServerHandle, StreamWritten } from '../../native.ts';
import type { Streams } from './connection.ts';
import type { ServerStreams } from './server.ts';

/** Bytes of one connection that are received and not taken; reading stops there. */
const MAX_UNTAKEN = 64 * 1024;

interface TlsConnection {
  readonly socket: TLSSocket;
  input: Uint8Array[];
  inputSize: number;
  /** 'received' was told, and not everything is taken yet. */
  told: boolean;
  /** Nothing is to be answered. */
  resting: boolean;
  ended: boolean;
  gone: boolean;
  ending: boolean;
  lastActive: number;
}

type TlsServerStreams = Streams & Pick<ServerStreams, 'streamLongestIdle' | 'closeStreams'>;

export class TlsStreams implements TlsServerStreams {
  /** There is one server; its handle has no meaning. */
  readonly handle = {} as StreamServerHandle;
  readonly closeFile: Streams['closeFile'];
  readonly #connections = new Map<number, TlsConnection>();
  readonly #onEvent: (connection: number, event: StreamEvent) => void;
  #lastId = 0;

  constructor(onEvent: (connection: number, event: StreamEvent) => void, closeFile: Streams['closeFile']) {
    this.#onEvent = onEvent;
    this.closeFile = closeFile;
  }

  /** @param socket of a client that was admitted */
  add(socket: TLSSocket): void {
    const id = ++this.#lastId;
    const connection: TlsConnection = {
      socket,
      input: [],
      inputSize: 0,
      told: false,
      resting: true,
      ended: false,
      gone: false,
      ending: false,
      lastActive: performance.now(),
    };
    this.#connections.set(id, connection);
    socket.on('data', (bytes: Uint8Array) => this.#received(id, connection, bytes));
    socket.on('end', () => {
      connection.ended = true;
      this.#tell(id, connection);
    });
    // 'close' follows.
    socket.on('error', () => {});
    socket.on('close', () => this.#closed(id, connection));
    this.#onEvent(id, 'opened');
  }

  streamTake(_server: StreamServerHandle, id: number): StreamReceived {
    const connection = this.#connections.get(id);
    if (connection === undefined)
      return { bytes: new Uint8Array(), descriptors: [], more: false, ended: true, gone: true };
    const bytes = connection.input.shift() ?? new Uint8Array();
    connection.inputSize -= bytes.length;
    const more = connection.input.length > 0;
    if (!more) {
      connection.told = false;
      if (!connection.ending) connection.socket.resume();
    }
    return { bytes, descriptors: [], more, ended: !more && connection.ended, gone: connection.gone };
  }

  streamWrite(_server: StreamServerHandle, id: number, bytes: Uint8Array): StreamWritten {
    const connection = this.#connections.get(id);
    if (connection === undefined || connection.gone) return 'lost';
    connection.socket.write(bytes, () => {
      if (this.#isWritten(connection) && !connection.ending) this.#onEvent(id, 'drained');
    });
    return this.#isWritten(connection) ? 'left' : 'waiting';
  }

  streamRest(_server: StreamServerHandle, id: number): boolean {
    const connection = this.#connections.get(id);
    if (connection === undefined) return true;
    if (!this.#isWritten(connection)) return false;
    if (!connection.told) connection.resting = true;
    return true;
  }

  streamEnd(_server: StreamServerHandle, id: number): void {
    const connection = this.#connections.get(id);
    if (connection === undefined || connection.ending) return;
    connection.ending = true;
    const { socket } = connection;
    // What a client still sends must not keep its connection.
    socket.pause();
    socket.end(() => socket.destroy());
  }

  streamAbort(_server: StreamServerHandle, id: number): void {
    const connection = this.#connections.get(id);
    if (connection === undefined) return;
    connection.ending = true;
    connection.socket.destroy();
  }

  streamLongestIdle(): number | null {
    let longest: number | null = null;
    let since = Number.POSITIVE_INFINITY;
    for (const [id, connection] of this.#connections) {
      const { resting, told, ending, lastActive } = connection;
      if (!resting || told || ending || !this.#isWritten(connection) || lastActive >= since) continue;
      [longest, since] = [id, lastActive];
    }
    return longest;
  }

  closeStreams(): void {
    for (const { socket } of this.#connections.values()) socket.removeAllListeners('close').destroy();
    this.#connections.clear();
  }

  #received(id: number, connection: TlsConnection, bytes: Uint8Array): void {
    if (connection.ending) return;
    connection.input.push(bytes);
    connection.inputSize += bytes.length;
    connection.lastActive = performance.now();
    if (connection.inputSize >= MAX_UNTAKEN) connection.socket.pause();
    this.#tell(id, connection);
  }

  #tell(id: number, connection: TlsConnection): void {
    if (connection.told || connection.ending) return;
    connection.told = true;
    connection.resting = false;
    this.#onEvent(id, 'received');
  }

  #closed(id: number, connection: TlsConnection): void {
    connection.ended = connection.gone = true;
    this.#connections.delete(id);
    this.#onEvent(id, 'closed');
  }

  #isWritten({ socket }: TlsConnection): boolean {
    return socket.writableLength === 0;
  }
}
