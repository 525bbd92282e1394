/** The machine of a running domain, as its document shows it, by what its process says. */
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { deviceIds } from '../../platform/deviceIds.ts';
import type { PendingDevices } from '../../vmm/info.ts';
import { targetName, targetOf } from './deviceDocument.ts';
import { type Disk, isTarget } from './deviceXml.ts';
import { bootMemory } from './figures.ts';
import { bytesOf, growthOf } from './memorySizes.ts';

/** What of `vm.info` is used. */
export interface Info {
  readonly config: VmConfigInput;
  /** Bytes that the guest has. */
  readonly memory_actual_size: number | bigint;
  readonly pending_devices?: PendingDevices;
}

/**
 * With the devices that the guest was asked to give up and has still: clients take one that they do not find for gone,
 * and what is behind it for free. A disk keeps its target as long as the machine runs, whatever others come and go, and
 * what memory may become stays as well.
 * @param started what the machine was started with
 */
export function liveMachine(
  { config, pending_devices: pending }: Info,
  started: VmConfigInput,
): VmConfigInput {
  const grown = withGrowthLeft(config, started);
  const all = pending === undefined ? grown : withPending(grown, pending);
  return all.disks ? { ...all, disks: withTargets(all, started) } : all;
}

/** The configuration has all that may be added to each machine, and what was added already: here it counts once. */
function withGrowthLeft(config: VmConfigInput, started: VmConfigInput): VmConfigInput {
  const growth = growthOf(config);
  if (growth === 0n) return config;
  const left = bootMemory(started) + growthOf(started) - bootMemory(config);
  if (left >= growth) return config;
  const { hotplug_size: _, ...memory } = config.memory as NonNullable<VmConfigInput['memory']>;
  return { ...config, memory: { ...memory, ...(left > 0n && { hotplug_size: bytesOf(left) }) } };
}

function withPending(
  config: VmConfigInput,
  { disks = [], net = [], vsock = [] }: PendingDevices,
): VmConfigInput {
  const [socket] = vsock;
  return {
    ...config,
    ...(disks.length > 0 && { disks: [...(config.disks ?? []), ...disks] }),
    ...(net.length > 0 && { net: [...(config.net ?? []), ...net] }),
    ...(socket !== undefined && { vsock: config.vsock ?? (socket as NonNullable<VmConfigInput['vsock']>) }),
  };
}

/** Those of the start have the names that its document gave them; others their own, or one that is free. */
function withTargets(config: VmConfigInput, started: VmConfigInput): Disk[] {
  const known = new Map(
    deviceIds(started).disk?.map((id, index) => [id, targetOf(started.disks?.[index] as Disk, index)]),
  );
  const { disk: ids = [] } = deviceIds(config);
  const names = ids.map((id) => known.get(id) ?? (isTarget(id) ? id : undefined));
  const taken = new Set([...known.values(), ...names]);
  return (config.disks ?? []).map((disk, index) => ({ ...disk, target: names[index] ?? freeTarget(taken) }));
}

function freeTarget(taken: Set<string | undefined>): string {
  let index = 0;
  while (taken.has(targetName(index))) index++;
  const name = targetName(index);
  taken.add(name);
  return name;
}
