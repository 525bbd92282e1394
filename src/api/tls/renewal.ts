/** Certificates that are renewed while a server runs, for a process in which no signal is left to say so. */
import { type FSWatcher, watch } from 'node:fs';
import { describeError } from '../../vmm/errors.ts';

/** Certificate and key come one after the other: both are there when nothing has changed for so long. */
const QUIET_MS = 1_000;

/**
 * Calls `reload` when something in a folder has changed.
 * @param warn gets why it could not be done, which leaves everything as it was
 * @returns ends it
 */
export function watchCertificates(
  folder: string,
  reload: () => void,
  warn: (message: string) => void,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  const changed = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      try {
        reload();
      } catch (error) {
        warn(`${describeError(error)}; those from before are used`);
      }
    }, QUIET_MS);
  };
  const unwatched = (error: Error) => warn(`${folder} is not watched for new certificates: ${error.message}`);
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(folder, changed).on('error', unwatched);
  } catch (error) {
    unwatched(error as Error);
  }
  return () => {
    clearTimeout(timer);
    watcher?.close();
  };
}
