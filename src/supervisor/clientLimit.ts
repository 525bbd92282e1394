/**
 * Keeps the clients of a socket within a number. At the limit one that asks for nothing makes room for the next, the
 * one that has been idle for longest first: whoever only connects, as often as they like, locks nobody out.
 */

import { readFileSync } from 'node:fs';

const MOST_CLIENTS = 1_024;
/** Sockets with so many clients each leave most descriptors for VMs. */
const SHARE_OF_DESCRIPTORS = 8;
/** Between lines about a limit that is reached. */
const WARN_MS = 60_000;

/** Of one socket: the host may allow few descriptors. @param limits of the process (proc(5)) */
export function mostClients(limits = readFileSync('/proc/self/limits', 'utf8')): number {
  // The soft limit, which runtimes have raised as far as they may by now.
  const descriptors = Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  return Math.min(MOST_CLIENTS, Math.floor(descriptors / SHARE_OF_DESCRIPTORS));
}

export interface ClientLimitOptions<C> {
  readonly most: number;
  /** What the clients are connected to, for people. */
  readonly socket: string;
  readonly warn: (message: string) => void;
  disconnect(client: C): void;
}

export class ClientLimit<C> {
  readonly #options: ClientLimitOptions<C>;
  /** The longest idle first. */
  readonly #idle = new Set<C>();
  /** How many requests of each are under way: a client may send the next before the answer to the last. */
  readonly #busy = new Map<C, number>();
  #warnedAt = Number.NEGATIVE_INFINITY;

  constructor(options: ClientLimitOptions<C>) {
    this.#options = options;
  }

  /** Takes a new one, which is idle. @returns whether there is room: if not, the caller gets rid of it */
  add(client: C): boolean {
    if (this.#idle.size + this.#busy.size >= this.#options.most && !this.#makeRoom()) return false;
    this.#idle.add(client);
    return true;
  }

  /** It is asking for something. */
  busy(client: C): void {
    const requests = this.#idle.delete(client) ? 0 : this.#busy.get(client);
    if (requests !== undefined) this.#busy.set(client, requests + 1);
  }

  /** One of its requests is answered. */
  idle(client: C): void {
    const requests = this.#busy.get(client);
    if (requests === undefined) return;
    if (requests > 1) this.#busy.set(client, requests - 1);
    else if (this.#busy.delete(client)) this.#idle.add(client);
  }

  remove(client: C): void {
    this.#idle.delete(client);
    this.#busy.delete(client);
  }

  #makeRoom(): boolean {
    const [longest] = this.#idle;
    if (longest === undefined) {
      this.#warn('all of them at work: no more are admitted');
      return false;
    }
    this.#warn('those that ask for nothing are disconnected, the longest idle first');
    this.#idle.delete(longest);
    this.#options.disconnect(longest);
    return true;
  }

  #warn(what: string): void {
    const now = performance.now();
    if (now - this.#warnedAt < WARN_MS) return;
    this.#warnedAt = now;
    const { socket, most, warn } = this.#options;
    warn(`${socket} has ${most} clients, ${what}`);
  }
}
