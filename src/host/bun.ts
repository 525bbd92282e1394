/** What of Bun's own API is used, typed here so that the rest compiles with Node's types alone. */
export interface BunSocket<T> {
  data: T;
  /** Bytes taken; the rest is the caller's to write again after `drain`. */
  write(bytes: Uint8Array): number;
  end(): void;
  terminate(): void;
  pause(): void;
  resume(): void;
  ref(): void;
  unref(): void;
}

export interface BunSocketHandlers<T> {
  open(socket: BunSocket<T>): void;
  data(socket: BunSocket<T>, bytes: Uint8Array): void;
  drain(socket: BunSocket<T>): void;
  end(socket: BunSocket<T>): void;
  close(socket: BunSocket<T>): void;
  error(socket: BunSocket<T>, error: Error): void;
}

interface BunListener {
  stop(closeActiveConnections: boolean): void;
}

export interface BunRuntime {
  /** True in an executable made by `bun build --compile`. */
  readonly isStandaloneExecutable: boolean;
  /** Collects garbage; returns when that is done if `synchronous`. */
  gc(synchronous: boolean): void;
  /** Collects garbage, and drops the linked code of all functions that are not running. */
  shrink(): void;
  listen<T>(options: {
    readonly fd: number;
    readonly allowHalfOpen: boolean;
    readonly socket: BunSocketHandlers<T>;
  }): BunListener;
  /** Of a connected socket's descriptor. `open` is called before this returns. */
  connect<T>(options: {
    readonly fd: number;
    readonly allowHalfOpen: boolean;
    readonly socket: BunSocketHandlers<T>;
  }): Promise<BunSocket<T>>;
}

/** Undefined on Node.js. */
export const bun: BunRuntime | undefined = (globalThis as { Bun?: BunRuntime }).Bun;
