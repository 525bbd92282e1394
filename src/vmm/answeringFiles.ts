/**
 * Whether the stores of files answer, before the files are opened: that is done on this thread, on which all else of
 * the process would then wait for a store that hangs.
 */
import { sleep } from '../host/sleep.ts';
import type { NativeAddon } from '../native.ts';
import { VmmError } from './errors.ts';

/** As long as a disk may take to come to rest (Machine::kTimeout). */
const TIMEOUT_MS = 10_000;
/** A store that has not answered for less than this is slow, as a disk at rest is or one behind a network. */
const PATIENCE_MS = 300;
/** A store that answers does so in less than a millisecond, or after a wait for a disk or a network. */
const LONGEST_PAUSE_MS = 50;

interface AnswerLimits {
  readonly timeoutMs?: number;
  /** Nobody waits any more for a file whose store seems to hang. */
  readonly isCalledOff?: () => boolean;
}

/**
 * Resolves when all of them have answered, be it with an error, which opening them then has as well.
 * @throws VmmError with the name of one that has not
 */
export async function checkFilesAnswer(
  native: Pick<NativeAddon, 'fileAnswers'>,
  paths: readonly string[],
  limits: AnswerLimits = {},
): Promise<void> {
  for (const path of paths) if (!native.fileAnswers(path)) await untilAnswered(native, path, limits);
}

async function untilAnswered(
  native: Pick<NativeAddon, 'fileAnswers'>,
  path: string,
  { timeoutMs = TIMEOUT_MS, isCalledOff }: AnswerLimits,
): Promise<void> {
  const begin = performance.now();
  const hangs = () => {
    const waited = performance.now() - begin;
    return waited >= timeoutMs || (waited >= PATIENCE_MS && isCalledOff?.());
  };
  let pause = 0;
  do {
    if (hangs()) {
      throw new VmmError(`The store of ${path} does not answer`, { code: 'ERR_TSVMM_TIMEOUT' });
    }
    await sleep(pause);
    pause = Math.min(2 * pause + 1, LONGEST_PAUSE_MS);
  } while (!native.fileAnswers(path));
}
