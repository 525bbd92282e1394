/** Gives every PCI device its name, number and addresses, in the order in which guests expect to find them. */
import type { VmConfig } from '../config/vmConfig.ts';
import type { AnyDeviceRecord, Device } from '../devices/record.ts';
import { deviceRecords, devicesOf } from '../devices/registry.ts';
import type { PciFunctionSpec } from '../native.ts';
import { type Bus, createBus, place, reserveNames, type Window } from './bus.ts';
import type { BootResources, Placement } from './plan.ts';

/** Where a function is that is no virtio device. */
export interface PlainFunction {
  readonly slot: number;
  readonly bar0: number;
}

export interface DevicePlan {
  readonly functions: readonly PciFunctionSpec[];
  /** By the name of their kind. */
  readonly plainFunctions: Readonly<Record<string, PlainFunction>>;
  readonly placements: readonly Placement[];
}

/**
 * Places all devices.
 * @throws PlatformError `ERR_TSVMM_PCI_SLOT` or `ERR_TSVMM_PCI_BAR`
 */
export function planDevices(
  config: VmConfig,
  { devices: opened }: BootResources,
  window32: Window,
  window64: Window,
): DevicePlan {
  const bus = createBus(window32, window64);
  reserveNames(bus, config);
  const plainFunctions: Record<string, PlainFunction> = {};
  for (const record of deviceRecords) {
    const devices = devicesOf(config, record);
    const barSize = record.needs?.barSize;
    for (let index = 0; index < devices.length; index++) {
      const device = devices[index] as Device;
      if (barSize === undefined) addVirtio(bus, config, record, device, index, opened);
      else plainFunctions[record.name] = placeFunction(bus, record, device, index, barSize);
    }
  }
  return { ...bus, plainFunctions };
}

function placeFunction(
  bus: Bus,
  record: AnyDeviceRecord,
  device: Device,
  index: number,
  barSize: number,
): PlainFunction {
  const { slot, bar0 } = place(bus, record, device, index, { kind: record.name, barSize });
  return { slot, bar0 };
}

function addVirtio(
  bus: Bus,
  config: VmConfig,
  record: AnyDeviceRecord,
  device: Device,
  index: number,
  opened: BootResources['devices'],
): void {
  // What no machine has yet is refused before (`config/bootable.ts`).
  if (!record.specification) return;
  const resource = opened[record.name]?.[index];
  if (record.opening && resource === undefined) {
    throw new RangeError(`Device ${index} of the kind ${record.name} has not been opened`);
  }
  const specification = record.specification(device, resource, config);
  const memory = record.needs?.memory?.(resource) ?? 0;
  const common = place(bus, record, device, index, { kind: specification.kind, memory });
  bus.functions.push({ ...common, ...specification });
}
