/**
 * Limits on a VM's process, by control groups of version 2 where the supervisor may make some
 * (Documentation/admin-guide/cgroup-v2.rst).
 */
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import type { VmPolicy } from './definition.ts';

const MOUNT = '/sys/fs/cgroup';
/** What cpu.max counts in, microseconds. */
const PERIOD_US = 100_000;
const THOUSANDTHS = 1_000;
/** What limits are made of. */
const CONTROLLERS = ['cpu', 'memory'] as const;
/** Below the base, for the supervisor itself and for processes without limits. No VM's group is called so. */
const OWN_GROUP = 'tsvmmd';

export type VmLimits = VmPolicy['limits'];

/** Where groups of VMs are made: below the supervisor's own, so that a service's limits hold for all of its VMs. */
export class ControlGroups {
  readonly #base: string | undefined;

  constructor(base: string | undefined = writableBase(), pid = process.pid) {
    this.#base = base;
    if (base !== undefined) makeRoom(base, pid);
  }

  /** @returns what could not be done, as a sentence */
  apply(name: string, pid: number, limits: VmLimits): string | undefined {
    const wanted = CONTROLLERS.filter((each) => limits[each === 'cpu' ? 'cpus' : each] !== undefined);
    if (wanted.length === 0) return undefined;
    if (this.#base === undefined)
      return 'The limits are not kept: this host gives the supervisor no control group';
    const group = `${this.#base}/tsvmm-${name}`;
    try {
      enable(this.#base, wanted);
      mkdirSync(group, { recursive: true });
      const quota = limits.cpus === undefined ? 'max' : Math.ceil((limits.cpus * PERIOD_US) / THOUSANDTHS);
      if (limits.cpus !== undefined) writeFileSync(`${group}/cpu.max`, `${quota} ${PERIOD_US}`);
      if (limits.memory !== undefined) writeFileSync(`${group}/memory.max`, String(limits.memory));
      writeFileSync(`${group}/cgroup.procs`, String(pid));
      return undefined;
    } catch (error) {
      return `The limits are not kept: ${(error as Error).message}`;
    }
  }

  /** Once the process is gone. */
  remove(name: string): void {
    if (this.#base === undefined) return;
    try {
      rmdirSync(`${this.#base}/tsvmm-${name}`);
    } catch {
      // There was none.
    }
  }
}

/**
 * A group whose groups have controllers may have no process of its own ("no internal process constraint"). A supervisor
 * that is the only one in it, as in a service's group that was delegated to it, goes below; where others are, they are
 * not its to move.
 */
function makeRoom(base: string, pid: number): void {
  try {
    if (readWords(`${base}/cgroup.procs`).join() !== String(pid)) return;
    const own = `${base}/${OWN_GROUP}`;
    mkdirSync(own, { recursive: true });
    writeFileSync(`${own}/cgroup.procs`, String(pid));
  } catch {
    // Said when limits are asked for.
  }
}

/** @throws Error saying which the group does not have, or why they cannot be had below it */
function enable(base: string, wanted: readonly string[]): void {
  const enabled = readWords(`${base}/cgroup.subtree_control`);
  const missing = wanted.filter((each) => !enabled.includes(each));
  if (missing.length === 0) return;
  const available = readWords(`${base}/cgroup.controllers`);
  const absent = missing.filter((each) => !available.includes(each));
  if (absent.length > 0) throw new Error(`${base} has no controller ${absent.join(', ')}`);
  writeFileSync(`${base}/cgroup.subtree_control`, missing.map((each) => `+${each}`).join(' '));
}

function readWords(path: string): string[] {
  return readFileSync(path, 'utf8').split(/\s+/).filter(Boolean);
}

function writableBase(): string | undefined {
  try {
    // 0::/path is the entry of version 2.
    const own = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
    if (own === undefined) return undefined;
    const base = `${MOUNT}${own}`.replace(/\/$/, '');
    accessSync(`${base}/cgroup.procs`, constants.W_OK);
    accessSync(base, constants.W_OK);
    return base;
  } catch {
    return undefined;
  }
}
