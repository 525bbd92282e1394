/**
 * Numbers of runs, by which libvirt's clients know running domains. A number is a run's for as long as its process
 * lives, whichever supervisor looks after it, and is never given again.
 */
import { replaceFile, replaceHint } from '../api/vmhost/replaceFile.ts';
import { PRIVATE_FILE } from '../host/openFlags.ts';
import { readSmallFile } from '../host/regularFile.ts';
import { describeError } from '../vmm/errors.ts';
import { isAlive, type ProcessIdentity } from './processIdentity.ts';

/** In the supervisor's folder: no number up to the one in it is given any more. */
const GIVEN = 'run-ids';
/** In a VM's folder: the number of its run, and the process that it is a run of. */
const RUN = 'run.json';
/** Numbers that are written off at a time: those that are left are lost if the supervisor is killed. */
const BLOCK = 100;
/** libvirt's ids are signed numbers of 32 bits. */
const LAST = 0x7fff_ffff;

interface Run extends ProcessIdentity {
  readonly id: number;
}

export interface RunIdsOptions {
  /** The supervisor's folder. */
  readonly root: string;
  /** Of all VMs. */
  readonly folders: () => readonly string[];
  readonly warn: (message: string) => void;
}

export class RunIds {
  readonly #path: string;
  readonly #folders: RunIdsOptions['folders'];
  readonly #warn: RunIdsOptions['warn'];
  #given: number;
  /** All up to it are written off. */
  #reserved: number;
  /** Of what ran when the numbers were over. */
  #taken: ReadonlySet<number> = new Set();

  constructor({ root, folders, warn }: RunIdsOptions) {
    this.#path = `${root}/${GIVEN}`;
    this.#folders = folders;
    this.#warn = warn;
    // What runs has its numbers, whatever became of the file.
    this.#given = Math.max(this.#read() ?? 0, ...folders().map((folder) => readRun(folder)?.id ?? 0));
    this.#reserved = this.#given;
  }

  /** What the run of this process was given, by whichever supervisor; a new number if that was none. */
  of(folder: string, process: ProcessIdentity): number {
    const run = readRun(folder);
    if (run?.pid === process.pid && run.startTime === process.startTime) return run.id;
    const id = this.#next();
    try {
      replaceHint(`${folder}/${RUN}`, `${JSON.stringify({ id, ...process })}\n`, PRIVATE_FILE);
    } catch (error) {
      this.#warn(`The next tsvmmd will have another id for a run in ${folder}: ${describeError(error)}`);
    }
    return id;
  }

  /** Gives back what was written off and not given. */
  close(): void {
    if (this.#reserved > this.#given) this.#write(this.#given);
  }

  #next(): number {
    do {
      if (this.#given >= LAST) this.#beginAnew();
      this.#given++;
    } while (this.#taken.has(this.#given));
    if (this.#given > this.#reserved) this.#write(Math.min(this.#given + BLOCK, LAST));
    return this.#given;
  }

  /** After the last number, which a damaged file may name: few runs of before are left. */
  #beginAnew(): void {
    const left = this.#folders().flatMap((folder) => readRun(folder) ?? []);
    this.#taken = new Set(left.filter(isAlive).map(({ id }) => id));
    this.#given = 0;
    this.#reserved = 0;
  }

  #write(reserved: number): void {
    try {
      replaceFile(this.#path, `${reserved}\n`, PRIVATE_FILE);
      this.#reserved = reserved;
    } catch (error) {
      // Tried again with the next number.
      this.#warn(`Ids of runs may be given again by the next tsvmmd: ${describeError(error)}`);
    }
  }

  /** Undefined without the file. */
  #read(): number | undefined {
    try {
      const text = readSmallFile(this.#path).toString();
      const given = Number(text);
      if (/^\d+\n$/.test(text) && given <= LAST) return given;
      this.#warn(`Ids of runs may be given again: ${this.#path} has no number in it`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      this.#warn(`Ids of runs may be given again: ${describeError(error)}`);
    }
    return undefined;
  }
}

/** Undefined if the folder has none that could be meant. */
function readRun(folder: string): Run | undefined {
  try {
    const { id, pid, startTime } = JSON.parse(readSmallFile(`${folder}/${RUN}`).toString()) as Run;
    return Number.isInteger(id) && id > 0 && id <= LAST ? { id, pid, startTime } : undefined;
  } catch {
    return undefined;
  }
}
