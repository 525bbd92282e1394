/** Debian's gdb, as tests use it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { onTestFinished } from 'vitest';
import { gdbProgram } from '../../scripts/lab/gdb.mjs';
import { until } from './support.ts';

/** A gdb that is told a line at a time. */
export class Gdb {
  output = '';
  #seen = 0;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('latin1').on('data', (text: string) => {
        this.output += text;
      });
    }
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
  }

  /** @param symbols a file that has the guest's; without one there are addresses only */
  static async on(socket: string, symbols?: string): Promise<Gdb> {
    const { file, env } = await gdbProgram();
    const words = ['-q', '-nx', '-nh', ...(symbols === undefined ? [] : [symbols])];
    const gdb = new Gdb(spawn(file, words, { env: { ...process.env, ...env } }));
    gdb.say('set pagination off', 'set confirm off', 'set width 0', 'set style enabled off');
    gdb.say(`target remote ${socket}`, 'echo connected\\n');
    await gdb.waitFor('connected');
    return gdb;
  }

  say(...lines: string[]): void {
    this.#child.stdin?.write(lines.map((line) => `${line}\n`).join(''));
  }

  /** What it printed up to and with `wanted`, since the last call. */
  async waitFor(wanted: string | RegExp): Promise<string> {
    const found = () => {
      const text = this.output.slice(this.#seen);
      const at = typeof wanted === 'string' ? text.indexOf(wanted) : text.search(wanted);
      return at < 0 ? undefined : text.slice(0, at) + (text.slice(at).match(wanted)?.[0] ?? wanted);
    };
    await until(
      () => found() !== undefined,
      () => `no ${wanted} of gdb:\n${this.output}`,
    );
    const text = found() as string;
    this.#seen += text.length;
    return text;
  }

  /** What an expression is. */
  async print(expression: string): Promise<string> {
    this.say('echo <begin>', `output ${expression}`, 'echo <end>\\n');
    const [, value = ''] = /<begin>([\s\S]*)<end>/.exec(await this.waitFor('<end>')) ?? [];
    return value.replaceAll('(gdb)', '').trim();
  }

  interrupt(): void {
    this.#child.kill('SIGINT');
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
