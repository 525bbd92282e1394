/**
 * The debugger's socket: one connection at a time, whose packets are answered in their order. Loaded only where `--gdb`
 * asks for it.
 */
import { listenStream, type StreamConnection, type StreamHandlers } from '../../host/listen.ts';
import type { DebugStop } from '../../native.ts';
import type { DebuggerHooks, StoppedMachine } from '../../vmm/debugged.ts';
import { VmmError } from '../../vmm/errors.ts';
import { claimSocketPath, type SocketPath, type Sockets } from '../../vmm/listeningSocket.ts';
import { Breakpoints } from './breakpoints.ts';
import { encodePacket, type Item, PacketReader } from './packets.ts';
import { type DebuggedVmm, type Outcome, Session } from './session.ts';

/** Packets that were received and not answered: a debugger waits for each answer. */
const MAX_QUEUE = 64;
/** A debugger that refuses an answer so often will not take it. */
const MAX_RESENDS = 10;
/** How long a debugger may take to close its side after the end: until then no other is served. */
const CLOSE_MS = 1_000;
/** After which a guest that did not stop is asked again to, so that what a debugger has left can be taken out. */
const RETRY_MS = 5_000;

export interface GdbServer extends DebuggerHooks {
  /** Ends the connection and removes the socket. Idempotent. */
  close(): void;
}

/** @throws VmmError if `path` cannot be listened on */
export async function serveGdb(vmm: DebuggedVmm, sockets: Sockets, path: string): Promise<GdbServer> {
  let claim: SocketPath | undefined;
  try {
    claim = claimSocketPath(sockets, path);
    const server = new Server(vmm, claim);
    const listener = await listenStream(claim.listen('runtime'), (connection) => server.accept(connection));
    server.whenClosed(() => listener.close(false));
    return server;
  } catch (error) {
    claim?.close();
    throw new VmmError(`Cannot listen on the debugger's socket ${path}`, { cause: error });
  }
}

class Server implements GdbServer {
  readonly #vmm: DebuggedVmm;
  readonly #claim: SocketPath;
  #stopListening: () => void = () => {};
  #link: Link | undefined;
  /** What the guest has in it: also when the debugger that asked for them is gone, until they are taken out. */
  readonly #breakpoints = new Breakpoints();
  /** Of the debugger that is connected, or is gone while the guest is not free of it. */
  #session: Session | undefined;
  /** What an earlier debugger left is being taken out of the guest. */
  #leaving: Promise<void> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;

  constructor(vmm: DebuggedVmm, claim: SocketPath) {
    this.#vmm = vmm;
    this.#claim = claim;
  }

  get attached(): boolean {
    return this.#link !== undefined;
  }

  whenClosed(stopListening: () => void): void {
    this.#stopListening = stopListening;
  }

  accept(connection: StreamConnection): StreamHandlers {
    connection.unref();
    if (this.#link) {
      connection.terminate();
      return { data: () => {}, ended: () => {}, drained: () => {}, closed: () => {} };
    }
    const session = new Session(this.#vmm, this.#breakpoints);
    const link: Link = new Link(connection, session, (last, orderly) => {
      if (this.#link !== link) return;
      this.#link = undefined;
      this.#leaving = Promise.all([this.#leaving, last]).then(() => {});
      if (orderly) this.#session = undefined;
      else this.#clear();
    });
    this.#link = link;
    clearTimeout(this.#retry);
    const leaving = this.#leaving;
    link.begin(async () => {
      await leaving;
      this.#session = session;
    });
    return link;
  }

  async leave(machine: StoppedMachine): Promise<void> {
    await this.#breakpoints.removeAll(machine);
    this.#session = undefined;
  }

  stopped(stop: DebugStop): void {
    if (this.#link) this.#link.tell((session) => session.stopped(stop));
    else this.#clear();
  }

  started(): void {
    if (this.#link) {
      this.#link.tell((session) => session.restarted());
      return;
    }
    this.#breakpoints.forgetAll();
    this.#session = undefined;
  }

  ended(): void {
    this.#breakpoints.forgetAll();
    this.#session = undefined;
    this.#link?.exit();
  }

  /** Takes what a debugger that is gone has left out of the guest, however often that has to be tried. */
  #clear(): void {
    clearTimeout(this.#retry);
    this.#leaving = this.#leaving.then(async () => {
      const session = this.#session;
      if (session === undefined) return;
      await session.vanish().catch(() => {});
      if (this.#session !== session) return;
      if (!session.goesOn) {
        this.#session = undefined;
      } else if (this.#link === undefined) {
        this.#retry = setTimeout(() => this.#clear(), RETRY_MS);
        this.#retry.unref();
      }
    });
  }

  close(): void {
    this.#session = undefined;
    clearTimeout(this.#retry);
    this.#stopListening();
    this.#claim.close();
    this.#link?.exit();
  }
}

/**
 * @param last of what was to be done for the connection
 * @param orderly the session has come to its end
 */
type OnClosed = (last: Promise<void>, orderly: boolean) => void;

/** A connection and the session on it. */
class Link implements StreamHandlers {
  readonly #connection: StreamConnection;
  readonly #session: Session;
  readonly #onClosed: OnClosed;
  readonly #reader = new PacketReader();
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;
  #acknowledges = true;
  #lastPacket: Uint8Array | undefined;
  #resends = 0;
  /** Nothing is taken or sent any more. */
  #over = false;
  /** The session has come to its end in order. */
  #orderly = false;
  #closing: NodeJS.Timeout | undefined;

  constructor(connection: StreamConnection, session: Session, onClosed: OnClosed) {
    this.#connection = connection;
    this.#session = session;
    this.#onClosed = onClosed;
  }

  /** @param ready waits until the guest is free of earlier debuggers */
  begin(ready: () => Promise<void>): void {
    this.#enqueue(async () => {
      await ready();
      await this.#session.begin();
    });
  }

  /** What the session makes of news is sent. */
  tell(news: (session: Session) => Promise<string | undefined>): void {
    this.#enqueue(async () => {
      const reply = await news(this.#session);
      if (reply !== undefined) this.#send(reply);
    });
  }

  /** The machine is gone. */
  exit(): void {
    if (this.#session.running) this.#send('W00');
    this.#orderly = true;
    this.#end();
  }

  data(bytes: Uint8Array): void {
    if (this.#over) return;
    try {
      for (const item of this.#reader.read(bytes)) {
        this.#waiting++;
        this.#enqueue(async () => {
          this.#waiting--;
          await this.#take(item);
          if (this.#waiting < MAX_QUEUE && !this.#connection.waiting) this.#connection.resume();
        });
      }
    } catch {
      this.#end();
      return;
    }
    if (this.#waiting >= MAX_QUEUE || this.#connection.waiting) this.#connection.pause();
  }

  drained(): void {
    if (this.#waiting < MAX_QUEUE) this.#connection.resume();
  }

  ended(): void {
    this.#end();
  }

  closed(): void {
    clearTimeout(this.#closing);
    this.#over = true;
    this.#onClosed(this.#last, this.#orderly);
  }

  async #take(item: Item): Promise<void> {
    switch (item.kind) {
      case 'ack':
        this.#resends = 0;
        return;
      case 'nack':
        return this.#resend();
      case 'damaged':
        if (this.#acknowledges) this.#connection.write(encodeText('-'));
        return;
      case 'interrupt': {
        const reply = await this.#session.interrupt();
        if (reply !== undefined) this.#send(reply);
        return;
      }
      case 'packet':
        if (this.#acknowledges) this.#connection.write(encodeText('+'));
        this.#conclude(await this.#session.answer(item.text));
        if (item.text === 'QStartNoAckMode') this.#acknowledges = false;
    }
  }

  #conclude(outcome: Outcome): void {
    if (outcome === 'later') return;
    if (outcome.answer !== undefined) this.#send(outcome.answer);
    if (!('close' in outcome)) return;
    this.#orderly = true;
    this.#end();
  }

  #send(text: string): void {
    if (this.#over) return;
    this.#lastPacket = encodePacket(text);
    this.#connection.write(this.#lastPacket);
  }

  #resend(): void {
    if (this.#lastPacket === undefined || ++this.#resends > MAX_RESENDS) this.#end();
    else this.#connection.write(this.#lastPacket);
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#connection.end();
    this.#closing = setTimeout(() => this.#connection.terminate(), CLOSE_MS);
    this.#closing.unref();
  }

  #enqueue(work: () => Promise<void>): void {
    this.#last = this.#last.then(async () => {
      if (!this.#over) await work();
    });
    this.#last = this.#last.catch(() => this.#end());
  }
}

function encodeText(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}
