/** What is handed out to PCI devices: numbers on the bus of their segment, and addresses. */
import type { AnyMachineDeviceRecord, Device } from '../devices/record.ts';
import type { PciFunctionSpec } from '../native.ts';
import { DeviceIds } from './deviceIds.ts';
import type { Placement } from './placement.ts';
import { PlatformError } from './platformError.ts';
import type { SegmentWindows } from './segments.ts';
import { BarAllocator, SlotAllocator } from './slots.ts';

/** Registers, MSI-X table and pending bits of one virtio function. */
const VIRTIO_BAR_SIZE = 512 * 1024;

/** Outlives the plan: devices come and go while the machine runs. */
export interface Bus {
  readonly placements: Placement[];
  readonly ids: DeviceIds;
  /** Of devices whose number cannot be configured, by their names: what they had before, in segment 0. */
  readonly kept: Map<string, number>;
  /** By number. */
  readonly segments: readonly Segment[];
}

export interface Segment {
  readonly slots: SlotAllocator;
  readonly bars32: BarAllocator;
  readonly bars64: BarAllocator;
}

export function createBus(windows: readonly SegmentWindows[]): Bus {
  const segments: Segment[] = [];
  for (let number = 0; number < windows.length; number++) {
    const { window32, window64 } = windows[number] as SegmentWindows;
    segments.push({
      slots: new SlotAllocator(number === 0),
      bars32: new BarAllocator(window32),
      bars64: new BarAllocator(window64),
    });
  }
  return { placements: [], ids: new DeviceIds(), kept: new Map(), segments };
}

/** @throws PlatformError `ERR_TSVMM_PCI_SLOT` if the machine has none of that number */
export function segmentOf(bus: Bus, { pci_segment: number = 0 }: Device): Segment {
  const segment = bus.segments[number];
  if (segment === undefined) {
    throw new PlatformError('ERR_TSVMM_PCI_SLOT', `The machine has no PCI segment ${number}`);
  }
  return segment;
}

/** Numbers that are asked for, and those that devices had before, are taken before any other is handed out. */
export function reserveSlots(bus: Bus, devices: readonly Device[], kept: ReadonlyMap<string, number>): void {
  for (const device of devices) {
    if (device.pci_device_id !== undefined) segmentOf(bus, device).slots.reserve(device.pci_device_id);
  }
  // A start keeps none, and going through a Map takes the runtime 0.01 ms the first time.
  if (kept.size === 0) return;
  const { slots } = segmentOf(bus, {});
  for (const [id, slot] of kept) {
    if (!slots.isFree(slot)) continue;
    slots.reserve(slot);
    bus.kept.set(id, slot);
  }
}

/** Takes back what a device had that is gone. */
export function release(bus: Bus, placement: Placement): void {
  const { id, segment, slot, bar0, bar0Is64Bit, bar0Size, bar2 } = placement;
  const { slots, bars32, bars64 } = bus.segments[segment] as Segment;
  bus.placements.splice(bus.placements.indexOf(placement), 1);
  bus.ids.release(id);
  slots.release(slot);
  (bar0Is64Bit ? bars64 : bars32).release(bar0, bar0Size);
  if (bar2) bars64.release(bar2.base, bar2.size);
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
): Pick<PciFunctionSpec, 'id' | 'segment' | 'slot' | 'bar0' | 'bar0Is64Bit' | 'bar2'> {
  const virtio = barSize === undefined;
  const segment = device.pci_segment ?? 0;
  const { slots, bars32, bars64 } = segmentOf(bus, device);
  const slot = device.pci_device_id ?? bus.kept.get(id) ?? slots.allocate();
  // Firmware that reaches nothing above 4 GiB knows no segment but 0 either.
  const bar0Is64Bit = virtio && !(below4G && segment === 0);
  const bars = bar0Is64Bit ? bars64 : bars32;
  const bar0Size = barSize ?? VIRTIO_BAR_SIZE;
  const bar0 = bars.allocate(bar0Size);
  const iommu = device.iommu === true;
  const place = { device: name, virtio, index, segment, slot, iommu };
  const placement = { id, kind, ...place, bar0, bar0Is64Bit, bar0Size };
  if (memory === 0) {
    bus.placements.push(placement);
    return { id, segment, slot, bar0, bar0Is64Bit };
  }
  const bar2 = allocateBeside(bars64, memory, () => bars.release(bar0, bar0Size));
  bus.placements.push({ ...placement, bar2: { base: bar2, size: memory } });
  return { id, segment, slot, bar0, bar0Is64Bit, bar2 };
}

/** @param undo gives back what the function has already, should there be no room */
function allocateBeside(bars: BarAllocator, size: number, undo: () => void): number {
  try {
    return bars.allocate(size);
  } catch (error) {
    undo();
    throw error;
  }
}
