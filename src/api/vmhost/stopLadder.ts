/**
 * How a VM is stopped: its guest's agent is asked first, then the ACPI power button is pressed, and when the time is
 * over the machine is ended by force.
 */
import type { Duplex } from 'node:stream';
import { GuestAgent } from './guestAgent.ts';

/** What is stopped. */
export interface StoppableVm {
  /** Resolves when the VM is gone. */
  readonly exited: Promise<unknown>;
  /**
   * A stream to the guest's agent; absent where the VM has no vsock. Rejects if nothing listens, or when the signal
   * says so.
   */
  connectAgent?(signal: AbortSignal): Promise<Duplex>;
  /** A guest that is paused receives nothing. */
  resumeIfPaused(): Promise<void>;
  powerButton(): Promise<void>;
  /** Ends the machine without asking the guest. */
  end(): Promise<void>;
}

/** How long an agent may take to accept a shutdown: a quarter of the whole time, and not more than this. */
const AGENT_ANSWER_MS = 2_000;
/** Of the whole time, what a guest whose agent accepted may take before the power button is pressed as well. */
const AGENT_SHARE = 0.5;

export class StopLadder {
  readonly #vm: StoppableVm;
  readonly #log: (line: string) => void;
  readonly #startedAt: number;
  readonly #timeoutMs: number;
  #gone = false;

  /** @param log gets each step with the time that has passed */
  constructor(vm: StoppableVm, timeoutMs: number, log: (line: string) => void) {
    this.#vm = vm;
    this.#timeoutMs = timeoutMs;
    this.#log = log;
    this.#startedAt = performance.now();
    void vm.exited.then(() => {
      this.#gone = true;
    });
  }

  /** Resolves when the VM is gone. */
  async run(): Promise<void> {
    await this.#attempt('resume', () => this.#vm.resumeIfPaused());
    if (await this.#askAgent()) await this.#waitUntil(this.#timeoutMs * AGENT_SHARE);
    if (!this.#gone && (await this.#attempt('ACPI power button', () => this.#vm.powerButton()))) {
      this.#say('pressed the ACPI power button');
      await this.#waitUntil(this.#timeoutMs);
    }
    if (!this.#gone) {
      this.#say('ending the VM by force');
      await this.#vm.end();
    }
    await this.#vm.exited;
    this.#say('the VM is gone');
  }

  /** True if the agent accepted. */
  async #askAgent(): Promise<boolean> {
    const { connectAgent } = this.#vm;
    if (connectAgent === undefined) return false;
    const limit = Math.min(AGENT_ANSWER_MS, this.#timeoutMs / 4);
    return this.#attempt('shutdown by the guest agent', async () => {
      const stream = await within(limit, (signal) => connectAgent.call(this.#vm, signal));
      const agent = new GuestAgent(stream);
      try {
        await agent.shutDown(limit);
      } finally {
        agent.close();
      }
      this.#say('the guest agent accepted to shut down');
    });
  }

  async #attempt(what: string, step: () => Promise<void>): Promise<boolean> {
    try {
      await step();
      return true;
    } catch (error) {
      if (!this.#gone) this.#say(`${what} failed: ${(error as Error).message}`);
      return false;
    }
  }

  /** Until the VM is gone, or that time has passed since the start. */
  async #waitUntil(ms: number): Promise<void> {
    const rest = ms - (performance.now() - this.#startedAt);
    if (rest <= 0) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const over = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, rest);
    });
    await Promise.race([this.#vm.exited, over]);
    clearTimeout(timer);
  }

  #say(step: string): void {
    this.#log(`stop: ${step} (after ${((performance.now() - this.#startedAt) / 1000).toFixed(1)} s)`);
  }
}

/** @param work gives up when its signal says so @throws Error if it takes longer */
export async function within<T>(ms: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const late = () => controller.abort(new Error(`no answer within ${(ms / 1000).toFixed(1)} s`));
  const timer = setTimeout(late, ms);
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
  }
}
