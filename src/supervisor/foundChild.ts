/** Finds processes of VMs that were started by an earlier supervisor, or by hand, by the files in the VM's folder. */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { VmFile } from '../api/vmhost/folderFiles.ts';
import { CONNECT_TIMEOUT_MS, encodeVmhost } from '../api/vmhost/protocol.ts';
import type { StreamConnection } from '../host/listen.ts';
import { connectQuietly } from '../host/quietStreams.ts';
import { readSmallFile } from '../host/regularFile.ts';
import { type ChildMessage, hearChild } from './childLink.ts';
import { Child } from './children.ts';
import { ageOf, identify, isAlive, type ProcessIdentity } from './processIdentity.ts';

/** The process that a VM's folder names, if it is there and is one of ours. */
export function processOf(folder: string): ProcessIdentity | undefined {
  try {
    const pid = Number(readSmallFile(`${folder}/${VmFile.pid}`).toString().trim());
    if (!Number.isSafeInteger(pid) || pid <= 1) return undefined;
    // Ids are used again, after the host was restarted for another VM's process too: this VM's works in its folder.
    return vmhostIn(pid, (workingFolder) => workingFolder === realpathSync(folder));
  } catch {
    return undefined;
  }
}

/**
 * All processes of VMs that work in folders below this one, by folder: also one whose VM is not up yet, and one whose
 * folder names it no more.
 */
export function processesBelow(folder: string): ReadonlyMap<string, ProcessIdentity> {
  const root = `${realpathSync(folder)}/`;
  const found = new Map<string, ProcessIdentity>();
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    let name = '';
    const identity = vmhostIn(pid, (workingFolder) => {
      name = workingFolder.slice(root.length);
      return workingFolder.startsWith(root) && !name.includes('/');
    });
    if (identity) found.set(`${folder}/${name}`, identity);
  }
  return found;
}

/** Undefined if it has gone, is none of ours, or works somewhere else. */
function vmhostIn(pid: number, isMeant: (workingFolder: string) => boolean): ProcessIdentity | undefined {
  try {
    const identity = identify(pid);
    if (!isMeant(readlinkSync(`/proc/${pid}/cwd`))) return undefined;
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return isVmhost(words) && isAlive(identity) ? identity : undefined;
  } catch {
    return undefined;
  }
}

/** People look at logs in VMs' folders as well, and what they look for may be this word: no VM starts without both. */
function isVmhost(words: readonly string[]): boolean {
  const place = words.indexOf('vmhost');
  return place >= 0 && words.slice(place).some((word) => /^--backend(=|$)/.test(word));
}

export interface FoundChild {
  readonly child: Child;
  readonly paused: boolean;
  /** Since the VM came up. */
  readonly uptimeSeconds: number;
}

/** Watches that process. @throws Error if it does not answer */
export function watchFound(folder: string, process: ProcessIdentity): Promise<FoundChild> {
  return new Promise((resolve, reject) => {
    let connection: StreamConnection | undefined;
    let child: Child | undefined;
    const fail = (reason: string) => {
      clearTimeout(timer);
      connection?.terminate();
      reject(new Error(`The process ${process.pid} of the VM ${reason}`));
    };
    const timer = setTimeout(
      () => fail(`did not answer within ${CONNECT_TIMEOUT_MS / 1000} s`),
      CONNECT_TIMEOUT_MS,
    );
    const heard = (message: ChildMessage) => {
      if (child) return child.deliver(message);
      if (!message.ok) return fail(`refused to be watched: ${message.error ?? 'no reason given'}`);
      clearTimeout(timer);
      child = new Child(process, connection as StreamConnection);
      // Processes of earlier releases do not say when their VM came up.
      const uptimeSeconds = message.uptime_seconds ?? ageOf(process);
      resolve({ child, paused: message.paused === true, uptimeSeconds });
    };
    const closed = () => (child ? child.lost() : fail('closed the connection'));
    const deadline = performance.now() + CONNECT_TIMEOUT_MS;
    connectQuietly(`${folder}/${VmFile.controlSocket}`, deadline, (made) => {
      connection = made;
      made.write(encodeVmhost({ method: 'watch' }));
      return hearChild(made, heard, closed);
    }).catch((error: Error) => fail(`cannot be asked: ${error.message}`));
  });
}
