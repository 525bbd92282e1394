/** What is handed out to the PCI devices of one bus: names, numbers and addresses. */
import { pciDevices } from '../config/pciDevices.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { PciFunctionSpec } from '../native.ts';
import { DeviceIds } from './deviceIds.ts';
import type { Placement } from './plan.ts';
import { BarAllocator, SlotAllocator } from './slots.ts';

/** Registers, MSI-X table and pending bits of one virtio function. */
const VIRTIO_BAR_SIZE = 512 * 1024;

export interface Window {
  readonly start: number;
  readonly size: number;
}

export interface Bus {
  readonly functions: PciFunctionSpec[];
  readonly placements: Placement[];
  readonly names: string[];
  readonly ids: DeviceIds;
  readonly slots: SlotAllocator;
  readonly bars32: BarAllocator;
  readonly bars64: BarAllocator;
}

export function createBus(window32: Window, window64: Window): Bus {
  const names: string[] = [];
  return {
    functions: [],
    placements: [],
    names,
    ids: new DeviceIds(names),
    slots: new SlotAllocator(),
    bars32: new BarAllocator(window32),
    bars64: new BarAllocator(window64),
  };
}

/** Names and numbers that are asked for are taken before any other is handed out. */
export function reserveNames(bus: Bus, config: VmConfig): void {
  for (const { id, pci_device_id } of pciDevices(config)) {
    if (id !== undefined) bus.names.push(id);
    if (pci_device_id !== undefined) bus.slots.reserve(pci_device_id);
  }
}

/**
 * Puts a virtio device into the slot that it wants, or the lowest free one.
 * @param bar2Size bytes of memory of its own, a power of two, if it has any
 */
export function place(
  bus: Bus,
  kind: Placement['kind'],
  id: string,
  wantedSlot: number | undefined,
  index: number,
  bar2Size = 0,
): Pick<PciFunctionSpec, 'id' | 'slot' | 'bar0' | 'bar0Is64Bit' | 'bar2'> {
  const slot = wantedSlot ?? bus.slots.allocate();
  const bar0Is64Bit = kind !== 'block';
  const bar0 = (bar0Is64Bit ? bus.bars64 : bus.bars32).allocate(VIRTIO_BAR_SIZE);
  const registers = { id, kind, index, slot, bar0, bar0Is64Bit, bar0Size: VIRTIO_BAR_SIZE };
  if (bar2Size === 0) {
    bus.placements.push(registers);
    return { id, slot, bar0, bar0Is64Bit };
  }
  const bar2 = bus.bars64.allocate(bar2Size);
  bus.placements.push({ ...registers, bar2: { base: bar2, size: bar2Size } });
  return { id, slot, bar0, bar0Is64Bit, bar2 };
}
