/** Counters of vCPUs, and what the kernel knows of their threads. Loaded only when asked for. */
import { readFileSync } from 'node:fs';
import type { VcpuStatistics } from '../native.ts';

export interface VcpuCounters {
  /** Returns to this process, by what for. */
  readonly exits: VcpuStatistics['exits'];
  /** KVM's own counts, such as `halt_exits`; empty on kernels that tell none. */
  readonly kvm: VcpuStatistics['hypervisor'];
  /** Time on a processor. */
  readonly runNs: bigint;
  /** Time in which the vCPU could have run and had no processor, as the guest sees it. */
  readonly stealNs: bigint;
}

export function vcpuCounters({ thread, exits, hypervisor }: VcpuStatistics): VcpuCounters {
  const [runNs, stealNs] = scheduling(thread);
  return { exits, kvm: hypervisor, runNs, stealNs };
}

/**
 * Linux: Documentation/scheduler/sched-stats.rst, "/proc/<pid>/schedstat". Zeroes for a thread that has ended
 * meanwhile.
 */
function scheduling(thread: number): [run: bigint, wait: bigint] {
  try {
    const [run = '0', wait = '0'] = readFileSync(`/proc/self/task/${thread}/schedstat`, 'latin1').split(' ');
    return [BigInt(run), BigInt(wait)];
  } catch {
    return [0n, 0n];
  }
}

/** As counters of a device that is called `vcpu0`, by name. */
export function flatVcpuCounters({ exits, kvm, runNs, stealNs }: VcpuCounters): Record<string, bigint> {
  const prefixed = (prefix: string, values: Readonly<Record<string, bigint>>) =>
    Object.entries(values).map(([name, value]): [string, bigint] => [`${prefix}_${name}`, value]);
  return {
    run_ns: runNs,
    steal_ns: stealNs,
    ...Object.fromEntries([...prefixed('exits', exits), ...prefixed('kvm', kvm)]),
  };
}
