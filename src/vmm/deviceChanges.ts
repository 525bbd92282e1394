/** Adding devices to a VM and removing them: today, to and from its configuration. */
import { validateVmConfig } from '../config/validate.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { AnyDeviceRecord, Device } from '../devices/record.ts';
import { configuredDevices, type DeviceName, deviceNamed, deviceRecords } from '../devices/registry.ts';
import { notSupportedYet, VmmError } from './errors.ts';

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
 * The configuration without the device of that identifier, and the descriptors that the device had.
 * @throws VmmError `missing` if there is none
 */
export function configWithoutDevice(
  config: VmConfig,
  id: string,
): { readonly config: VmConfig; readonly descriptors: readonly number[] } {
  const found = findRemovable(config, id);
  if (!found) throw new VmmError(`No device with id "${id}" to remove`, { kind: 'missing' });
  const { record, device } = found;
  const rest = configuredDevices(config, record).filter((one) => one !== device);
  const without = withField(config, record, record.schema.type === 'array' ? rest : undefined);
  if (record.schema.type !== 'array') delete (without as Record<string, unknown>)[record.field];
  return { config: without, descriptors: descriptorsOf(record, device) };
}

function descriptorsOf({ addition }: AnyDeviceRecord, device: Device): readonly number[] {
  const field = addition?.descriptors?.field ?? '';
  const value = (device as Readonly<Record<string, unknown>>)[field];
  return Array.isArray(value) ? value : typeof value === 'number' ? [value] : [];
}

function findRemovable(
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

/** Removing this device from a machine is refused: which it is decides why. @throws VmmError */
export function refuseRemoval(config: VmConfig, id: string, machineIds: readonly string[]): never {
  const plain = id.replace(/^_virtio-pci-/, '');
  if (findRemovable(config, plain)) throw notSupportedYet('Removing a device from a running VM');
  if (machineIds.includes(plain)) {
    throw new VmmError(`The device ${plain} cannot be removed`, { code: 'ERR_TSVMM_STATE' });
  }
  throw new VmmError(`No device with id "${id}" to remove`, { kind: 'missing' });
}
