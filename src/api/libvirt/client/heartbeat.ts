/** Keepalive: asks whether the peer is still there when nothing has come from it for a while. */

export interface KeepaliveOptions {
  /** Milliseconds of silence after which the daemon is asked, and between one question and the next. */
  readonly intervalMs: number;
  /** How many questions may stay without any answer before the connection is given up. */
  readonly count: number;
}

export class Heartbeat {
  readonly #timer: ReturnType<typeof setInterval>;
  #silentFor = 0;
  #held = false;

  constructor({ intervalMs, count }: KeepaliveOptions, ask: () => void, giveUp: () => void) {
    this.#timer = setInterval(() => {
      if (this.#held) return;
      // The first interval may have begun before the last that was heard.
      if (this.#silentFor++ === 0) return;
      if (this.#silentFor > count + 1) giveUp();
      else ask();
    }, intervalMs);
    this.#timer.unref();
  }

  heard(): void {
    this.#silentFor = 0;
  }

  /** While nothing is read nothing can be heard. */
  hold(held: boolean): void {
    this.#held = held;
    this.#silentFor = 0;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
