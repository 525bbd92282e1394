/**
 * `exit.json` in a VM's folder: how the VM ended, for a supervisor that was not there. It appears by rename when the VM
 * is gone, and its space is taken while the VM starts, so that a disk that is full by then loses nothing.
 */
import { closeSync, ftruncateSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { PRIVATE_FILE } from '../../host/openFlags.ts';
import { readSmallFile } from '../../host/regularFile.ts';
import { VmmError } from '../../vmm/errors.ts';
import type { VmmExit } from '../../vmm/events.ts';
import { VmFile } from './folderFiles.ts';

const UNFINISHED = `.${VmFile.exit}.new`;
const SIZE = 4096;
/** Characters of its message: what is escaped takes up to six bytes. */
const MAX_MESSAGE = 600;

export class ExitRecord {
  readonly #folder: string;
  readonly #fd: number;

  /** Forgets how the VM ended before. @throws VmmError if there is no space */
  constructor(folder: string) {
    this.#folder = folder;
    forgetExit(folder);
    try {
      rmSync(`${folder}/${UNFINISHED}`, { force: true });
      // Opening what is there by that name may wait for somebody.
      this.#fd = openSync(`${folder}/${UNFINISHED}`, 'wx', PRIVATE_FILE);
      writeSync(this.#fd, Buffer.alloc(SIZE, ' '), 0, SIZE, 0);
    } catch (error) {
      throw new VmmError(`Cannot write in ${folder}`, { cause: error });
    }
  }

  /** Once. @throws Error */
  write({ message, ...exit }: VmmExit): void {
    const kept = message === undefined ? exit : { ...exit, message: message.slice(0, MAX_MESSAGE) };
    const text = Buffer.from(`${JSON.stringify(kept)}\n`);
    writeSync(this.#fd, text, 0, text.length, 0);
    ftruncateSync(this.#fd, text.length);
    closeSync(this.#fd);
    renameSync(`${this.#folder}/${UNFINISHED}`, `${this.#folder}/${VmFile.exit}`);
  }
}

/** Before the VM starts anew. */
export function forgetExit(folder: string): void {
  rmSync(`${folder}/${VmFile.exit}`, { force: true });
}

/** How the VM's last run ended; undefined where its process could not say. */
export function readExit(folder: string): VmmExit | undefined {
  try {
    const exit = JSON.parse(readSmallFile(`${folder}/${VmFile.exit}`).toString()) as VmmExit;
    return typeof exit.reason === 'string' && typeof exit.code === 'number' ? exit : undefined;
  } catch {
    return undefined;
  }
}
