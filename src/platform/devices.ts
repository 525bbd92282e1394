/** Gives every PCI device its name, number and addresses, in the order in which guests expect to find them. */
import type { VmConfig } from '../config/vmConfig.ts';
import type { AnyMachineDeviceRecord, Device } from '../devices/record.ts';
import { devicesOfAll, presentDevices } from '../devices/registry.ts';
import type { PciFunctionSpec } from '../native.ts';
import { type Bus, createBus, place, reserveSlots, segmentOf } from './bus.ts';
import { deviceIds, newId } from './deviceIds.ts';
import type { Placement } from './placement.ts';
import type { BootResources } from './plan.ts';
import type { SegmentWindows } from './segments.ts';

/** Where a function is that is no virtio device. */
interface PlainFunction {
  readonly slot: number;
  readonly bar0: number;
}

export interface DevicePlan {
  readonly functions: readonly PciFunctionSpec[];
  /** By the name of their kind. */
  readonly plainFunctions: Readonly<Record<string, PlainFunction>>;
  readonly bus: Bus;
}

const NONE: ReadonlyMap<string, number> = new Map();

/**
 * Places all devices.
 * @throws PlatformError `ERR_TSVMM_PCI_SLOT` or `ERR_TSVMM_PCI_BAR`
 */
export function planDevices(
  config: VmConfig,
  { devices: opened, keptSlots = NONE }: BootResources,
  windows: readonly SegmentWindows[],
): DevicePlan {
  const bus = createBus(windows);
  const present = presentDevices(config);
  reserveSlots(bus, devicesOfAll(present), keptSlots);
  const ids = deviceIds(config, bus.ids, present);
  const functions: PciFunctionSpec[] = [];
  const plainFunctions: Record<string, PlainFunction> = {};
  for (const { record, devices } of present) {
    for (let index = 0; index < devices.length; index++) {
      const device = devices[index] as Device;
      const id = ids[record.name]?.[index] as string;
      const { barSize, below4G = false } = record.needs ?? {};
      if (barSize !== undefined) {
        plainFunctions[record.name] = addPlain(bus, record, device, id, barSize);
        continue;
      }
      const resource = opened[record.name]?.[index];
      const planned = planVirtio(bus, config, { record, device, index, id, resource, below4G });
      if (planned) functions.push(planned);
    }
  }
  return { functions, plainFunctions, bus };
}

/** A device that joins those of a machine that runs. */
export interface AddedDevice {
  readonly function: PciFunctionSpec;
  readonly placement: Placement;
}

/**
 * Places one device more.
 * @param index its place among those of its kind in `config`, which has it
 * @throws PlatformError `ERR_TSVMM_PCI_SLOT` or `ERR_TSVMM_PCI_BAR`, with nothing taken
 */
export function planAddition(
  bus: Bus,
  config: VmConfig,
  { record, device, index, resource }: Omit<VirtioDevice, 'id' | 'below4G'>,
): AddedDevice {
  const { slots } = segmentOf(bus, device);
  const before = slots.mark();
  if (device.pci_device_id !== undefined) slots.reserve(device.pci_device_id);
  if (device.id !== undefined) bus.ids.take(device.id);
  const id = device.id ?? newId(record, bus.ids);
  try {
    // Firmware, which may not reach registers above 4 GiB, has had its time.
    const planned = planVirtio(bus, config, { record, device, index, id, resource, below4G: false });
    if (planned === undefined) return refuse(`The core has no device of the kind ${record.name}`);
    return { function: planned, placement: bus.placements.at(-1) as Placement };
  } catch (error) {
    slots.rewind(before);
    bus.ids.release(id);
    throw error;
  }
}

function addPlain(
  bus: Bus,
  record: AnyMachineDeviceRecord,
  device: Device,
  id: string,
  barSize: number,
): PlainFunction {
  const { slot, bar0 } = place(bus, record, device, 0, { id, kind: record.name, barSize });
  return { slot, bar0 };
}

interface VirtioDevice {
  readonly record: AnyMachineDeviceRecord;
  readonly device: Device;
  readonly index: number;
  readonly id: string;
  /** What its record has opened. */
  readonly resource: unknown;
  /** Its registers are below 4 GiB. */
  readonly below4G: boolean;
}

function planVirtio(
  bus: Bus,
  config: VmConfig,
  { record, device, index, id, resource, below4G }: VirtioDevice,
): PciFunctionSpec | undefined {
  // What no machine has yet is refused before (`config/bootable.ts`).
  if (!record.specification) return undefined;
  if (record.opening && resource === undefined) {
    refuse(`Device ${index} of the kind ${record.name} has not been opened`);
  }
  const specification = record.specification(device, resource, config);
  const memory = record.needs?.memory?.(resource) ?? 0;
  const common = place(bus, record, device, index, { id, kind: specification.kind, memory, below4G });
  return { ...common, ...(device.iommu && { iommu: true }), ...specification };
}

/** Apart: the runtime makes the classes of errors when functions that name them are first called. */
function refuse(message: string): never {
  throw new RangeError(message);
}
