/**
 * Definitions on disk: a folder `vms/NAME` for each, with `vm.json` (the machine, as its process reads it) and
 * `policy.json`. Files and folders appear and go by rename, and what is acknowledged is on the disk: a copy of the folder is a
 * backup, and an editor repairs it.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { replaceFile } from '../api/vmhost/replaceFile.ts';
import type { VmConfigInput } from '../config/vmConfig.ts';
import { VmmError } from '../vmm/errors.ts';
import { checkName, type Definition, readPolicy } from './definition.ts';

const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;
/** Of folders that are not complete yet, or on their way out: no VM is called so. */
const UNFINISHED = '.new-';
const REMOVED = '.removed-';
/** Of a UNIX socket's address, without the byte that ends it (unix(7)). */
const MAX_SOCKET_PATH = 107;
/** In the folder of a VM that somebody started and nobody stopped. */
const WANTED = 'wanted';

export interface BrokenDefinition {
  readonly name: string;
  readonly reason: string;
}

export class DefinitionStore {
  readonly #folder: string;

  /** Makes the folder, and removes what an earlier process did not finish. @throws Error if it cannot be made */
  constructor(root: string) {
    this.#folder = `${root}/vms`;
    mkdirSync(this.#folder, { recursive: true, mode: FOLDER_MODE });
    for (const name of readdirSync(this.#folder)) {
      if (name.startsWith(UNFINISHED) || name.startsWith(REMOVED)) this.#discard(`${this.#folder}/${name}`);
    }
  }

  folderOf(name: string): string {
    return `${this.#folder}/${name}`;
  }

  /** Every definition that can be read, and those that cannot with the reason; these are left as they are. */
  load(): { readonly definitions: Definition[]; readonly broken: BrokenDefinition[] } {
    const definitions: Definition[] = [];
    const broken: BrokenDefinition[] = [];
    for (const entry of readdirSync(this.#folder, { withFileTypes: true })) {
      const { name } = entry;
      if (!entry.isDirectory() || !existsSync(`${this.folderOf(name)}/vm.json`)) continue;
      try {
        definitions.push(this.#read(checkName(name)));
      } catch (error) {
        broken.push({ name, reason: (error as Error).message });
      }
    }
    return { definitions, broken };
  }

  /** Adds a definition. On the disk when it returns. @throws VmmError with nothing added */
  add(definition: Definition): void {
    const path = this.folderOf(definition.name);
    checkSocketFits(`${path}/vmhost.sock`);
    const unfinished = `${this.#folder}/${UNFINISHED}${definition.name}`;
    try {
      mkdirSync(unfinished, { mode: FOLDER_MODE });
      for (const [file, content] of filesOf(definition)) {
        writeFileSync(`${unfinished}/${file}`, content, { mode: FILE_MODE, flush: true });
      }
      syncFolder(unfinished);
      renameSync(unfinished, path);
      syncFolder(this.#folder);
    } catch (error) {
      rmSync(unfinished, { recursive: true, force: true });
      throw new VmmError(`The definition of the VM ${definition.name} cannot be written`, { cause: error });
    }
  }

  /** Replaces a definition that is there, each file at once. @throws Error */
  replace(definition: Definition): void {
    const path = this.folderOf(definition.name);
    for (const [file, content] of filesOf(definition)) replaceFile(`${path}/${file}`, content, FILE_MODE);
    syncFolder(path);
  }

  /** Removes a definition with all that is in its folder. @throws Error with nothing removed */
  remove(name: string): void {
    const removed = `${this.#folder}/${REMOVED}${name}`;
    this.#discard(removed);
    renameSync(this.folderOf(name), removed);
    syncFolder(this.#folder);
    this.#discard(removed);
  }

  /** Whether the VM was started and not stopped, as far as is known: a hint, not synced. */
  wanted(name: string): boolean {
    return existsSync(`${this.folderOf(name)}/${WANTED}`);
  }

  setWanted(name: string, wanted: boolean): void {
    const path = `${this.folderOf(name)}/${WANTED}`;
    try {
      if (wanted) writeFileSync(path, '', { mode: FILE_MODE });
      else rmSync(path, { force: true });
    } catch {
      // A full or read-only disk: what is lost is only that the VM is not started again by itself.
    }
  }

  #read(name: string): Definition {
    const path = this.folderOf(name);
    const config = readJson(`${path}/vm.json`) as VmConfigInput;
    const policy = existsSync(`${path}/policy.json`) ? readJson(`${path}/policy.json`) : {};
    return { name, config, policy: { uuid: uuidOf(path), ...readPolicy(policy, 'policy.json') } };
  }

  /** What cannot be removed now is when the next process starts. */
  #discard(path: string): void {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // See above.
    }
  }
}

/** A VM that could be defined and never started would be of no use. */
function checkSocketFits(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_SOCKET_PATH) return;
  throw new VmmError(
    `The name or the folder is too long: ${path} has ${bytes} bytes, and a socket's path at most ${MAX_SOCKET_PATH}`,
    { kind: 'invalid' },
  );
}

function filesOf({ config, policy }: Definition): readonly (readonly [string, string])[] {
  return [
    ['vm.json', `${JSON.stringify(config, undefined, 2)}\n`],
    ['policy.json', `${JSON.stringify(policy, undefined, 2)}\n`],
  ];
}

/** Of a folder that somebody made by hand: the same for as long as it is there. */
function uuidOf(path: string): string {
  const hex = createHash('sha256').update(path).digest('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `5${hex.slice(13, 16)}`,
    `8${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new Error(`Cannot read ${path}: ${(error as Error).message}`);
  }
}

/** A rename lasts once its folder is on the disk. */
function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
