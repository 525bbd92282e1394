/**
 * The client of the guest's agent: requests and answers of one line of JSON each, on a stream to a port of the guest.
 * It may be masterblaster's, or QEMU's (`qemu-ga`), which is only asked to shut down. What the guest sends is not
 * trusted: lengths and times are bounded.
 */
import type { Duplex } from 'node:stream';

/** The port of the guest's vsock that the agent listens on. */
export const GUEST_AGENT_PORT = 1024;
/** Characters of a line. */
const MAX_LINE = 1 << 20;
/** Characters of a refusal's reason that are passed on. */
const MAX_REASON = 200;
/** QEMU's agent says nothing when it shuts down, and at once if it does not. */
const SILENCE_MS = 1_000;

export interface AgentAnswer {
  readonly type: string;
  readonly payload: Record<string, unknown>;
}

export class GuestAgent {
  readonly #stream: Duplex;
  #received = '';
  #waiting: { resolve: (answer: AgentAnswer) => void; reject: (error: Error) => void } | undefined;
  #failure: Error | undefined;

  /** Takes the stream over. */
  constructor(stream: Duplex) {
    this.#stream = stream;
    const closed = () => this.#fail(new Error("the guest's agent closed the connection"));
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => this.#hear(text));
    stream.on('error', (error) => this.#fail(error));
    stream.on('end', closed).on('close', closed);
  }

  /**
   * Sends a request and waits for its answer. One at a time.
   * @throws Error if the agent does not answer in time, or refuses; there is no next request then
   */
  async request(
    type: string,
    payload: Record<string, unknown> | undefined,
    timeoutMs: number,
  ): Promise<AgentAnswer> {
    const answered = this.#answer(timeoutMs);
    this.#stream.write(`${JSON.stringify(payload === undefined ? { type } : { type, payload })}\n`);
    const answer = await answered;
    if (answer.type === 'ack' && answer.payload.ok !== true) {
      const reason = typeof answer.payload.error === 'string' ? answer.payload.error : 'no reason given';
      throw new Error(`the guest's agent refused ${type}: ${JSON.stringify(reason.slice(0, MAX_REASON))}`);
    }
    return answer;
  }

  /**
   * Asks the guest to shut down.
   * @throws Error if the agent does not answer in time, or refuses; there is no next request then
   */
  async shutDown(timeoutMs: number): Promise<void> {
    try {
      await this.request('shutdown', { reason: 'stop' }, timeoutMs);
    } catch (error) {
      if (!(error instanceof QemuAgentError)) throw error;
      await this.#shutDownByQemuAgent();
    }
  }

  close(): void {
    this.#stream.destroy();
  }

  /**
   * QEMU Guest Agent Protocol Reference: guest-shutdown has no answer but an error. What else comes is the guest's end.
   */
  #shutDownByQemuAgent(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const done = new Promise<void>((resolve, reject) => {
      timer = setTimeout(resolve, SILENCE_MS);
      this.#waiting = {
        resolve: () => resolve(),
        reject: (error) => (error instanceof QemuAgentError ? reject(error) : resolve()),
      };
      this.#stream.write(`${JSON.stringify({ execute: 'guest-shutdown' })}\n`);
    });
    return done.finally(() => {
      clearTimeout(timer);
      this.#waiting = undefined;
    });
  }

  #hear(text: string): void {
    const lines = (this.#received + text).split('\n');
    this.#received = lines.pop() as string;
    for (const line of lines) this.#deliver(line);
    if (this.#received.length > MAX_LINE) this.#fail(new Error("the guest's agent sends a line without end"));
  }

  /** What the guest says of its own accord is passed over. */
  #deliver(line: string): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    try {
      const answer = parseAnswer(line);
      if (answer.type === 'lifecycle') return;
      this.#waiting = undefined;
      waiting.resolve(answer);
    } catch (error) {
      if (error instanceof QemuAgentError) {
        this.#waiting = undefined;
        waiting.reject(error);
      } else {
        this.#fail(error as Error);
      }
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#stream.destroy();
    this.#waiting?.reject(this.#failure);
    this.#waiting = undefined;
  }

  #answer(timeoutMs: number): Promise<AgentAnswer> {
    if (this.#failure) return Promise.reject(this.#failure);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const answered = new Promise<AgentAnswer>((resolve, reject) => {
      timer = setTimeout(() => this.#fail(new Error("the guest's agent did not answer in time")), timeoutMs);
      this.#waiting = { resolve, reject };
    });
    return answered.finally(() => clearTimeout(timer));
  }
}

/** QEMU's agent does not do something: what it knows nothing of, for one, such as the other agent's words. */
class QemuAgentError extends Error {}

/** @throws QemuAgentError, Error */
function parseAnswer(line: string): AgentAnswer {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Error("the guest's agent sent a line that is no JSON");
  }
  const { type, payload, error } = (value ?? {}) as { type?: unknown; payload?: unknown; error?: unknown };
  const { class: kind, desc } = (error ?? {}) as { class?: unknown; desc?: unknown };
  if (typeof kind === 'string') {
    throw new QemuAgentError(
      `the guest's agent refused: ${JSON.stringify(String(desc).slice(0, MAX_REASON))}`,
    );
  }
  if (typeof type !== 'string') throw new Error("the guest's agent sent an answer without a type");
  const isObject = typeof payload === 'object' && payload !== null;
  return { type, payload: isObject ? (payload as Record<string, unknown>) : {} };
}
