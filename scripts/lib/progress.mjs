/** What the project's commands print while they work: one line a step, with signs of life on slow ones. */

/** Seconds without a word after which a step says that it is still at it. */
const QUIET_SECONDS = 10;

/** An error whose message says all: printed without a stack trace. */
export class Failure extends Error {}

/** @param {string} text */
export function say(text) {
  process.stderr.write(`${text}\n`);
}

/**
 * Runs one step and tells how long it took. `work` may report what it is doing through its argument.
 *
 * @template T
 * @param {string} title
 * @param {(detail: (text: string) => void) => Promise<T> | T} work
 * @returns {Promise<T>}
 */
export async function step(title, work) {
  const start = Date.now();
  const seconds = () => ((Date.now() - start) / 1000).toFixed(1);
  let detail = '';
  say(`> ${title}`);
  const timer = setInterval(
    () => say(`  ... ${seconds()} s${detail ? `: ${detail.slice(0, 90)}` : ''}`),
    QUIET_SECONDS * 1000,
  );
  try {
    const result = await work((text) => {
      detail = text;
    });
    if (Date.now() - start > 1000) say(`  ${title}: ${seconds()} s`);
    return result;
  } finally {
    clearInterval(timer);
  }
}

/**
 * Runs a command's main function: a Failure becomes one sentence, anything else a stack trace, both exit code 1.
 *
 * @param {() => Promise<number | void>} main returns the exit code, 0 unless given
 */
export async function runMain(main) {
  try {
    process.exitCode = (await main()) ?? 0;
  } catch (error) {
    say(
      error instanceof Failure
        ? `error: ${error.message}`
        : String(/** @type {Error} */ (error)?.stack ?? error),
    );
    process.exitCode = 1;
  }
}

/** Lets a signal end this process in order, so that what was started is stopped: only an ordinary exit cleans up. */
export function exitOnSignals() {
  const exit = () => {
    // Whoever else listens to the signal deals with it.
    if (SIGNALS.every((name) => process.listenerCount(name) === 1)) process.exit(130);
  };
  for (const name of SIGNALS) process.on(name, exit);
}

const SIGNALS = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);
