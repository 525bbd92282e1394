/**
 * Memory devices (virtio-mem), one for each part of the memory that can grow by such: nothing in a configuration is
 * theirs alone.
 */
import { U16 } from '../config/limits.ts';
import { type HotplugMemory, hotplugBlock, virtioMemory } from '../config/memory.ts';
import type { DerivedDeviceRecord } from './record.ts';

export const mem: DerivedDeviceRecord<'mem', undefined, HotplugMemory> = {
  name: 'mem',
  ids: { prefix: 'mem' },
  devices: ({ memory }) => virtioMemory(memory),
  specification(zone, _opened, { numa = [] }) {
    const { id, hotplugged_size: requested = 0 } = zone;
    const node = numa.find(({ memory_zones: zones = [] }) => zones.includes(id))?.guest_numa_id;
    return {
      kind: 'mem',
      zone: id,
      blockSize: hotplugBlock(zone),
      // Not above hotplug_size, which is a machine's.
      requestedSize: Number(requested),
      ...(node !== undefined && node <= U16 && { node }),
    };
  },
};
