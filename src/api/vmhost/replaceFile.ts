/** Writes a file so that a reader, also one after a crash, finds either what was there or all of the new content. */
import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';

/** No file of others beside ours is called so: it may be removed. */
const SUFFIX = '.tsvmm-unfinished';

/** What is left of a replacement whose process was killed. */
export function isUnfinished(name: string): boolean {
  return name.endsWith(SUFFIX);
}

/** @param mode of the new file, whatever the umask @throws Error with nothing left behind */
export function replaceFile(path: string, content: string, mode: number): void {
  replace(path, content, mode, fsyncSync);
}

/**
 * The same for what means nothing once the host has gone: not synced. Nor does it wait for anybody, as writing to what
 * is there by that name may.
 * @throws Error with nothing left behind
 */
export function replaceHint(path: string, content: string, mode: number): void {
  replace(path, content, mode, () => {});
}

function replace(path: string, content: string, mode: number, sync: (fd: number) => void): void {
  const unfinished = `${path}.${process.pid}${SUFFIX}`;
  // Of a process that had this one's id, and was killed.
  discard(unfinished);
  try {
    const fd = openSync(unfinished, 'wx', mode);
    try {
      fchmodSync(fd, mode);
      writeFileSync(fd, content);
      sync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(unfinished, path);
  } catch (error) {
    discard(unfinished);
    throw error;
  }
}

/** Why the file could not be written matters more than what may be left of it. */
function discard(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // See above.
  }
}
