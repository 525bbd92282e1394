/** NUMA nodes of a machine: what of a configuration is near to what. */
import type { GuestZone } from '../../config/memory.ts';
import type { NumaConfig } from '../../config/numa.ts';
import { functionNumber, type Placement } from '../placement.ts';
import type { NumaMemory, NumaNode } from './acpi/numa.ts';
import type { MemoryMap, ZonePlace } from './memoryMap.ts';

/** @param apicIds by vCPU index, of all vCPUs that there may ever be */
export function planNuma(
  configured: readonly NumaConfig[],
  zones: readonly GuestZone[],
  map: MemoryMap,
  apicIds: readonly number[],
  placements: readonly Placement[],
): NumaNode[] {
  const owned = new Set(configured.flatMap(({ memory_zones = [] }) => memory_zones));
  const assigned = new Set(configured.flatMap(({ cpus = [] }) => cpus));
  const unassigned = [...apicIds.keys()].filter((cpu) => !assigned.has(cpu));
  return configured.map((node, index) => {
    const isFirst = index === 0;
    // A guest that is told of only a part of its memory does without nodes, and Linux puts a processor without an
    // entry, late ones included, into any: the rest is the first one's.
    const isIn = ({ id }: GuestZone) => node.memory_zones?.includes(id) || (isFirst && !owned.has(id));
    const memory = zones.flatMap((zone, place) =>
      isIn(zone) ? memoryOf(map.zones[place] as ZonePlace) : [],
    );
    if (isFirst && map.growth) memory.push({ ...map.growth, hotplug: true });
    const device = placements.find(({ id }) => id === node.device_id);
    return {
      id: node.guest_numa_id,
      apicIds: [...(node.cpus ?? []), ...(isFirst ? unassigned : [])].map((cpu) => apicIds[cpu] as number),
      memory,
      ...(device && { initiator: { segment: device.segment, bdf: functionNumber(device.slot) } }),
      distances: new Map((node.distances ?? []).map(({ destination, distance }) => [destination, distance])),
    };
  });
}

function memoryOf({ ram, hotplug }: ZonePlace): NumaMemory[] {
  const memory = ram.map((range) => ({ ...range, hotplug: false }));
  return hotplug ? [...memory, { ...hotplug, hotplug: true }] : memory;
}
