/** The resources that a domain's process and its vCPUs' threads have used. */
import { readFileSync } from 'node:fs';
import { type ProcessStat, readStat, threadsOf } from '../../supervisor/processStat.ts';
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';

/** The kernel counts in steps of that. */
const STEP_MS = 10;

interface Measured {
  readonly pid: number;
  readonly at: number;
  readonly stat: ProcessStat | undefined;
}

const measured = new WeakMap<SupervisedVm, Measured>();

/** Of the VM's process; undefined while there is none. */
export function processStat(vm: SupervisedVm): ProcessStat | undefined {
  const { pid } = vm;
  if (pid === undefined) return undefined;
  const now = performance.now();
  const last = measured.get(vm);
  if (last?.pid === pid && now - last.at < STEP_MS) return last.stat;
  const stat = readStat(pid);
  measured.set(vm, { pid, at: now, stat });
  return stat;
}

/** Nanoseconds; 0 while there is no process. */
export function cpuTime(vm: SupervisedVm): bigint {
  const stat = processStat(vm);
  return stat ? BigInt(stat.userTime + stat.systemTime) : 0n;
}

export interface VcpuThread extends ProcessStat {
  readonly id: number;
  /** The host CPUs that it may run on, as the kernel writes them: `0-1,3`. */
  readonly allowed: string;
}

/** By vCPU; what has no thread is left out. */
export function vcpuThreads({ pid }: SupervisedVm): ReadonlyMap<number, VcpuThread> {
  const found = new Map<number, VcpuThread>();
  if (pid === undefined) return found;
  for (const [name, id] of threadsOf(pid)) {
    const vcpu = /^vcpu(\d+)$/.exec(name)?.[1];
    const stat = vcpu === undefined ? undefined : readStat(pid, id);
    if (stat) found.set(Number(vcpu), { ...stat, id, allowed: allowedCpus(`/proc/${pid}/task/${id}`) });
  }
  return found;
}

function allowedCpus(path: string): string {
  try {
    return /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync(`${path}/status`, 'utf8'))?.[1] ?? '';
  } catch {
    return '';
  }
}
