/** The outside end of agent.c: commands over one stream of frames. */
import { EventEmitter } from 'node:events';

/** Frame types; agent.c says what each means. */
const RUN = 1;
const STDIN = 2;
const SIGNAL = 3;
const RESIZE = 4;
const POWER_OFF = 5;
const PING = 6;
const STDOUT = 17;
const STDERR = 18;
const EXIT = 19;

/** What the agent begins with. */
const GREETING = Buffer.from('\x7f\x01lab agent 5bb34ad7 is up\n');

const HEADER = 12;
const MAX_PAYLOAD = 65536;

/**
 * @typedef {object} Job
 * @property {(bytes: Uint8Array) => void} write standard input
 * @property {() => void} end end of standard input
 * @property {(signal: number) => void} kill its process group
 * @property {(rows: number, columns: number) => void} resize its terminal
 * @property {Promise<number>} exited exit code, or 128 and the signal's number
 */

/**
 * @typedef {object} JobSpec
 * @property {readonly string[]} command
 * @property {string} cwd
 * @property {Record<string, string>} env
 * @property {{rows: number, columns: number}} [terminal] run on a terminal of its own
 * @property {(bytes: Buffer) => void} onStdout also hears everything that a terminal shows
 * @property {(bytes: Buffer) => void} onStderr
 */

export class AgentLink extends EventEmitter {
  #stream;
  /** @type {Buffer} */
  #buffer = Buffer.alloc(0);
  /** @type {Buffer} what came last, for a greeting that comes in pieces */
  #recent = Buffer.alloc(0);
  #nextJob = 1;
  #greeted = false;
  #restarts;
  /** @type {Error | undefined} why nothing can be run any more */
  #gone;
  /** @type {Map<number, {spec: JobSpec, resolve: (code: number) => void, reject: (error: Error) => void}>} */
  #jobs = new Map();
  /** @type {Promise<void>} resolves when commands can be run */
  ready;

  /**
   * @param {import('node:stream').Duplex} stream
   * @param {boolean} [restarts] the agent's machine may start anew; the lab's does not, and passes its guests'
   * greetings on
   */
  constructor(stream, restarts = false) {
    super();
    this.#restarts = restarts;
    this.#stream = stream;
    this.ready = new Promise((resolve) => this.once('ready', resolve));
    stream.on('data', (chunk) => this.#receive(chunk));
    // The machine's end is noticed by its process's exit; a broken stream says nothing more.
    stream.on('error', () => {});
  }

  /**
   * @param {JobSpec} spec
   * @returns {Job}
   */
  start(spec) {
    const id = this.#nextJob++;
    const { rows, columns } = spec.terminal ?? { rows: 0, columns: 0 };
    const words = [spec.cwd, ...Object.entries(spec.env).map(([name, value]) => `${name}=${value}`), ''];
    const text = Buffer.from([...words, ...spec.command, ''].join('\0'));
    this.#send(id, RUN, Buffer.concat([numbers(spec.terminal ? 1 : 0, rows, columns), text]));
    const exited = new Promise((resolve, reject) => {
      if (this.#gone) reject(this.#gone);
      else this.#jobs.set(id, { spec, resolve, reject });
    });
    return {
      write: (bytes) => {
        for (let at = 0; at < bytes.length; at += MAX_PAYLOAD) {
          this.#send(id, STDIN, bytes.subarray(at, at + MAX_PAYLOAD));
        }
      },
      end: () => this.#send(id, STDIN, Buffer.alloc(0)),
      kill: (signal) => this.#send(id, SIGNAL, numbers(signal)),
      resize: (newRows, newColumns) => this.#send(id, RESIZE, numbers(newRows, newColumns)),
      exited,
    };
  }

  powerOff() {
    this.#send(0, POWER_OFF, Buffer.alloc(0));
  }

  /** @returns {Promise<void>} once the agent has answered */
  ping() {
    this.#send(0, PING, Buffer.alloc(0));
    return new Promise((resolve) => this.once('pong', resolve));
  }

  /** @param {Error} error what every command that still runs, or is to run, fails with */
  abandon(error) {
    this.#gone = error;
    this.#rejectAll(error);
  }

  /** @param {Error} error */
  #rejectAll(error) {
    for (const job of this.#jobs.values()) job.reject(error);
    this.#jobs.clear();
  }

  /**
   * @param {number} job
   * @param {number} type
   * @param {Uint8Array} payload
   */
  #send(job, type, payload) {
    if (this.#stream.destroyed) return;
    this.#stream.write(Buffer.concat([numbers(job, type, payload.length), payload]));
  }

  /** @param {Buffer} chunk */
  #receive(chunk) {
    const begin = this.#greeted && !this.#restarts ? undefined : this.#afterGreeting(chunk);
    if (begin === undefined) {
      this.#buffer = this.#buffer.length ? Buffer.concat([this.#buffer, chunk]) : chunk;
    } else {
      // Whatever came before belongs to a machine that is no more.
      this.#rejectAll(new Error('the agent was started anew'));
      this.#buffer = chunk.subarray(begin);
      this.#greeted = true;
      this.emit('ready');
    }
    if (this.#greeted) this.#takeFrames();
  }

  /**
   * @param {Buffer} chunk
   * @returns {number | undefined} where the agent's frames begin in it, if that is in it
   */
  #afterGreeting(chunk) {
    const seen = Buffer.concat([this.#recent, chunk]);
    const at = seen.lastIndexOf(GREETING);
    const begin = at < 0 ? undefined : at + GREETING.length - this.#recent.length;
    this.#recent = seen.subarray(at < 0 ? 0 : at + GREETING.length).subarray(1 - GREETING.length);
    return begin;
  }

  #takeFrames() {
    while (this.#buffer.length >= HEADER) {
      const end = HEADER + this.#buffer.readUInt32LE(8);
      if (this.#buffer.length < end) return;
      const [id, type] = [this.#buffer.readUInt32LE(0), this.#buffer.readUInt32LE(4)];
      const payload = this.#buffer.subarray(HEADER, end);
      this.#buffer = this.#buffer.subarray(end);
      if (type === PING) this.emit('pong');
      else this.#deliver(id, type, payload);
    }
  }

  /**
   * @param {number} id
   * @param {number} type
   * @param {Buffer} payload
   */
  #deliver(id, type, payload) {
    const job = this.#jobs.get(id);
    if (!job) return;
    if (type === STDOUT) job.spec.onStdout(payload);
    if (type === STDERR) job.spec.onStderr(payload);
    if (type === EXIT) {
      this.#jobs.delete(id);
      job.resolve(payload.readUInt32LE(0));
    }
  }
}

/** @param {readonly number[]} values */
function numbers(...values) {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, index * 4);
  return bytes;
}
