/** NUMA nodes that the guest is to see. */
import { U8, U16, U32 } from './limits.ts';
import { invalid } from './rules.ts';
import { type Infer, once } from './schema.ts';

const numaDistance = {
  type: 'object',
  name: 'NumaDistance',
  fields: {
    destination: { type: 'integer', max: U32, required: true, help: 'Another node' },
    distance: { type: 'integer', max: U8, required: true, help: 'How far it is; 10 is the node itself' },
  },
} as const;

const numaFields = once(
  () =>
    ({
      guest_numa_id: { type: 'integer', max: U32, required: true, help: 'Number of the node' },
      cpus: { type: 'array', items: { type: 'integer', max: U32 }, help: 'vCPUs in the node' },
      distances: { type: 'array', items: numaDistance, help: 'Distances to others, [node@distance,...]' },
      memory_zones: { type: 'array', items: { type: 'string' }, help: 'Memory zones in the node' },
      pci_segments: { type: 'array', items: { type: 'integer', max: U16 }, help: 'PCI segments in the node' },
      device_id: { type: 'string', help: 'Device that is a node without memory and vCPUs' },
    }) as const,
);

export const numaConfig = {
  type: 'object',
  name: 'NumaConfig',
  get fields() {
    return numaFields();
  },
} as const;

export type NumaConfig = Infer<typeof numaConfig>;

/** The matrix of distances has a row for each number up to the largest. */
const MAX_NODE = 255;
/** Of a node to itself; all others are farther (ACPI 6.5 §5.2.17). */
export const LOCAL_DISTANCE = 10;
/** To a node that cannot be reached. */
export const UNREACHABLE = 255;

export interface NumaMachine {
  /** Identifiers of memory zones. */
  readonly zones: readonly string[];
  readonly segments: number;
  readonly maxVcpus: number;
}

/** @throws ConfigError */
export function validateNuma(nodes: readonly NumaConfig[], { zones, segments, maxVcpus }: NumaMachine): void {
  const ids = new Set<number>();
  const owners = new Map<string, number>();
  const take = (what: string, node: number) => {
    const owner = owners.get(what);
    if (owner !== undefined) throw invalid(`The ${what} is in two NUMA nodes, ${owner} and ${node}`);
    owners.set(what, node);
  };
  for (const { guest_numa_id: id, memory_zones = [], pci_segments = [], cpus = [] } of nodes) {
    if (id > MAX_NODE) throw invalid(`The NUMA node ${id} has a number above ${MAX_NODE}`);
    if (ids.has(id)) throw invalid(`The NUMA node ${id} is there twice`);
    ids.add(id);
    for (const zone of memory_zones) {
      if (!zones.includes(zone))
        throw invalid(`The NUMA node ${id} names a memory zone "${zone}" that does not exist`);
      take(`memory zone ${zone}`, id);
    }
    for (const segment of pci_segments) {
      if (segment >= segments)
        throw invalid(`The NUMA node ${id} names PCI segment ${segment}, which does not exist`);
      if (segment === 0 && id !== 0) throw invalid(`PCI segment 0 can only be in NUMA node 0, not in ${id}`);
      take(`PCI segment ${segment}`, id);
    }
    for (const cpu of cpus) {
      if (cpu >= maxVcpus) throw invalid(`The NUMA node ${id} names vCPU ${cpu}, which does not exist`);
      take(`vCPU ${cpu}`, id);
    }
  }
  for (const node of nodes) validateDistances(node, ids);
}

function validateDistances(
  { guest_numa_id: id, distances = [] }: NumaConfig,
  ids: ReadonlySet<number>,
): void {
  const seen = new Set<number>();
  for (const { destination, distance } of distances) {
    const what = `The NUMA node ${id} has the distance ${distance} to ${destination}`;
    if (!ids.has(destination)) throw invalid(`${what}, which is no node`);
    if (seen.has(destination)) throw invalid(`The NUMA node ${id} has two distances to ${destination}`);
    seen.add(destination);
    const isRight = destination === id ? distance === LOCAL_DISTANCE : distance > LOCAL_DISTANCE;
    if (!isRight || distance === UNREACHABLE) {
      throw invalid(`${what}: it must be ${LOCAL_DISTANCE} to itself, and from 11 to 254 to others`);
    }
  }
}
