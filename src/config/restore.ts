/** Schema of a VM that is restored from a snapshot. */
import { MAX_FD, U32 } from './limits.ts';
import { invalid } from './rules.ts';
import type { Infer } from './schema.ts';

const restoredNet = {
  type: 'object',
  name: 'RestoredNetConfig',
  fields: {
    id: { type: 'string', required: true, help: 'Identifier of the network device' },
    num_fds: { type: 'integer', required: true, help: 'Number of its descriptors' },
    fds: { type: 'array', items: { type: 'integer', max: MAX_FD }, help: 'Its descriptors' },
  },
} as const;

export const restoredVfio = {
  type: 'object',
  name: 'RestoredVfioConfig',
  fields: {
    id: { type: 'string', required: true, help: 'Identifier of the device' },
    fd: { type: 'integer', max: MAX_FD, help: 'Its descriptor' },
  },
} as const;

export const zoneUpdate = {
  type: 'object',
  name: 'VmMemoryZoneUpdateData',
  fields: {
    id: { type: 'string', required: true, help: 'Identifier of the memory zone' },
    host_numa_node: { type: 'integer', max: U32, help: 'NUMA node of the host' },
  },
} as const;

export const restoreConfig = {
  type: 'object',
  name: 'RestoreConfig',
  mainKey: 'source_url',
  fields: {
    source_url: { type: 'string', required: true, help: 'Folder of the snapshot, file:///path' },
    prefault: { type: 'boolean', default: false, help: 'Populate all pages at start' },
    memory_restore_mode: {
      type: 'enum',
      values: { Copy: 'copy', OnDemand: 'ondemand' },
      default: 'Copy',
      help: 'Whether memory is read before the guest goes on, or as it is needed',
    },
    net_fds: { type: 'array', items: restoredNet, help: 'Descriptors of network devices, [id@[fd,...],...]' },
    vfio_fds: { type: 'array', items: restoredVfio, help: 'Descriptors of VFIO devices, [id@fd,...]' },
    iommufd_fd: { type: 'integer', max: MAX_FD, help: 'Descriptor of /dev/iommu' },
    resume: { type: 'boolean', default: false, help: 'Let the guest go on at once' },
    zone_updates: { type: 'array', items: zoneUpdate, help: 'Host nodes of memory zones, [id@node,...]' },
  },
} as const;

export type RestoreConfig = Infer<typeof restoreConfig>;

/** @throws ConfigError */
export function validateRestore(restore: RestoreConfig): void {
  if (restore.prefault && restore.memory_restore_mode === 'OnDemand') {
    throw invalid('prefault contradicts memory_restore_mode OnDemand');
  }
  const seen = new Set<string>();
  for (const { id } of restore.zone_updates ?? []) {
    if (id === '') throw invalid('A zone update needs the identifier of a memory zone');
    if (seen.has(id)) throw invalid(`The memory zone ${id} is updated twice`);
    seen.add(id);
  }
}
