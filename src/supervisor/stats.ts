/** What a VM's process uses, and what its devices count. */
import { readFileSync } from 'node:fs';
import { readStat } from './processStat.ts';
import type { SupervisedVm } from './supervisedVm.ts';
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

/** How long the VM's process may take. */
const ANSWER_MS = 2_000;
const PAGE = 4096;

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
    return { cpu_seconds: (stat.userTime + stat.systemTime) / 1e9, memory_bytes: pages * PAGE };
  } catch {
    return undefined;
  }
}
