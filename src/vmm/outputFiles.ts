/**
 * Files that text of a guest, or about it, is appended to: consoles, log and event monitor. A name may be a slip, and
 * lead to a disk image or a kernel: nothing is lost from a file that is in use as something else.
 */
import type { VmConfig } from '../config/vmConfig.ts';
import { presentDevices } from '../devices/registry.ts';
import type { NativeAddon } from '../native.ts';
import { VmmError } from './errors.ts';
import { filesToRead } from './filesToRead.ts';
import { openOutput } from './namedFiles.ts';

export interface OutputFile {
  /** As messages call it: `serial port`. */
  readonly owner: string;
  readonly path: string;
  readonly fd: number;
}

type Files = Pick<
  NativeAddon,
  'openFile' | 'closeFile' | 'fileId' | 'fileIdAt' | 'imageSize' | 'lockRange' | 'unlockRange' | 'setFileSize'
>;

export interface KnownOutputs {
  /** Of the process, open already. */
  readonly others: readonly OutputFile[];
  /** Paths and identities of those that were emptied: once in a VM's life, however often it starts. */
  readonly begun: Set<string>;
}

/**
 * Opens a file to append to it, made if it is not there, and empties it if the VM has not begun it before.
 * @param config what the file must not be part of; undefined for a process without a VM
 * @param known is told of the file
 * @param open by which it is opened
 * @throws VmmError if the file is something else in this VM or to another process; Error if it cannot be opened
 */
export function openOutputFile(
  native: Files,
  config: VmConfig | undefined,
  { owner, path }: Omit<OutputFile, 'fd'>,
  known: KnownOutputs,
  open: (native: Files, path: string) => number = openOutput,
): OutputFile {
  const output = { owner, path, fd: open(native, path) };
  try {
    if (isRegular(native, output.fd)) begin(native, config, output, known);
    return output;
  } catch (error) {
    native.closeFile(output.fd);
    throw error;
  }
}

function begin(
  native: Files,
  config: VmConfig | undefined,
  { owner, path, fd }: OutputFile,
  { others, begun }: KnownOutputs,
): void {
  const id = native.fileId(fd);
  refuseIfUsed({ owner, path }, id, namedIds(native, config));
  // Held while the file is emptied: who opens it as a disk meanwhile finds it in use.
  if (!native.lockRange(fd, true, 0, 0)) {
    throw new VmmError(`Cannot use ${path} for the ${owner}: it is in use and locked, as disks are`);
  }
  const first = !begun.has(id) && !begun.has(path) && !others.some((other) => native.fileId(other.fd) === id);
  begun.add(id).add(path);
  // What the image of a disk has below it is not known yet, and would be lost.
  if (first && !config?.disks?.some(({ backing_files }) => backing_files)) native.setFileSize(fd, 0);
  native.unlockRange(fd, 0, 0);
}

/**
 * To be called when everything else of a VM is open.
 * @param used descriptors of what the VM has open besides
 * @throws VmmError if an output file is one of those
 */
export function checkOutputs(native: Files, outputs: readonly OutputFile[], used: readonly number[]): void {
  const regular = outputs.filter(({ fd }) => isRegular(native, fd));
  if (regular.length === 0) return;
  const ids = new Set(used.map((fd) => native.fileId(fd)));
  for (const output of regular) refuseIfUsed(output, native.fileId(output.fd), ids);
}

function refuseIfUsed({ owner, path }: Omit<OutputFile, 'fd'>, id: string, used: ReadonlySet<string>): void {
  if (used.has(id))
    throw new VmmError(`Cannot use ${path} for the ${owner}: the VM has it as something else`);
}

function namedIds(native: Files, config: VmConfig | undefined): Set<string> {
  const ids = new Set<string>();
  for (const path of config ? filesToRead(config, presentDevices(config)) : []) {
    const id = native.fileIdAt(path);
    if (id !== null) ids.add(id);
  }
  return ids;
}

/** Not a terminal, a FIFO or a device, in which there is nothing to lose. */
function isRegular(native: Files, fd: number): boolean {
  try {
    native.imageSize(fd);
    return true;
  } catch {
    return false;
  }
}
