/** The resources that a VM's process uses, and its devices' counters. */
import { readFileSync } from 'node:fs';
import { PAGE_SIZE } from '../config/units.ts';
import { readStat } from './processStat.ts';
import type { SupervisedVm } from './supervisedVm.ts';
import type { Supervisor } from './supervisor.ts';
import { callVmApi } from './vmApi.ts';

export interface ProcessUse {
  /** Seconds of processor time so far. */
  readonly cpu_seconds: number;
  /** Bytes of memory in use, guest memory included. */
  readonly memory_bytes: number;
}

export interface VmStats extends Partial<ProcessUse> {
  readonly state: string;
  /** By device and name; absent where the VM does not answer. */
  readonly counters?: unknown;
}

/** Of one among all VMs that run. */
export interface NamedStats extends ProcessUse {
  readonly name: string;
  readonly state: string;
  readonly pid: number;
  readonly uptime_seconds: number;
}

/** How long the VM's process may take. */
const ANSWER_MS = 2_000;

export async function vmStats(vm: SupervisedVm): Promise<VmStats> {
  const { state, pid, folder } = vm.describe();
  if (pid === undefined) return { state };
  const counters = await callVmApi(folder, {
    method: 'GET',
    endpoint: 'vm.counters',
    timeoutMs: ANSWER_MS,
  }).catch(() => undefined);
  return { state, ...processUse(pid), ...(counters !== undefined && { counters }) };
}

/** Undefined if the process has gone. */
export function processUse(pid: number): ProcessUse | undefined {
  const stat = readStat(pid);
  if (stat === undefined) return undefined;
  try {
    const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
    return { cpu_seconds: (stat.userTime + stat.systemTime) / 1e9, memory_bytes: pages * PAGE_SIZE };
  } catch {
    return undefined;
  }
}

/** What the processes of all VMs use that have one. */
export function allStats(supervisor: Supervisor): NamedStats[] {
  return supervisor.list().flatMap(({ name, state, paused, pid, uptime_seconds = 0 }) => {
    const use = pid === undefined ? undefined : processUse(pid);
    if (pid === undefined || use === undefined) return [];
    return [{ name, state: paused ? 'paused' : state, pid, uptime_seconds, ...use }];
  });
}
