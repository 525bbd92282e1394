/** Shows at a terminal that a command is in progress, and how far it is if the VM tells. */
import { JsonError, readJson } from '../../api/rest/jsonReader.ts';
import { VmmError } from '../../vmm/errors.ts';
import { ApiConnection } from './apiConnection.ts';

/** What is over sooner needs no word. */
const FIRST_MS = 400;
const INTERVAL_MS = 200;
/** Back to the line's beginning, and what is there is erased. */
const CLEAR = '\r\x1b[K';
/** How often a VM is asked how far it is, and how long it may take to say so. */
const LOOK_MS = 500;
const ANSWER_MS = 5_000;

/**
 * @param doing such as `Booting`
 * @param howFar more words, empty without any
 * @returns ends it, and leaves nothing on the screen
 */
export function showProgress(doing: string, howFar: () => string): () => void {
  const { stderr } = process;
  if (!showsProgress()) return () => {};
  const start = performance.now();
  let shown = false;
  const timer = setInterval(() => {
    const ms = performance.now() - start;
    if (ms < FIRST_MS) return;
    shown = true;
    const more = howFar();
    const text = `${doing}, ${(ms / 1000).toFixed(1)} s${more && `: ${more}`} (Ctrl-C: wait no longer)`;
    // A longer one would leave what it began on the line above.
    stderr.write(`${CLEAR}${text.slice(0, Math.max(0, (stderr.columns || 80) - 1))}`);
  }, INTERVAL_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    if (shown) stderr.write(CLEAR);
  };
}

export function showsProgress(): boolean {
  return process.stderr.isTTY && process.env.TERM !== 'dumb';
}

/** Polls what a VM waits for, beside the call that waits. Answers that do not come are not missed. */
export class Follower {
  text = '';
  readonly #describe: (info: unknown) => string;
  readonly #timer: NodeJS.Timeout;
  #api: ApiConnection | undefined;
  #asking = false;
  #ended = false;

  /** @param path of its socket @param describe what `vm.info` means for people */
  constructor(path: string, describe: (info: unknown) => string) {
    this.#describe = describe;
    this.#timer = setInterval(() => void this.#look(path), LOOK_MS);
    this.#timer.unref();
  }

  end(): void {
    this.#ended = true;
    clearInterval(this.#timer);
    this.#api?.close();
  }

  async #look(path: string): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      this.#api ??= await ApiConnection.open(path, ANSWER_MS);
      if (this.#ended) return this.#api.close();
      const { status, body } = await this.#api.call({ method: 'GET', endpoint: 'vm.info' }, ANSWER_MS);
      this.text = status === 200 ? this.#describe(readJson(body)) : '';
    } catch (error) {
      if (!(error instanceof VmmError || error instanceof JsonError)) throw error;
      this.text = '';
      this.#api?.close();
      this.#api = undefined;
    } finally {
      this.#asking = false;
    }
  }
}
