/** A full-screen display that is redrawn when something changes, until it is quit. */
import { FlowOutput } from './flowOutput.ts';
import { outputSize, RawTerminal, type TerminalSize } from './rawTerminal.ts';

const STDOUT = 1;
/** The other screen, without a cursor; and back (xterm's control sequences, DECSET 1049 and 25). */
const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const END_OF_LINE = '\x1b[K\r\n';
const CLEAR_BELOW = '\x1b[J';

const CTRL_C = 0x03;
const CTRL_Z = 0x1a;
const QUIT = [CTRL_C, 'q'.charCodeAt(0), 'Q'.charCodeAt(0)];

export class LiveScreen {
  /** Resolves when the user quits. */
  readonly left: Promise<void>;
  readonly #lines: (size: TerminalSize) => readonly string[];
  #leave: () => void = () => {};
  readonly #output = new FlowOutput(STDOUT, () => {});
  readonly #terminal: RawTerminal;

  /** @param lines what is to be seen at this moment, no more and no wider than fits */
  constructor(lines: (size: TerminalSize) => readonly string[]) {
    this.#lines = lines;
    this.left = new Promise((resolve) => {
      this.#leave = resolve;
    });
    this.#terminal = new RawTerminal({
      keys: (bytes) => this.#keys(bytes),
      redraw: () => this.draw(),
      enter: ENTER,
      leave: LEAVE,
    });
  }

  draw(): void {
    // A terminal that is slow gets the next one.
    if (this.#output.waiting) return;
    const lines = this.#lines(outputSize());
    // No line end behind the last: the screen would move.
    this.#output.write(new TextEncoder().encode(`${HOME}${lines.join(END_OF_LINE)}\x1b[K${CLEAR_BELOW}`));
  }

  close(): void {
    this.#output.close();
    this.#terminal.close();
  }

  #keys(bytes: Uint8Array): void {
    if (bytes.some((byte) => QUIT.includes(byte))) this.#leave();
    else if (bytes.includes(CTRL_Z)) process.kill(process.pid, 'SIGTSTP');
  }
}
