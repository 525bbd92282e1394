/** vCPUs and memory of running VMs, which may differ from their definitions. */
import { memorySizeOf } from '../../config/memory.ts';
import type { Uint64 } from '../../config/uint64.ts';
import type { VmDescription } from '../../supervisor/vmState.ts';
import { runningInfo } from './runningInfo.ts';
import type { SupervisorClient } from './supervisorClient.ts';

export interface Sizes {
  readonly vcpus: number;
  readonly memory: Uint64;
}

/** Of each VM, in order. Only those are asked that may have been changed: a list of many VMs stays quick. */
export function sizesOf(
  client: Pick<SupervisorClient, 'call'>,
  vms: readonly VmDescription[],
): Promise<Sizes[]> {
  return Promise.all(vms.map((vm) => (isResizable(vm) ? asked(client, vm) : defined(vm))));
}

function defined({ config: { cpus, memory } }: VmDescription): Sizes {
  return { vcpus: cpus?.boot_vcpus ?? 1, memory: memorySizeOf(memory) };
}

function isResizable({ pid, config: { cpus, memory, balloon } }: VmDescription): boolean {
  if (pid === undefined) return false;
  return (
    (cpus?.max_vcpus ?? 1) > (cpus?.boot_vcpus ?? 1) ||
    Boolean(memory?.hotplug_size) ||
    (memory?.zones ?? []).some((zone) => Boolean(zone.hotplug_size)) ||
    Boolean(balloon)
  );
}

/** A VM whose process does not answer is shown as it was defined. */
async function asked(client: Pick<SupervisorClient, 'call'>, vm: VmDescription): Promise<Sizes> {
  const info = await runningInfo(client, vm.name);
  if (info instanceof Error) return defined(vm);
  return { vcpus: info.config.cpus.boot_vcpus, memory: info.memory_actual_size };
}
