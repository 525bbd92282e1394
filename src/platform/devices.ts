/** Gives every PCI device its name, number and addresses, in the order in which guests expect to find them. */
import type { VmConfig } from '../config/vmConfig.ts';
import type { AnyDeviceRecord, Device } from '../devices/record.ts';
import { deviceRecords, devicesOf } from '../devices/registry.ts';
import type { PciFunctionSpec } from '../native.ts';
import { type Bus, createBus, place, reserveSlots, type Window } from './bus.ts';
import { deviceIds } from './deviceIds.ts';
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
  reserveSlots(bus, config);
  const ids = deviceIds(config);
  const plainFunctions: Record<string, PlainFunction> = {};
  for (const record of deviceRecords) {
    const devices = devicesOf(config, record);
    for (let index = 0; index < devices.length; index++) {
      const device = devices[index] as Device;
      const id = ids[record.name]?.[index] as string;
      if (record.needs?.barSize === undefined) {
        addVirtio(bus, config, { record, device, index, id, resource: opened[record.name]?.[index] });
      } else {
        plainFunctions[record.name] = addPlain(bus, record, device, id, record.needs.barSize);
      }
    }
  }
  return { ...bus, plainFunctions };
}

function addPlain(
  bus: Bus,
  record: AnyDeviceRecord,
  device: Device,
  id: string,
  barSize: number,
): PlainFunction {
  const { slot, bar0 } = place(bus, record, device, 0, { id, kind: record.name, barSize });
  return { slot, bar0 };
}

interface VirtioDevice {
  readonly record: AnyDeviceRecord;
  readonly device: Device;
  readonly index: number;
  readonly id: string;
  /** What its record has opened. */
  readonly resource: unknown;
}

function addVirtio(bus: Bus, config: VmConfig, { record, device, index, id, resource }: VirtioDevice): void {
  // What no machine has yet is refused before (`config/bootable.ts`).
  if (!record.specification) return;
  if (record.opening && resource === undefined) {
    throw new RangeError(`Device ${index} of the kind ${record.name} has not been opened`);
  }
  const specification = record.specification(device, resource, config);
  const memory = record.needs?.memory?.(resource) ?? 0;
  const common = place(bus, record, device, index, { id, kind: specification.kind, memory });
  bus.functions.push({ ...common, ...specification });
}
