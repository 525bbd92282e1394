/** Remembers what has been done since the host, or the container, was started. */
import { readFileSync, rmSync } from 'node:fs';
import { replaceHint } from '../api/vmhost/replaceFile.ts';
import { PRIVATE_FILE } from '../host/openFlags.ts';
import { readSmallFile } from '../host/regularFile.ts';
import { identify } from './processIdentity.ts';

const INIT = 1;

/** Tells this time from all others. A container has a process 1 of its own. */
function hostRun(): string {
  return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${identify(INIT).startTime}`;
}

/** Remembers in a file that something has been done. A hint, not synced. */
export class OncePerHostRun {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  get isDone(): boolean {
    try {
      return readSmallFile(this.#path).toString().trim() === hostRun();
    } catch {
      return false;
    }
  }

  set isDone(done: boolean) {
    try {
      if (done) replaceHint(this.#path, `${hostRun()}\n`, PRIVATE_FILE);
      else rmSync(this.#path, { force: true });
    } catch {
      // A full or read-only disk: it is done once more.
    }
  }
}
