/** Starts the processes of VMs, and keeps a pool of processes that have no VM yet and so start one at once. */
import { type ChildProcess, spawn } from 'node:child_process';
import { VmFile } from '../api/vmhost/folderFiles.ts';
import { BACKEND, type ChildOrders, encodeLine } from '../api/vmhost/protocol.ts';
import type { Accept, StreamConnection, StreamHandlers, StreamListener } from '../host/listen.ts';
import { type ChildMessage, hearChild } from './childLink.ts';
import { ClientLimit, mostClients } from './clientLimit.ts';
import type { Places } from './places.ts';
import { identify, type ProcessIdentity } from './processIdentity.ts';

/** How long a process may take until it reports. */
const HELLO_MS = 20_000;
/** After one of the pool was taken, or could not be made: others start meanwhile. */
const REFILL_MS = 20;
const REFILL_AFTER_FAILURE_MS = 5_000;
/** Connections that have not said whose they are: a process of ours says so at once. */
const MAX_STRANGERS = 256;

/** A connected process. Its messages are delivered from the call of `hear` on. */
export class Child {
  readonly process: ProcessIdentity;
  readonly #connection: StreamConnection;
  #message: (message: ChildMessage) => void = (message) => this.#early.push(message);
  #closed: () => void = () => {
    this.#isClosed = true;
  };
  #early: ChildMessage[] = [];
  #isClosed = false;

  constructor(process: ProcessIdentity, connection: StreamConnection) {
    this.process = process;
    this.#connection = connection;
  }

  get connected(): boolean {
    return !this.#isClosed;
  }

  hear(message: (message: ChildMessage) => void, closed: () => void): void {
    const early = this.#early.splice(0);
    this.#message = message;
    this.#closed = closed;
    early.forEach(message);
    if (this.#isClosed) closed();
  }

  assign(name: string, orders: ChildOrders): void {
    this.#connection.write(encodeLine({ start: { name, ...orders } }));
  }

  close(): void {
    this.#connection.terminate();
  }

  /** For the reader of the connection. */
  deliver(message: ChildMessage): void {
    this.#message(message);
  }
  lost(): void {
    this.#isClosed = true;
    this.#closed();
  }
}

function words({ paused = false, end_on = [] }: ChildOrders): string[] {
  return [...(paused ? ['--paused'] : []), ...(end_on.length > 0 ? ['--end-on', end_on.join()] : [])];
}

export interface ChildrenOptions {
  readonly places: Places;
  /** On the socket for the processes of VMs. @throws Error */
  readonly listen: (accept: Accept) => Promise<StreamListener>;
  readonly launcher: string;
  /** Processes that wait for a VM. */
  readonly poolSize: number;
  /** Receives human-readable warnings, one sentence each. */
  readonly warn: (message: string) => void;
}

export class Children {
  readonly #options: ChildrenOptions;
  #listener: StreamListener | undefined;
  /** Started and not heard of yet, by process id. */
  readonly #expected = new Map<number, { resolve: (child: Child) => void; reject: (error: Error) => void }>();
  readonly #strangers: ClientLimit<StreamConnection>;
  readonly #pool = new Set<Child>();
  #filling = 0;
  #refill: ReturnType<typeof setTimeout> | undefined;
  #ended = false;

  constructor(options: ChildrenOptions) {
    this.#options = options;
    this.#strangers = new ClientLimit({
      most: Math.min(MAX_STRANGERS, mostClients()),
      socket: options.places.childSocket,
      warn: options.warn,
      disconnect: (connection) => connection.terminate(),
    });
  }

  /** @throws Error */
  async listen(): Promise<void> {
    this.#listener = await this.#options.listen((connection) => this.#greet(connection));
    this.#fillPool();
  }

  /** Ends those that have no VM; the others live on. */
  close(): void {
    this.#ended = true;
    clearTimeout(this.#refill);
    for (const child of this.#pool) child.close();
    this.#listener?.close(false);
  }

  /** A process that starts the VM. @throws Error if it cannot be started or does not report */
  async start(name: string, orders: ChildOrders): Promise<Child> {
    const [ready] = this.#pool;
    if (ready === undefined) return this.#launch(['--name', name, ...words(orders)]);
    this.#pool.delete(ready);
    ready.assign(name, orders);
    this.#refillSoon(REFILL_MS);
    return ready;
  }

  /** @param vm words that say which VM; none for a process that is to be told later */
  #launch(vm: readonly string[]): Promise<Child> {
    const { places, launcher } = this.#options;
    const words = [
      ...vm,
      ...['--backend', BACKEND, '--config-dir', places.root],
      ...['--api-socket', VmFile.apiSocket, '--supervisor', places.childSocket],
    ];
    // A session of its own: what ends the supervisor, or its terminal, does not end VMs.
    const process = spawn(launcher, ['vmhost', ...words], { stdio: 'ignore', detached: true, cwd: '/' });
    process.unref();
    return this.#expect(process);
  }

  #expect(process: ChildProcess): Promise<Child> {
    const { pid } = process;
    return new Promise((resolve, reject) => {
      const fail = (reason: string) => {
        if (pid !== undefined) this.#expected.delete(pid);
        clearTimeout(timer);
        reject(new Error(`The process of a VM ${reason}`));
      };
      const timer = setTimeout(() => {
        process.kill('SIGKILL');
        fail(`did not report within ${HELLO_MS / 1000} s`);
      }, HELLO_MS);
      process.once('error', (error) => fail(`cannot be started: ${error.message}`));
      process.once('exit', (code, signal) => fail(`ended at once (${signal ?? `exit code ${code}`})`));
      if (pid === undefined) return;
      const done = (child: Child) => {
        clearTimeout(timer);
        resolve(child);
      };
      this.#expected.set(pid, { resolve: done, reject });
    });
  }

  /** Only a process that was started here is listened to. */
  #greet(connection: StreamConnection): StreamHandlers {
    let child: Child | undefined;
    const timer = setTimeout(() => connection.terminate(), HELLO_MS);
    this.#strangers.add(connection);
    const isKnown = () => {
      clearTimeout(timer);
      this.#strangers.remove(connection);
    };
    const first = (message: ChildMessage) => {
      isKnown();
      const pid = message.hello?.pid;
      const expected = pid === undefined ? undefined : this.#expected.get(pid);
      if (pid === undefined || expected === undefined) return connection.terminate();
      this.#expected.delete(pid);
      child = new Child(identify(pid), connection);
      expected.resolve(child);
    };
    return hearChild(
      connection,
      (message) => (child === undefined ? first(message) : child.deliver(message)),
      () => {
        isKnown();
        child?.lost();
      },
    );
  }

  #refillSoon(ms: number): void {
    if (this.#ended) return;
    clearTimeout(this.#refill);
    this.#refill = setTimeout(() => this.#fillPool(), ms);
  }

  #fillPool(): void {
    while (!this.#ended && this.#pool.size + this.#filling < this.#options.poolSize) {
      this.#filling++;
      this.#launch([])
        .then(
          (child) => this.#addToPool(child),
          () => this.#refillSoon(REFILL_AFTER_FAILURE_MS),
        )
        .finally(() => {
          this.#filling--;
        });
    }
  }

  #addToPool(child: Child): void {
    if (this.#ended) {
      child.close();
      return;
    }
    this.#pool.add(child);
    const gone = () => {
      if (this.#pool.delete(child)) this.#refillSoon(REFILL_AFTER_FAILURE_MS);
    };
    child.hear(() => {}, gone);
  }
}
