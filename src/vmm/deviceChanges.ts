/** Adding devices to a configuration and removing them. */
import { validateVmConfig } from '../config/validate.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { AnyDeviceRecord, Device } from '../devices/record.ts';
import { configuredDevices, type DeviceName, deviceNamed, deviceRecords } from '../devices/registry.ts';
import { refuseInvalid, VmmError } from './errors.ts';

/** The text is part of the REST API. */
export function addFailureText(name: DeviceName): string {
  const { addition } = deviceNamed(name);
  return `The ${addition?.called ?? name} could not be added to the VM`;
}

/**
 * The configuration with that device, which is valid.
 * @throws VmmError
 */
export function configWithDevice(config: VmConfig, name: DeviceName, device: Device): VmConfig {
  const record = deviceNamed(name);
  const present = configuredDevices(config, record);
  const many = record.schema.type === 'array';
  if (!many && present.length > 0) {
    throw new VmmError(`Too many virtio-${name} devices`, { code: 'ERR_TSVMM_DUPLICATE_ID' });
  }
  record.checkAddition?.(device, config);
  const wanted = withField(config, record, many ? [...present, device] : device);
  refuseInvalid(() => validateVmConfig(wanted));
  return wanted;
}

function withField(config: VmConfig, { field }: AnyDeviceRecord, value: unknown): VmConfig {
  return { ...config, [field]: value };
}

/** A device of a configuration, and its kind. */
export interface ConfiguredDevice {
  readonly record: AnyDeviceRecord;
  readonly device: Device;
}

export function configWithoutDevice(config: VmConfig, { record, device }: ConfiguredDevice): VmConfig {
  const rest = configuredDevices(config, record).filter((one) => one !== device);
  const without = withField(config, record, record.schema.type === 'array' ? rest : undefined);
  if (record.schema.type !== 'array') delete (without as Record<string, unknown>)[record.field];
  return without;
}

/** What is said of an identifier that no device has. */
export function noSuchDevice(id: string): VmmError {
  return new VmmError(`No device with id "${id}" to remove`, { kind: 'missing' });
}

/** The device of that identifier, if it is of a kind that comes and goes. */
export function findRemovable(config: VmConfig, id: string): ConfiguredDevice | undefined {
  for (const record of deviceRecords) {
    if (!record.addition) continue;
    const device = configuredDevices(config, record).find((one) => one.id === id);
    if (device) return { record, device };
  }
  return undefined;
}
