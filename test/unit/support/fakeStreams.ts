/** The addon's stream server without sockets: clients are objects, and all that happens is told at once. */
import type { NativeAddon, StreamEvent, StreamServerHandle } from '../../../src/native.ts';
import type { NodeFiles } from './nodeFiles.ts';

type StreamFunctions = Pick<
  NativeAddon,
  | 'serveStreams'
  | 'openStreams'
  | 'streamListen'
  | 'streamAdopt'
  | 'streamTake'
  | 'streamWrite'
  | 'streamRest'
  | 'streamEnd'
  | 'streamAbort'
  | 'streamLongestIdle'
  | 'streamRemember'
  | 'streamRememberMemory'
  | 'streamRememberCounters'
  | 'streamForget'
  | 'stopListening'
  | 'closeStreams'
>;

export interface FakeStreams extends StreamFunctions {
  /** A new client. It is refused (closed at once) if nobody listens. */
  connect(): FakeClient;
  /** Of the connections that the latest server has. */
  clients(): FakeClient[];
  /** Answers that are given without asking, by request. Counters have the number of their place for a value. */
  readonly remembered: Map<string, string>;
}

export class FakeClient {
  /** Everything received. */
  text = '';
  /** The server has closed the connection. */
  closed = false;
  /** If false, what is written stays with the server. */
  reading = true;
  readonly #server: Server;
  readonly #id: number;

  constructor(server: Server, id: number) {
    this.#server = server;
    this.#id = id;
  }

  /** @param descriptors come along, as the server's own */
  send(text: string, descriptors: readonly number[] = []): void {
    this.#server.received(this.#id, Buffer.from(text, 'latin1'), descriptors);
  }

  /** Sends no more, and still reads. */
  endInput(): void {
    this.#server.changed(this.#id, (connection) => {
      connection.ended = true;
    });
  }

  /** Closes without a word. */
  leave(): void {
    this.#server.left(this.#id);
  }

  /** Breaks the connection, of which a server with TLS is told by its end alone. */
  reset(): void {
    this.#server.broken(this.#id);
  }

  read(): void {
    this.reading = true;
    this.#server.flush(this.#id);
  }

  /** Reads what waits, and nothing that comes of it. */
  readOnce(): void {
    this.#server.flush(this.#id, true);
  }
}

interface FakeConnection {
  readonly client: FakeClient;
  input: { bytes: Uint8Array; descriptors: readonly number[] }[];
  output: string;
  told: boolean;
  resting: boolean;
  ended: boolean;
  gone: boolean;
  ending: boolean;
}

class Server {
  readonly connections = new Map<number, FakeConnection>();
  readonly remembered = new Map<string, string>();
  readonly onEvent: (connection: number, event: StreamEvent) => void;
  listening = true;
  #lastId = 0;

  constructor(onEvent: (connection: number, event: StreamEvent) => void) {
    this.onEvent = onEvent;
  }

  connect(): FakeClient {
    const id = ++this.#lastId;
    const client = new FakeClient(this, id);
    if (this.listening) {
      this.#add(id, client);
      this.onEvent(id, 'opened');
    } else {
      client.closed = true;
    }
    return client;
  }

  adopt(): number {
    const id = ++this.#lastId;
    this.#add(id, new FakeClient(this, id));
    return id;
  }

  #add(id: number, client: FakeClient): void {
    const state = { told: false, resting: true, ended: false, gone: false, ending: false };
    this.connections.set(id, { client, input: [], output: '', ...state });
  }

  received(id: number, bytes: Uint8Array, descriptors: readonly number[]): void {
    this.changed(id, (connection) => {
      const known = this.remembered.get(Buffer.from(bytes).toString('latin1'));
      if (known !== undefined && connection.resting && descriptors.length === 0) {
        connection.output += known;
        this.flush(id);
      } else {
        connection.input.push({ bytes, descriptors });
      }
    });
  }

  changed(id: number, change: (connection: FakeConnection) => void): void {
    const connection = this.connections.get(id);
    if (connection === undefined || connection.ending) return;
    change(connection);
    const unread = connection.resting && connection.output !== '';
    const news = connection.input.length > 0 || connection.ended || connection.gone || unread;
    if (connection.told || !news) return;
    connection.told = true;
    connection.resting = false;
    this.onEvent(id, 'received');
  }

  left(id: number): void {
    const answering = this.connections.get(id)?.resting === false;
    this.changed(id, (connection) => {
      connection.ended = true;
      connection.gone = true;
    });
    if (answering) this.onEvent(id, 'gone');
  }

  broken(id: number): void {
    this.connections.delete(id);
    this.onEvent(id, 'closed');
  }

  flush(id: number, once = false): void {
    const connection = this.connections.get(id);
    if (connection === undefined) return;
    if (connection.gone) connection.output = '';
    if (connection.output !== '' && (once || connection.client.reading)) {
      connection.client.text += connection.output;
      connection.output = '';
      if (!connection.ending) this.onEvent(id, 'drained');
    }
    if (!connection.ending || connection.output !== '') return;
    this.connections.delete(id);
    connection.client.closed = true;
    this.onEvent(id, 'closed');
  }
}

export function fakeStreams(files: NodeFiles): FakeStreams {
  let latest: Server | undefined;
  const remembered = new Map<string, string>();
  const serverOf = (handle: StreamServerHandle) => handle as unknown as Server;
  return {
    remembered,
    connect: () => {
      if (latest === undefined) throw new Error('nobody serves');
      return latest.connect();
    },
    clients: () => [...(latest?.connections.values() ?? [])].map(({ client }) => client),
    serveStreams: (fd, onEvent) => {
      if (!files.open.has(fd)) throw Object.assign(new Error('no socket'), { code: 'EBADF' });
      latest = new Server(onEvent);
      return latest as unknown as StreamServerHandle;
    },
    openStreams: (onEvent) => {
      latest = new Server(onEvent);
      latest.listening = false;
      return latest as unknown as StreamServerHandle;
    },
    streamListen: (handle) => {
      serverOf(handle).listening = true;
    },
    streamAdopt: (handle) => serverOf(handle).adopt(),
    streamTake: (handle, id) => {
      const connection = serverOf(handle).connections.get(id);
      const segment = connection?.input.shift() ?? { bytes: new Uint8Array(), descriptors: [] };
      const more = (connection?.input.length ?? 0) > 0;
      if (connection && !more) connection.told = false;
      return {
        ...segment,
        more,
        ended: !more && (connection?.ended ?? true),
        gone: connection?.gone ?? true,
      };
    },
    streamWrite: (handle, id, bytes) => {
      const connection = serverOf(handle).connections.get(id);
      if (connection === undefined || connection.gone) return 'lost';
      if (connection.client.reading) connection.client.text += Buffer.from(bytes).toString('latin1');
      else connection.output += Buffer.from(bytes).toString('latin1');
      return connection.output === '' ? 'left' : 'waiting';
    },
    streamRest: (handle, id) => {
      const connection = serverOf(handle).connections.get(id);
      if (connection === undefined) return true;
      if (connection.output !== '') return false;
      if (!connection.told) connection.resting = true;
      return true;
    },
    streamEnd: (handle, id) => {
      const connection = serverOf(handle).connections.get(id);
      if (connection) connection.ending = true;
      serverOf(handle).flush(id);
    },
    streamAbort: (handle, id) => {
      const connection = serverOf(handle).connections.get(id);
      if (connection) connection.ending = connection.gone = true;
      serverOf(handle).flush(id);
    },
    // In the order in which they came: tests let no other go by.
    streamLongestIdle: (handle) => {
      for (const [id, { resting, told, ending, output }] of serverOf(handle).connections) {
        if (resting && !told && !ending && output === '') return id;
      }
      return null;
    },
    streamRemember: (handle, request, answer) => {
      const text = Buffer.from(answer).toString('latin1');
      serverOf(handle).remembered.set(Buffer.from(request).toString('latin1'), text);
      remembered.set(Buffer.from(request).toString('latin1'), text);
    },
    streamRememberMemory: (handle, request, _machine, { head, afterLength, before, after, memory, left }) => {
      const body = `${before}${memory - 2 * (memory - left)}${after}`;
      const text = `${head}${Buffer.byteLength(body)}${afterLength}${body}`;
      serverOf(handle).remembered.set(Buffer.from(request).toString('latin1'), text);
      remembered.set(Buffer.from(request).toString('latin1'), text);
    },
    streamRememberCounters: (handle, request, _machine, { head, afterLength, pieces, tail }) => {
      const body = pieces.map(({ text }, index) => `${text}${index}`).join('') + tail;
      const text = `${head}${Buffer.byteLength(body)}${afterLength}${body}`;
      serverOf(handle).remembered.set(Buffer.from(request).toString('latin1'), text);
      remembered.set(Buffer.from(request).toString('latin1'), text);
    },
    streamForget: (handle, request) => {
      serverOf(handle).remembered.delete(Buffer.from(request).toString('latin1'));
      remembered.delete(Buffer.from(request).toString('latin1'));
    },
    stopListening: (handle) => {
      serverOf(handle).listening = false;
    },
    closeStreams: (handle) => {
      for (const { client } of serverOf(handle).connections.values()) client.closed = true;
      serverOf(handle).connections.clear();
    },
  };
}
