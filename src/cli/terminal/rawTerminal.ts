/** A terminal in raw mode, restored however the command ends. */
import { loadNative, type NativeAddon } from '../../native.ts';

const INPUT = 0;
const OUTPUT = 1;

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** Where a terminal does not know its own, or has none. */
const USUAL: TerminalSize = { columns: 80, rows: 24 };

/** Those that end a process, which are not ignored, and their numbers. */
const ENDING = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGALRM: 14,
  SIGTERM: 15,
} as const;
const SIGNAL_EXIT = 128;

export interface RawTerminalOptions {
  /** Typed, with every key as it is: Ctrl-C is a byte, too. */
  keys(bytes: Uint8Array): void;
  /** Standard input has ended. */
  inputEnded?(): void;
  /** The terminal has another size, or is ours again after a stop. */
  redraw?(): void;
  /** Written when the terminal is taken, and when it is left: what switches the screen. */
  readonly enter?: string;
  readonly leave?: string;
}

/**
 * Standard input in raw mode if it is a terminal. It is put back when the process exits in whatever way: by a signal,
 * an exception, `process.exit`; and for as long as the process is stopped.
 */
export class RawTerminal {
  readonly #native: NativeAddon = loadNative();
  readonly #options: RawTerminalOptions;
  readonly #undo: (() => void)[] = [];
  /** What ends its use, if it is a terminal. */
  #raw: number | null = null;
  #entered = false;

  constructor(options: RawTerminalOptions) {
    this.#options = options;
    this.#listen('exit', () => this.#leave());
    for (const [signal, number] of Object.entries(ENDING)) this.#listen(signal, () => this.#end(number));
    this.#listen('SIGTSTP', () => {
      this.#leave();
      process.kill(process.pid, 'SIGSTOP');
    });
    this.#listen('SIGCONT', () => this.#enter());
    this.#listen('SIGWINCH', () => options.redraw?.());
    this.#enter();
    process.stdin.on('data', options.keys);
    process.stdin.on('end', () => options.inputEnded?.());
    // A terminal that is gone: the signal for that ends the process.
    process.stdin.on('error', () => options.inputEnded?.());
  }

  /** Puts everything back. Idempotent. */
  close(): void {
    this.#leave();
    process.stdin.off('data', this.#options.keys);
    process.stdin.pause();
    for (const undo of this.#undo.splice(0)) undo();
  }

  #listen(event: string, listener: () => void): void {
    process.on(event, listener);
    this.#undo.push(() => process.off(event, listener));
  }

  #enter(): void {
    // Between a stop and its end, others may have used the terminal: it is made raw anew.
    this.#restore();
    this.#raw = this.#native.terminalRaw(INPUT);
    this.#entered = true;
    this.#write(this.#options.enter);
    this.#options.redraw?.();
  }

  #leave(): void {
    if (!this.#entered) return;
    this.#entered = false;
    this.#write(this.#options.leave);
    this.#restore();
  }

  #restore(): void {
    if (this.#raw === null) return;
    const raw = this.#raw;
    this.#raw = null;
    try {
      this.#native.terminalRestore(raw);
    } catch {
      // It is gone.
    }
  }

  #write(text: string | undefined): void {
    if (text !== undefined && text !== '') this.#native.writeNow(OUTPUT, new TextEncoder().encode(text));
  }

  /** As the shell tells of a process that a signal ended. At once: Node.js aborts where its terminal is gone. */
  #end(signal: number): never {
    this.#leave();
    return this.#native.exitAtOnce(SIGNAL_EXIT + signal);
  }
}

/** Of the terminal that output goes to; a usual one where it does not say. */
export function outputSize(): TerminalSize {
  const size = loadNative().terminalSize(OUTPUT);
  return size && size.columns > 0 && size.rows > 0 ? size : USUAL;
}

/** Whether what is written to standard output is seen by a person, on a terminal that can be drawn on. */
export function canDraw(): boolean {
  return process.stdout.isTTY === true && process.env.TERM !== 'dumb' && (process.env.TERM ?? '') !== '';
}
