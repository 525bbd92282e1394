/** Guest memory: one piece, or zones that together are all of it. */
import { U32, U64 } from './limits.ts';
import { invalid, isPowerOfTwo } from './rules.ts';
import { type Infer, once } from './schema.ts';
import { isMultiple, type Uint64, uint64 } from './uint64.ts';
import { MIB, PAGE_SIZE } from './units.ts';

const DEFAULT_MEMORY_SIZE: number = 512 * MIB;
/** Linux counts up to 1,024 nodes. */
const MAX_HOST_NODE = 1023;
/**
 * More than there are numbers of NUMA nodes have no use, and what is told of them has to fit the place for ACPI tables.
 */
const MAX_ZONES = 256;
/** Of virtio-mem, as the reference has it. */
const HOTPLUG_BLOCK: number = 2 * MIB;
/** Memory that ACPI adds comes in such steps and begins at multiples, as does the window of 64-bit BARs. */
export const HOTPLUG_ALIGNMENT: number = 128 * MIB;

/** What plain memory and each zone can have. */
const backing = {
  mergeable: { type: 'boolean', default: false, help: 'Let the host merge equal pages' },
  shared: { type: 'boolean', default: false, help: 'Map memory shared' },
  hugepages: { type: 'boolean', default: false, help: 'Back memory with huge pages' },
  hugepage_size: { type: 'integer', u64: true, size: true, help: 'Size of a huge page' },
  prefault: { type: 'boolean', default: false, help: 'Populate all pages at start' },
  reserve: { type: 'boolean', default: false, help: 'Reserve swap space for the mapping' },
} as const;

const hotpluggedSize = {
  type: 'integer',
  u64: true,
  size: true,
  help: 'Memory that the guest is to add at its start',
} as const;

const memoryZoneFields = once(
  () =>
    ({
      id: { type: 'string', required: true, help: 'What NUMA nodes and resizing call the zone' },
      size: { type: 'integer', u64: true, size: true, required: true, help: 'Memory in the zone' },
      file: { type: 'string', help: 'File or folder that backs the zone' },
      ...backing,
      host_numa_node: { type: 'integer', max: U32, help: 'NUMA node of the host' },
      hotplug_size: { type: 'integer', u64: true, size: true, help: 'Memory that can be added later' },
      hotplugged_size: hotpluggedSize,
    }) as const,
);

const memoryZoneConfig = {
  type: 'object',
  name: 'MemoryZoneConfig',
  get fields() {
    return memoryZoneFields();
  },
} as const;

export const memoryConfig = {
  type: 'object',
  name: 'MemoryConfig',
  default: { size: DEFAULT_MEMORY_SIZE },
  help: 'Guest memory',
  mainKey: 'size',
  legacyKeys: ['file'],
  fields: {
    size: { type: 'integer', u64: true, size: true, required: true, help: 'Memory of the guest' },
    ...backing,
    hotplug_method: {
      type: 'enum',
      values: { Acpi: 'acpi', VirtioMem: 'virtio-mem' },
      default: 'Acpi',
      help: 'How memory is added later',
    },
    hotplug_size: { type: 'integer', u64: true, size: true, help: 'Memory that can be added later' },
    hotplugged_size: hotpluggedSize,
    thp: { type: 'boolean', default: true, help: 'Use transparent huge pages' },
    zones: { type: 'array', items: memoryZoneConfig, cli: false, help: 'Parts of the memory, with size 0' },
  },
} as const;

export type MemoryConfig = Infer<typeof memoryConfig>;
type MemoryZoneConfig = Infer<typeof memoryZoneConfig>;
type Backing = Pick<MemoryConfig, keyof typeof backing>;

/** What a virtio-mem device hands out more of: a zone, or plain memory. */
export type HotplugMemory = Pick<
  MemoryZoneConfig,
  'id' | 'size' | 'hugepage_size' | 'hotplug_size' | 'hotplugged_size'
>;

/**
 * Fields that say something of plain memory only: where there are zones, each has its own, and these mean nothing. The
 * reference passes over them as well.
 */
export function idleFields(memory: MemoryConfig): readonly string[] {
  if (!memory.zones?.length) return [];
  const { fields } = memoryConfig;
  const own: readonly (keyof MemoryConfig)[] = [
    ...(Object.keys(backing) as (keyof typeof backing)[]),
    'hotplug_size',
    'hotplugged_size',
  ];
  const byDefault = (name: keyof MemoryConfig) => {
    const field: { readonly help: string; readonly default?: unknown } = fields[name];
    return memory[name] === field.default;
  };
  return own.filter((name) => !byDefault(name));
}

/** What plain memory is called where zones are told apart, as the virtio-mem device of it is. */
export const PLAIN_ZONE_ID = 'mem0';

/** A part of the guest's memory with a backing of its own; plain memory is the only one. */
export interface GuestZone extends Omit<Backing, 'hugepage_size'> {
  readonly id: string;
  /** Bytes at boot. */
  readonly size: number;
  readonly hugepage_size?: number;
  readonly file?: string;
  readonly host_numa_node?: number;
  /** Bytes that a virtio-mem device may hand out on top. */
  readonly hotplug_size: number;
}

export interface GuestMemoryConfig {
  /** At least one, in the order of their addresses. */
  readonly zones: readonly GuestZone[];
  readonly thp: boolean;
  /** Bytes that ACPI may add to plain memory. */
  readonly growth: number;
}

/** @throws ConfigError for more than any machine can have */
export function guestMemory(memory: MemoryConfig): GuestMemoryConfig {
  const { thp, hotplug_method, hotplug_size = 0 } = memory;
  const isAcpi = hotplug_method === 'Acpi';
  if (memory.zones?.length) {
    bytesOf(memorySize(memory));
    return { zones: memory.zones.map(zoneOf), thp, growth: 0 };
  }
  const plain = { ...memory, id: PLAIN_ZONE_ID, hotplug_size: isAcpi ? 0 : hotplug_size };
  return { zones: [zoneOf(plain)], thp, growth: isAcpi ? bytesOf(hotplug_size) : 0 };
}

const NONE: readonly HotplugMemory[] = [];

/** In the order of their addresses. */
export function virtioMemory(memory: MemoryConfig | undefined): readonly HotplugMemory[] {
  if (memory?.hotplug_method !== 'VirtioMem') return NONE;
  if (memory.zones?.length) return memory.zones.filter((zone) => zone.hotplug_size !== undefined);
  return memory.hotplug_size === undefined ? NONE : [{ ...memory, id: PLAIN_ZONE_ID }];
}

/** Whether devices give the guest memory while it runs, or take some. */
export function memoryVaries(config: { readonly memory: MemoryConfig; readonly balloon?: unknown }): boolean {
  return config.balloon !== undefined || virtioMemory(config.memory).length > 0;
}

/** Bytes that a guest, which has `boot` of them without its devices, is asked to have by these. */
export function requestedMemory(
  config: { readonly memory: MemoryConfig; readonly balloon?: { readonly size: Uint64 } },
  boot: number,
): number {
  let bytes = boot - Number(config.balloon?.size ?? 0);
  for (const { hotplugged_size: added = 0 } of virtioMemory(config.memory)) bytes += Number(added);
  return bytes;
}

/** In how many bytes at a time it is handed out: no less than what its backing has. */
export function hotplugBlock({ hugepage_size: page = 0 }: Pick<HotplugMemory, 'hugepage_size'>): number {
  return Math.max(HOTPLUG_BLOCK, Number(page));
}

function zoneOf(part: Omit<MemoryZoneConfig, 'hotplugged_size'>): GuestZone {
  const { hugepage_size: page, file, host_numa_node } = part;
  return {
    id: part.id,
    size: bytesOf(part.size),
    ...backingOf(part),
    // A valid page is no larger than the memory, which is a multiple of it.
    ...(page !== undefined && { hugepage_size: Number(page) }),
    ...(file !== undefined && { file }),
    ...(host_numa_node !== undefined && { host_numa_node }),
    hotplug_size: bytesOf(part.hotplug_size ?? 0),
  };
}

function bytesOf(size: Uint64): number {
  if (typeof size === 'number') return size;
  throw invalid(`Guest memory of ${size} bytes is more than any machine can have`);
}

/** Bytes at boot. Zones can ask for more than 64 bits hold: it shows as the most that these do. */
export function memorySize({ size, zones }: Sizes): Uint64 {
  let sum = size;
  for (const zone of zones ?? []) sum = uint64(BigInt(sum) + BigInt(zone.size)) ?? U64;
  return sum;
}

/** The same of a configuration that may leave it out. */
export function memorySizeOf(memory: Partial<Sizes> | null | undefined): Uint64 {
  return memorySize({ ...memory, size: memory?.size ?? DEFAULT_MEMORY_SIZE });
}

interface Sizes {
  readonly size: Uint64;
  readonly zones?: readonly { readonly size: Uint64 }[] | null | undefined;
}

/** Gives a part that no machine has yet another size, all of which is there at boot. */
export function setBootSize(part: Pick<HotplugMemory, 'size' | 'hotplugged_size'>, bytes: Uint64): void {
  part.size = bytes;
  delete part.hotplugged_size;
}

/** Whether other processes can map the guest's memory. */
export function isShared(memory: MemoryConfig): boolean {
  if (!memory.zones?.length) return isMappable(memory);
  return memory.zones.every(isMappable);
}

function isMappable({ shared, hugepages }: Backing): boolean {
  return shared || hugepages;
}

function backingOf({
  mergeable,
  shared,
  hugepages,
  prefault,
  reserve,
}: Backing): Omit<Backing, 'hugepage_size'> {
  return { mergeable, shared, hugepages, prefault, reserve };
}

/** @throws ConfigError */
export function validateMemory(memory: MemoryConfig): void {
  if (!memory.zones?.length) {
    if (memory.size === 0) throw invalid('The memory size must not be 0');
    validateBacking('The memory', memory, memory.size);
  } else {
    if (memory.size !== 0)
      throw invalid('With memory zones, the memory size must be 0: the zones have sizes');
    if (memory.zones.length > MAX_ZONES) {
      throw invalid(`${memory.zones.length} memory zones are more than a machine can have (${MAX_ZONES})`);
    }
    for (const zone of memory.zones) validateZone(zone, memory.hotplug_method);
  }
  if (memory.hotplug_size === 0) throw invalid('memory.hotplug_size must not be 0');
  if (memory.hotplugged_size === undefined) return;
  validateHotplugged('The memory', memory, memory.hotplug_method);
}

function validateZone(zone: MemoryZoneConfig, method: MemoryConfig['hotplug_method']): void {
  const name = `The memory zone ${zone.id}`;
  if (zone.size === 0) throw invalid(`${name} has size 0`);
  if ((zone.host_numa_node ?? 0) > MAX_HOST_NODE) {
    throw invalid(`${name}: no host has a NUMA node ${zone.host_numa_node}`);
  }
  validateBacking(name, zone, zone.size);
  if (zone.hotplug_size === undefined && zone.hotplugged_size === undefined) return;
  if (zone.hotplug_size === 0) throw invalid(`${name} has hotplug_size 0`);
  if (method === 'Acpi') throw invalid(`${name} has hotplug_size, which needs hotplug_method=virtio-mem`);
  validateHotplugged(name, zone, method);
}

function validateHotplugged(
  name: string,
  part: Pick<MemoryConfig, 'hotplug_size' | 'hotplugged_size' | 'hugepage_size'>,
  method: MemoryConfig['hotplug_method'],
): void {
  const { hotplug_size: limit = 0, hotplugged_size: added } = part;
  if (added === undefined) return;
  if (method === 'Acpi') throw invalid(`${name}: hotplugged_size needs hotplug_method=virtio-mem`);
  if (added > limit) throw invalid(`${name}: hotplugged_size (${added}) is above hotplug_size (${limit})`);
  const block = hotplugBlock(part);
  if (!isMultiple(added, block)) {
    throw invalid(`${name}: hotplugged_size (${added}) is not a multiple of ${block} bytes`);
  }
}

function validateBacking(name: string, part: Backing, size: Uint64): void {
  const { hugepage_size: page } = part;
  if (part.mergeable && part.shared) throw invalid(`${name} cannot be both mergeable and shared`);
  if (page !== undefined) {
    if (!part.hugepages) throw invalid(`${name}: hugepage_size needs hugepages=on`);
    if (!isPowerOfTwo(page) || page < PAGE_SIZE) {
      throw invalid(`${name}: the huge page size ${page} is not a power of two of at least ${PAGE_SIZE}`);
    }
  }
  const unit = page ?? PAGE_SIZE;
  if (!isMultiple(size, unit)) throw invalid(sizeMessage(name, size, unit));
}

function sizeMessage(name: string, size: Uint64, unit: Uint64): string {
  const text = `${name}: the size ${size} is not a multiple of ${unit} bytes`;
  return size < PAGE_SIZE ? `${text}; sizes are in bytes unless a K, M or G follows: ${size}M` : text;
}
