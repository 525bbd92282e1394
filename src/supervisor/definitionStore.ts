/**
 * Definitions on disk: a folder `vms/NAME` for each, with `vm.json` (the machine, as its process reads it) and
 * `policy.json`. Files and folders appear and go by rename, and what is acknowledged is on the disk: a copy of the
 * folder is a backup, and an editor repairs it.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { readJson } from '../api/rest/jsonReader.ts';
import { writeJson } from '../api/rest/jsonWriter.ts';
import { VmFile, vmsFolder } from '../api/vmhost/folderFiles.ts';
import { isUnfinished, replaceFile, replaceHint } from '../api/vmhost/replaceFile.ts';
import { decode } from '../config/decode.ts';
import { MAX_SMALL_FILE, MAX_SOCKET_PATH } from '../config/limits.ts';
import { type VmConfigInput, vmConfig } from '../config/vmConfig.ts';
import { PRIVATE_FILE } from '../host/openFlags.ts';
import { readSmallFile } from '../host/regularFile.ts';
import { describeError, VmmError } from '../vmm/errors.ts';
import { type Definition, isName, readPolicy, type VmPolicy } from './definition.ts';

/** People read and edit these files. */
const INDENT = '  ';
const FOLDER_MODE = 0o700;
/** Of folders that are not complete yet, or on their way out: no VM is called so. */
const UNFINISHED = '.new-';
const REMOVED = '.removed-';
/** In the folder of a VM that was started and not stopped. */
const WANTED = 'wanted';

/** What of a definition cannot be read. */
export interface DefinitionProblem {
  readonly reason: string;
  readonly config: boolean;
  readonly policy: boolean;
}

/** What a folder says of its VM. */
export interface StoredDefinition {
  /** What cannot be read is as if nothing had been said. */
  readonly definition: Definition;
  readonly problem?: DefinitionProblem;
}

/** Texts that others keep beside a definition, by the names of their files. */
export type Companions = Readonly<Record<string, string>>;

export class DefinitionStore {
  readonly #folder: string;

  /** Makes the folder, and removes what an earlier process did not finish. @throws Error if it cannot be made */
  constructor(root: string) {
    this.#folder = vmsFolder(root);
    mkdirSync(this.#folder, { recursive: true, mode: FOLDER_MODE });
    for (const name of readdirSync(this.#folder)) {
      if (name.startsWith(UNFINISHED) || name.startsWith(REMOVED)) this.#discard(`${this.#folder}/${name}`);
    }
    for (const folder of [root, ...this.names().map((name) => this.folderOf(name))]) this.#tidy(folder);
  }

  folderOf(name: string): string {
    return `${this.#folder}/${name}`;
  }

  /** Of all VMs, also of one that has nothing but a process. @throws Error if the folder cannot be read */
  names(): string[] {
    const folders = readdirSync(this.#folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return folders
      .map(({ name }) => name)
      .filter((name) => isName(name) && [VmFile.config, VmFile.pid].some((file) => this.#has(name, file)));
  }

  /** Of folders that would have a definition if a VM could be called so. */
  misnamed(): string[] {
    return readdirSync(this.#folder).filter((name) => !isName(name) && this.#has(name, VmFile.config));
  }

  /** Another one after each change of the definition, also by an editor. Undefined if there is none. */
  version(name: string): string | undefined {
    const versions = [VmFile.config, VmFile.policy].map((file) =>
      versionOf(`${this.folderOf(name)}/${file}`),
    );
    return versions[0] === undefined ? undefined : versions.join();
  }

  /** What is there is left as it is, whatever it is. */
  read(name: string): StoredDefinition {
    const config = attempt(() => this.#readConfig(name));
    const policy = attempt(() => this.#readPolicy(name));
    const definition = {
      name,
      config: config.value ?? {},
      policy: { uuid: uuidOf(this.folderOf(name)), ...(policy.value ?? this.#identityIn(name)) },
    };
    const reasons = [config.reason, policy.reason].filter((reason) => reason !== undefined);
    if (reasons.length === 0) return { definition };
    const problem = {
      reason: reasons.join('; '),
      config: config.reason !== undefined,
      policy: policy.reason !== undefined,
    };
    return { definition, problem };
  }

  /**
   * Adds a definition. On the disk when it returns.
   * @param companions further files of its folder, by name
   * @throws VmmError with nothing added
   */
  add(definition: Definition, companions: Companions = {}): void {
    const path = this.folderOf(definition.name);
    checkSocketFits(`${path}/${VmFile.controlSocket}`);
    const files = [...filesOf(definition), ...Object.entries(companions)];
    const unfinished = `${this.#folder}/${UNFINISHED}${definition.name}`;
    try {
      mkdirSync(unfinished, { mode: FOLDER_MODE });
      for (const [file, content] of files) {
        writeFileSync(`${unfinished}/${file}`, content, { mode: PRIVATE_FILE, flush: true });
      }
      syncFolder(unfinished);
      renameSync(unfinished, path);
      syncFolder(this.#folder);
    } catch (error) {
      this.#discard(unfinished);
      throw new VmmError(`The definition of the VM ${definition.name} cannot be written`, { cause: error });
    }
  }

  /** Replaces a definition that is there, each file at once. @throws Error */
  replace(definition: Definition): void {
    const path = this.folderOf(definition.name);
    for (const [file, content] of filesOf(definition)) replaceFile(`${path}/${file}`, content, PRIVATE_FILE);
    syncFolder(path);
  }

  /**
   * Removes a definition with all that is in its folder.
   * @returns what of the folder could not be removed, as a sentence; it is tried again when the next process starts
   * @throws VmmError with nothing removed
   */
  remove(name: string): string | undefined {
    // What is left of an earlier VM of that name is not in the way.
    const removed = `${this.#folder}/${REMOVED}${name}-${process.hrtime.bigint()}`;
    try {
      renameSync(this.folderOf(name), removed);
      syncFolder(this.#folder);
    } catch (error) {
      throw new VmmError(`The VM ${name} cannot be removed`, { cause: error });
    }
    try {
      rmSync(removed, { recursive: true, force: true });
      return undefined;
    } catch (error) {
      return `The VM ${name} is gone, but not all of its folder, which is ${removed} now: ${describeError(error)}`;
    }
  }

  /** Whether the VM was started and not stopped, as far as is known: a hint, not synced. */
  wanted(name: string): boolean {
    return existsSync(`${this.folderOf(name)}/${WANTED}`);
  }

  setWanted(name: string, wanted: boolean): void {
    const path = `${this.folderOf(name)}/${WANTED}`;
    try {
      if (wanted) replaceHint(path, '', PRIVATE_FILE);
      else rmSync(path, { force: true });
    } catch {
      // A full or read-only disk: what is lost is only that the VM is not started again by itself.
    }
  }

  #has(name: string, file: string): boolean {
    return isThere(`${this.folderOf(name)}/${file}`);
  }

  #readConfig(name: string): VmConfigInput {
    const config = readJsonFile(`${this.folderOf(name)}/${VmFile.config}`);
    decode(vmConfig, config, VmFile.config);
    return config as VmConfigInput;
  }

  #readPolicy(name: string): VmPolicy {
    return readPolicy(this.#readPolicyFile(name), VmFile.policy);
  }

  #readPolicyFile(name: string): unknown {
    const path = `${this.folderOf(name)}/${VmFile.policy}`;
    return isThere(path) ? readJsonFile(path) : {};
  }

  /** Clients know a VM by its UUID, also while another part of the policy is broken. */
  #identityIn(name: string): VmPolicy {
    const { uuid } = attempt(() => this.#readPolicyFile(name) as { uuid?: unknown }).value ?? {};
    const kept = attempt(() => readPolicy({ uuid }, VmFile.policy));
    return kept.value ?? readPolicy({}, VmFile.policy);
  }

  /** VMs' processes, which may be at it, write no file but the one that names them. */
  #tidy(folder: string): void {
    let files: string[] = [];
    try {
      files = readdirSync(folder);
    } catch {
      // Out of reach, as its definition is said to be.
    }
    for (const file of files) {
      if (isUnfinished(file) && !file.startsWith(VmFile.pid)) this.#discard(`${folder}/${file}`);
    }
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

/** Also a link to nothing, or what cannot be looked at: it is a definition that cannot be read, and no lack of one. */
function isThere(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true;
  }
}

/** Undefined if there is nothing. */
function versionOf(path: string): string | undefined {
  try {
    const found = statSync(path, { bigint: true });
    return `${found.ino} ${found.size} ${found.mtimeNs} ${found.ctimeNs}`;
  } catch (error) {
    return isThere(path) ? (error as NodeJS.ErrnoException).code : undefined;
  }
}

function attempt<T>(work: () => T): { readonly value?: T; readonly reason?: string } {
  try {
    return { value: work() };
  } catch (error) {
    return { reason: (error as Error).message };
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

/** @throws VmmError if they could not be read again */
function filesOf({ config, policy }: Definition): readonly (readonly [string, string])[] {
  return [
    [VmFile.config, textOf(config)],
    [VmFile.policy, textOf(policy)],
  ];
}

function textOf(value: unknown): string {
  for (const indent of [INDENT, '']) {
    const text = `${writeJson(value, indent)}\n`;
    if (Buffer.byteLength(text) <= MAX_SMALL_FILE) return text;
  }
  throw new VmmError(`A definition has at most ${MAX_SMALL_FILE} bytes`, { kind: 'invalid' });
}

/** Of a folder that was made by hand: the same for as long as it is there. */
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

function readJsonFile(path: string): unknown {
  try {
    return readJson(readSmallFile(path).toString());
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
