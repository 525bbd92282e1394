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

/**
 * Of each VM, in order; undefined where neither its definition nor its process says them. Only those are asked whose
 * definitions do not say it: a list of many VMs stays quick.
 */
export function sizesOf(
  client: Pick<SupervisorClient, 'call'>,
  vms: readonly VmDescription[],
): Promise<(Sizes | undefined)[]> {
  return Promise.all(vms.map((vm) => (mayDiffer(vm) ? asked(client, vm) : defined(vm))));
}

function defined({ config }: VmDescription): Sizes | undefined {
  return config && { vcpus: config.cpus?.boot_vcpus ?? 1, memory: memorySizeOf(config.memory) };
}

/** Whether what runs may have other sizes than its definition. */
function mayDiffer({ pid, config }: VmDescription): boolean {
  if (pid === undefined) return false;
  if (config === undefined) return true;
  const { cpus, memory, balloon } = config;
  return (
    (cpus?.max_vcpus ?? 1) > (cpus?.boot_vcpus ?? 1) ||
    Boolean(memory?.hotplug_size) ||
    (memory?.zones ?? []).some((zone) => Boolean(zone.hotplug_size)) ||
    Boolean(balloon)
  );
}

/** A VM whose process does not answer is shown as it was defined. */
async function asked(client: Pick<SupervisorClient, 'call'>, vm: VmDescription): Promise<Sizes | undefined> {
  const info = await runningInfo(client, vm.name);
  if (info instanceof Error) return defined(vm);
  return { vcpus: info.config.cpus.boot_vcpus, memory: info.memory_actual_size };
}
