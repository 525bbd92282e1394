/** What is handed out to the PCI devices of one bus: numbers and addresses. */
import type { VmConfig } from '../config/vmConfig.ts';
import type { AnyMachineDeviceRecord, Device } from '../devices/record.ts';
import { allDevices } from '../devices/registry.ts';
import type { PciFunctionSpec } from '../native.ts';
import { DeviceIds } from './deviceIds.ts';
import type { Placement } from './plan.ts';
import { BarAllocator, SlotAllocator } from './slots.ts';

/** Registers, MSI-X table and pending bits of one virtio function. */
const VIRTIO_BAR_SIZE = 512 * 1024;

export interface PciWindow {
  readonly start: number;
  readonly size: number;
}

/** Outlives the plan: devices come and go while the machine runs. */
export interface Bus {
  readonly placements: Placement[];
  readonly ids: DeviceIds;
  readonly slots: SlotAllocator;
  /** Of devices that nobody can ask a number for, by their names: what they had before. */
  readonly kept: Map<string, number>;
  readonly bars32: BarAllocator;
  readonly bars64: BarAllocator;
}

export function createBus(window32: PciWindow, window64: PciWindow): Bus {
  return {
    placements: [],
    ids: new DeviceIds(),
    slots: new SlotAllocator(),
    kept: new Map(),
    bars32: new BarAllocator(window32),
    bars64: new BarAllocator(window64),
  };
}

/** Numbers that are asked for, and those that devices had before, are taken before any other is handed out. */
export function reserveSlots(bus: Bus, config: VmConfig, kept: ReadonlyMap<string, number>): void {
  for (const { pci_device_id } of allDevices(config)) {
    if (pci_device_id !== undefined) bus.slots.reserve(pci_device_id);
  }
  for (const [id, slot] of kept) {
    if (!bus.slots.isFree(slot)) continue;
    bus.slots.reserve(slot);
    bus.kept.set(id, slot);
  }
}

/** Takes back what a device had that is gone. */
export function release(bus: Bus, placement: Placement): void {
  const { id, slot, bar0, bar0Is64Bit, bar0Size, bar2 } = placement;
  bus.placements.splice(bus.placements.indexOf(placement), 1);
  bus.ids.release(id);
  bus.slots.release(slot);
  (bar0Is64Bit ? bus.bars64 : bus.bars32).release(bar0, bar0Size);
  if (bar2) bus.bars64.release(bar2.base, bar2.size);
}

/** What a function is, and needs. */
interface FunctionNeeds {
  readonly id: string;
  /** As the core calls it. */
  readonly kind: string;
  /** Of registers below 4 GiB, for what is no virtio device. */
  readonly barSize?: number;
  /** Bytes of memory of its own, a power of two, if it has any. */
  readonly memory?: number;
  /** A virtio device's registers are below 4 GiB. */
  readonly below4G?: boolean;
}

/** Puts a device into the slot that it asks for, or the lowest free one. */
export function place(
  bus: Bus,
  { name }: AnyMachineDeviceRecord,
  device: Device,
  index: number,
  { id, kind, barSize, memory = 0, below4G = false }: FunctionNeeds,
): Pick<PciFunctionSpec, 'id' | 'slot' | 'bar0' | 'bar0Is64Bit' | 'bar2'> {
  const virtio = barSize === undefined;
  const slot = device.pci_device_id ?? bus.kept.get(id) ?? bus.slots.allocate();
  const bar0Is64Bit = virtio && !below4G;
  const bar0Size = barSize ?? VIRTIO_BAR_SIZE;
  const bar0 = (bar0Is64Bit ? bus.bars64 : bus.bars32).allocate(bar0Size);
  const iommu = device.iommu === true;
  const segment = 0;
  const place = { device: name, virtio, index, segment, slot, iommu };
  const placement = { id, kind, ...place, bar0, bar0Is64Bit, bar0Size };
  if (memory === 0) {
    bus.placements.push(placement);
    return { id, slot, bar0, bar0Is64Bit };
  }
  const bar2 = bus.bars64.allocate(memory);
  bus.placements.push({ ...placement, bar2: { base: bar2, size: memory } });
  return { id, slot, bar0, bar0Is64Bit, bar2 };
}
