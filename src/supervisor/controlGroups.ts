/** Limits on a VM's process, by control groups of version 2 where the supervisor may make some (Documentation/admin-guide/cgroup-v2.rst). */
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import type { VmPolicy } from './definition.ts';

const MOUNT = '/sys/fs/cgroup';
/** What cpu.max counts in, microseconds. */
const PERIOD_US = 100_000;
const THOUSANDTHS = 1_000;

export type VmLimits = VmPolicy['limits'];

/** Where groups of VMs are made: below the supervisor's own, so that a service's limits hold for all of its VMs. */
export class ControlGroups {
  readonly #base: string | undefined;

  constructor(base: string | undefined = writableBase()) {
    this.#base = base;
  }

  /** @returns what could not be done, as a sentence */
  apply(name: string, pid: number, limits: VmLimits): string | undefined {
    if (limits.cpus === undefined && limits.memory === undefined) return undefined;
    if (this.#base === undefined)
      return 'The limits are not kept: this host gives the supervisor no control group';
    const group = `${this.#base}/tsvmm-${name}`;
    try {
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
