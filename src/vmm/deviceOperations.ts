/** Control operations on a machine's devices: named by the device's record, addressed by its identifier. */
import type { Uint64 } from '../config/uint64.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { AnyDeviceRecord, Device, DeviceCalls, DeviceOperation } from '../devices/record.ts';
import { type DeviceName, deviceNamed, devicesOf, idOf } from '../devices/registry.ts';
import type { NativeAddon } from '../native.ts';
import { VmmError } from './errors.ts';
import type { Machine } from './machine.ts';

/** An operation whose device has been found. */
export interface FoundOperation {
  /** The machine does not answer meanwhile. */
  readonly busy: boolean;
  /** @throws VmmError */
  run(machine: Pick<Machine, 'handle'>): Promise<void>;
}

/**
 * @param id of a device of that kind; the only one's unless given
 * @throws VmmError `missing` if there is no device of that identifier, `failed` if there is none at all
 */
export function findOperation(
  native: NativeAddon,
  config: VmConfig,
  kind: DeviceName,
  operation: string,
  operands: readonly Uint64[],
  id?: string,
): FoundOperation {
  const record = deviceNamed(kind);
  const device = findDevice(config, record, id);
  const { busy = false, run } = operationOf(record, operation);
  const name = idOf(record, device);
  return {
    busy,
    run: async (machine) => {
      await run(deviceCalls(native, machine), name, device, config, operands);
    },
  };
}

export function deviceCalls(native: NativeAddon, { handle }: Pick<Machine, 'handle'>): DeviceCalls {
  return { call: (...operate) => native.machineOperate(handle, ...operate) };
}

function findDevice(config: VmConfig, record: AnyDeviceRecord, id: string | undefined): Device {
  const devices = devicesOf(config, record);
  const device = id === undefined ? devices[0] : devices.find((one) => idOf(record, one) === id);
  if (device) return device;
  if (id !== undefined) throw new VmmError(`There is no ${record.name} with id "${id}"`, { kind: 'missing' });
  // Nothing was asked for by its name.
  throw new VmmError(`The VM has no ${record.name}`, { kind: 'failed', code: 'ERR_TSVMM_MISSING' });
}

function operationOf(record: AnyDeviceRecord, name: string): DeviceOperation<Device> {
  const operation = record.operations?.[name];
  if (operation) return operation;
  throw new VmmError(`A ${record.name} has no operation ${name}`, { kind: 'invalid' });
}
