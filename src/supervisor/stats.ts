/** What a VM's process uses, and what its devices count. */
import { readFileSync } from 'node:fs';
import { statFields, TICKS_PER_SECOND } from './processIdentity.ts';
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
  try {
    const fields = statFields(pid) ?? [];
    const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
    return {
      cpu_seconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
      memory_bytes: pages * PAGE,
    };
  } catch {
    return undefined;
  }
}
