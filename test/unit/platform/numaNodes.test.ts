import { describe, expect, it } from 'vitest';
import { guestMemory } from '../../../src/config/memory.ts';
import type { VmConfigInput } from '../../../src/config/vmConfig.ts';
import type { Placement } from '../../../src/platform/placement.ts';
import { planMemory } from '../../../src/platform/x86_64/memoryMap.ts';
import { planNuma } from '../../../src/platform/x86_64/numaNodes.ts';
import { configOf, GIB, MIB } from './support.ts';

function nodesOf(input: VmConfigInput, placements: readonly Placement[] = []) {
  const { numa = [], memory } = configOf(input);
  const { zones, growth } = guestMemory(memory);
  const needs = zones.map(({ size, hotplug_size }) => ({ size, pageSize: 4096, hotplugSize: hotplug_size }));
  return planNuma(numa, zones, planMemory(needs, 46, growth), [0, 1, 4, 5], placements);
}

describe('NUMA nodes', () => {
  it('have what their zones have, at boot and later, and processors by their APIC ids', () => {
    const zones = [
      { id: 'a', size: 4 * GIB, hotplug_size: 128 * MIB },
      { id: 'b', size: GIB },
    ];
    const nodes = nodesOf({
      memory: { size: 0, hotplug_method: 'VirtioMem', zones },
      numa: [
        {
          guest_numa_id: 0,
          memory_zones: ['b'],
          cpus: [0, 1],
          distances: [{ destination: 3, distance: 30 }],
        },
        { guest_numa_id: 3, memory_zones: ['a'], cpus: [2, 3] },
      ],
    });
    expect(nodes).toEqual([
      {
        id: 0,
        apicIds: [0, 1],
        memory: [{ address: 5 * GIB, size: GIB, hotplug: false }],
        distances: new Map([[3, 30]]),
      },
      {
        id: 3,
        apicIds: [4, 5],
        memory: [
          { address: 0, size: 3 * GIB, hotplug: false },
          { address: 4 * GIB, size: GIB, hotplug: false },
          { address: 6 * GIB, size: 128 * MIB, hotplug: true },
        ],
        distances: new Map(),
      },
    ]);
  });

  it('have memory that none of them names in the first, with what ACPI adds', () => {
    const numa = [
      { guest_numa_id: 2, cpus: [0] },
      { guest_numa_id: 0, cpus: [1] },
    ];
    const [first, second] = nodesOf({ memory: { size: GIB, hotplug_size: 2 * GIB }, numa });
    expect(first?.memory).toEqual([
      { address: 0, size: GIB, hotplug: false },
      { address: 4 * GIB, size: 2 * GIB, hotplug: true },
    ]);
    expect(second?.memory).toEqual([]);
  });

  it('have processors that none of them names in the first, those that come later too', () => {
    const numa = [
      { guest_numa_id: 2, cpus: [1] },
      { guest_numa_id: 0, cpus: [0] },
    ];
    const nodes = nodesOf({ cpus: { boot_vcpus: 2, max_vcpus: 4 }, numa });
    expect(nodes.map(({ apicIds }) => apicIds)).toEqual([[1, 4, 5], [0]]);
  });

  it('may be a device', () => {
    const device = { id: 'gpu', segment: 3, slot: 7 } as Placement;
    const numa = [
      { guest_numa_id: 0 },
      { guest_numa_id: 1, device_id: 'gpu' },
      { guest_numa_id: 2, device_id: 'none' },
    ];
    const nodes = nodesOf({ numa }, [device]);
    expect(nodes.map(({ initiator }) => initiator)).toEqual([
      undefined,
      { segment: 3, bdf: 0x38 },
      undefined,
    ]);
  });
});
