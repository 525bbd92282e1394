/** A command at a terminal of its own (script(1)), as a person has it, and what becomes of the terminal. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import { expect, onTestFinished } from 'vitest';
import { BIN, type Runtime, settles, until } from './support.ts';

const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;

export interface TerminalOptions {
  readonly runtime?: Runtime;
  readonly env?: NodeJS.ProcessEnv;
  readonly columns?: number;
  readonly rows?: number;
}

/** `tsvmm` with these words. Before it and behind it the terminal's settings are written down. */
export class Terminal {
  /** All that the terminal was sent. */
  text = '';
  readonly #script: ChildProcess;
  #ended = false;

  constructor(words: readonly string[], options: TerminalOptions = {}) {
    const { runtime, env = {}, columns = 80, rows = 24 } = options;
    const command = [BIN, ...words].map(quote).join(' ');
    const line = [
      // Ctrl-C is for the command; a signal that is caught, and not ignored, is none of a child's settings.
      'trap : INT',
      `stty cols ${columns} rows ${rows}; echo "terminal $(tty)"; echo "before $(stty -g)"`,
      `sh -c 'echo "pid $$"; exec "$@"' sh ${command}; code=$?`,
      'echo; echo "after $(stty -g)"; echo "code $code"',
    ].join('\n');
    this.#script = spawn('script', ['-qec', line, '/dev/null'], {
      env: {
        ...process.env,
        SHELL: '/bin/sh',
        TERM: 'xterm',
        LANG: 'C.UTF-8',
        ...(runtime === 'node' && { TSVMM_RUNTIME: 'node' }),
        ...env,
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#script.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.text += text;
    });
    this.#script.stdin?.on('error', () => {});
    this.#script.on('close', () => {
      this.#ended = true;
    });
    onTestFinished(async () => {
      this.#script.kill('SIGKILL');
      await until(
        () => this.#ended,
        () => 'the terminal does not end',
      );
    });
  }

  type(text: string): void {
    this.#script.stdin?.write(text, 'latin1');
  }

  async waitFor(wanted: string | RegExp): Promise<void> {
    const found = () => (typeof wanted === 'string' ? this.text.includes(wanted) : wanted.test(this.text));
    await until(
      () => found() || this.#ended,
      () => `no ${wanted} in ${JSON.stringify(this.text)}`,
    );
    if (!found()) throw new Error(`ended before ${wanted}: ${JSON.stringify(this.text)}`);
  }

  /** Of the command. */
  async pid(): Promise<number> {
    await this.waitFor(/pid \d+\r?\n/);
    return Number(/pid (\d+)/.exec(this.text)?.[1]);
  }

  async state(wanted: string): Promise<void> {
    const pid = await this.pid();
    await settles(() => {
      const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /, '');
      expect(stat[0]).toBe(wanted);
    });
  }

  /** As by Ctrl-Z and `fg`: the terminal is as it was meanwhile, and the command's again afterwards. */
  async stopAndGoOn(): Promise<void> {
    process.kill(await this.pid(), 'SIGTSTP');
    await this.state('T');
    expect(await this.settings()).toBe(this.before());
    process.kill(await this.pid(), 'SIGCONT');
    await settles(async () => expect(await this.settings()).not.toBe(this.before()));
  }

  /** The terminal's own device. */
  async device(): Promise<string> {
    await this.waitFor(/terminal \S+\r?\n/);
    return /terminal (\S+)/.exec(this.text)?.[1] as string;
  }

  /** As `stty -g` tells them, now. */
  async settings(): Promise<string> {
    const { execFileSync } = await import('node:child_process');
    return execFileSync('stty', ['-g', '-F', await this.device()], { encoding: 'latin1' }).trim();
  }

  before(): string {
    return /before (\S+)/.exec(this.text)?.[1] as string;
  }

  /** As when a window goes away. */
  hangUp(): void {
    this.#script.kill('SIGKILL');
  }

  /** The command's exit code. Expects that it has left the terminal as it was. */
  async exit(): Promise<number> {
    await this.waitFor(/code \d+\r?\n/);
    const after = /after (\S+)/.exec(this.text)?.[1];
    expect(after, this.text).toBe(this.before());
    return Number(/code (\d+)/.exec(this.text)?.[1]);
  }
}
