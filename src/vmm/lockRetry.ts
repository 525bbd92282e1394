/** Repeats the opening of files that another process has locked, perhaps only for a moment. */
import { sleep } from '../host/sleep.ts';
import { FileInUse } from './namedFiles.ts';

const ATTEMPTS = 15;
const RETRY_MS = 20;

/**
 * Opens what may be in use for a moment more: a killed process can leave its disk's lock behind for some milliseconds,
 * in I/O that the kernel is still ending. Who starts its VM anew at once, or gives the disk to another one, should not
 * have to know.
 * @param undo called between two attempts
 */
export async function retryInUse<T>(open: () => Promise<T>, undo: () => void): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await open();
    } catch (error) {
      if (!(error instanceof FileInUse) || attempt === ATTEMPTS) throw error;
    }
    undo();
    await sleep(RETRY_MS);
  }
}
