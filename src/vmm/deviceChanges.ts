/** Adding devices to a configuration and removing them. */
import { validateVmConfig } from '../config/validate.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { AnyDeviceRecord, Device } from '../devices/record.ts';
import { configuredDevices, type DeviceName, deviceNamed, deviceRecords } from '../devices/registry.ts';
import { VmmError } from './errors.ts';

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
  try {
    validateVmConfig(wanted);
  } catch (error) {
    throw new VmmError('Failed to validate config', { cause: error });
  }
  return wanted;
}

function withField(config: VmConfig, { field }: AnyDeviceRecord, value: unknown): VmConfig {
  return { ...config, [field]: value };
}

/**
 * The configuration without the device of that identifier, and the device.
 * @throws VmmError `missing` if there is none
 */
export function configWithoutDevice(
  config: VmConfig,
  id: string,
): { readonly config: VmConfig; readonly record: AnyDeviceRecord; readonly device: Device } {
  const found = findRemovable(config, id);
  if (!found) throw new VmmError(`No device with id "${id}" to remove`, { kind: 'missing' });
  const { record, device } = found;
  const rest = configuredDevices(config, record).filter((one) => one !== device);
  const without = withField(config, record, record.schema.type === 'array' ? rest : undefined);
  if (record.schema.type !== 'array') delete (without as Record<string, unknown>)[record.field];
  return { config: without, record, device };
}

export function findRemovable(
  config: VmConfig,
  id: string,
): { readonly record: AnyDeviceRecord; readonly device: Device } | undefined {
  for (const record of deviceRecords) {
    if (!record.addition) continue;
    const device = configuredDevices(config, record).find((one) => one.id === id);
    if (device) return { record, device };
  }
  return undefined;
}
