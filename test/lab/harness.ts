/** One booted lab for all files of this tier, and a person at the console of a VM in it. */
import fs from 'node:fs';
import os from 'node:os';
import { onTestFailed } from 'vitest';
import type { Job } from '../../scripts/lab/agentLink.mjs';
import { type Lab, openLab } from '../../scripts/lab/lab.mjs';

/** A nested guest's whole life takes some 10 s of the lab's own time (scripts/lab/labTime.mjs). */
const PATIENCE_SECONDS = 120;

/** All of Debian with its systemd takes 80 s to its login where nothing else runs. */
export const DEBIAN_SECONDS = 600;

let shared: Promise<Lab> | undefined;

/**
 * The lab, booted when first asked for, and anew after it died. The files of this tier share one worker, and it ends
 * with that.
 */
export function sharedLab(): Promise<Lab> {
  shared ??= openLab().then((lab) => {
    lab.ended.then(() => {
      shared = undefined;
    });
    return lab;
  });
  return shared;
}

/** Runs a line of shell in the lab and returns what it printed. Fails if its exit code is not 0. */
export async function inLab(lab: Lab, line: string): Promise<string> {
  const { code, stdout, stderr } = await lab.run(['sh', '-c', line], { timeoutSeconds: PATIENCE_SECONDS });
  if (code !== 0) throw new Error(`in the lab: "${line}" ended with ${code}:\n${stdout}${stderr}`);
  return stdout;
}

/** Copies a file of this machine into the lab. */
export async function copyToLab(lab: Lab, file: string, name: string): Promise<string> {
  const command = ['sh', '-c', `cat >${name}`];
  const { code, stderr } = await lab.run(command, {
    input: fs.readFileSync(file),
    timeoutSeconds: PATIENCE_SECONDS,
  });
  if (code !== 0) throw new Error(`cannot copy ${file} into the lab: ${stderr}`);
  return name;
}

/** Which program runs the VMM: the standalone executable or Node.js. */
type Runtime = 'executable' | 'node';

export const guestFiles = {
  bzImage: '/guest/bzImage',
  vmlinux: '/guest/vmlinux',
  initramfs: '/guest/initramfs',
  /** An initramfs with tools and an agent in it: see guest.ts. */
  workshop: '/guest/workshop',
  disk: '/guest/disk.img',
} as const;

/** Where and how a command runs. */
export interface CommandPlace {
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  readonly terminal?: { readonly rows: number; readonly columns: number };
}

export interface SessionOptions {
  readonly runtime?: Runtime;
  /** Words that go before the VMM's path, such as `ip netns exec NAME`. */
  readonly wrapper?: readonly string[];
}

/** A command in the lab with its standard input and output, or on a terminal of its own. */
export class Session {
  #text = '';
  #read = 0;
  #errors = '';
  #end: string | undefined;
  #waiting: (() => void)[] = [];
  #listener: ((bytes: Uint8Array) => void) | undefined;
  readonly #lab: Lab;
  readonly #job: Job;
  /** Resolves with the reason when the process has ended, however it did. */
  readonly ended: Promise<string>;

  constructor(lab: Lab, command: readonly string[], options: CommandPlace = {}) {
    this.#lab = lab;
    this.#job = lab.start({
      command,
      ...options,
      onStdout: (bytes) => {
        if (this.#listener) {
          this.#listener(bytes);
          return;
        }
        this.#text += bytes.toString();
        this.#wake();
      },
      onStderr: (bytes) => {
        this.#errors += bytes.toString();
      },
    });
    this.#dieWithTest();
    this.ended = this.#job.exited
      .then(
        (code) => `the command ended with ${code}`,
        (error: Error) => error.message,
      )
      .then((why) => {
        this.#end = why;
        this.#wake();
        return why;
      });
  }

  /** What a failed test leaves behind would take the others' processor time. */
  #dieWithTest(): void {
    try {
      onTestFailed(() => this.signal('SIGKILL'));
    } catch {
      // Started by no test, but for several of them.
    }
  }

  /** Hands stdout to a listener from now on, byte by byte, instead of keeping it as text. */
  onStdout(listener: (bytes: Uint8Array) => void): void {
    this.#listener = listener;
  }

  /** Standard input. */
  write(bytes: Uint8Array): void {
    this.#job.write(bytes);
  }

  /** Everything on stdout so far. */
  get text(): string {
    return this.#text;
  }

  /** Everything on stderr so far. */
  get errors(): string {
    return this.#errors;
  }

  /** Waits until the guest prints something after what was waited for last. */
  async expect(wanted: string, seconds = PATIENCE_SECONDS): Promise<void> {
    const end = this.#lab.now() + seconds * 1000;
    for (;;) {
      const at = this.#text.indexOf(wanted, this.#read);
      if (at >= 0) {
        this.#read = at + wanted.length;
        return;
      }
      if (this.#end !== undefined || this.#lab.now() > end) {
        const how = this.#end ?? `${seconds} s passed`;
        throw new Error(
          `${how} without "${wanted}"; stdout ends in\n${this.#text.slice(-3000)}\nstderr:\n${this.#errors}`,
        );
      }
      await this.#change(500);
    }
  }

  /** Types a line into the shell once it shows its prompt. */
  async type(line: string, prompt = 'guest# '): Promise<void> {
    await this.expect(prompt);
    this.#job.write(Buffer.from(`${line}\n`));
  }

  signal(name: 'SIGTERM' | 'SIGINT' | 'SIGKILL'): void {
    this.#job.kill(os.constants.signals[name]);
  }

  /** The exit code, or 128 and the signal's number. */
  async exitCode(seconds = PATIENCE_SECONDS): Promise<number> {
    return this.#lab.within(seconds, this.#job.exited, () => {
      this.signal('SIGKILL');
      return this.#job.exited;
    });
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #change(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

/** A `tsvmm` process in the lab. */
export class VmmSession extends Session {
  constructor(lab: Lab, args: readonly string[], options: SessionOptions = {}) {
    super(lab, [...(options.wrapper ?? []), '/tsvmm/bin/tsvmm', ...args], {
      env: options.runtime === 'node' ? { TSVMM_RUNTIME: 'node' } : {},
    });
  }
}

export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** One request to a REST socket in the lab. */
export async function api(
  lab: Lab,
  socket: string,
  method: 'GET' | 'PUT',
  endpoint: string,
  body?: unknown,
): Promise<ApiAnswer> {
  let answer = '';
  const errors: Buffer[] = [];
  const complete = new Promise<void>((resolve) => {
    const job = lab.start({
      command: ['/sbin/agent', 'connect', socket],
      onStdout: (bytes) => {
        answer += bytes.toString('latin1');
        if (isComplete(answer)) job.kill(os.constants.signals.SIGTERM);
      },
      onStderr: (bytes) => errors.push(bytes),
    });
    job.write(Buffer.from(request(method, endpoint, body)));
    job.exited.then(() => resolve());
  });
  await complete;
  const status = answer.match(/^HTTP\/1\.1 (\d{3})/);
  if (!status) throw new Error(`no answer from ${socket}: ${answer}${Buffer.concat(errors)}`);
  const json = answer.slice(answer.indexOf('\r\n\r\n') + 4);
  return { status: Number(status[1]), body: json ? JSON.parse(json) : undefined };
}

function request(method: string, endpoint: string, body: unknown): string {
  const json = body === undefined ? '' : JSON.stringify(body);
  const content = json
    ? `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(json)}\r\n`
    : '';
  return `${method} /api/v1/${endpoint} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n${content}\r\n${json}`;
}

function isComplete(answer: string): boolean {
  const end = answer.indexOf('\r\n\r\n');
  if (end < 0) return false;
  const length = answer.slice(0, end).match(/\r\ncontent-length: *(\d+)/i);
  return answer.length >= end + 4 + Number(length?.[1] ?? 0);
}
