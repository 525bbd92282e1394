/** Adding devices to a VM and removing them: today, to and from its configuration. */
import { type DeviceKind, type ListedDevice, withDevice, withoutDevice } from '../config/deviceLists.ts';
import type { UserDeviceConfig } from '../config/devices/assigned.ts';
import { validateVmConfig } from '../config/validate.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { notSupportedYet, VmmError } from './errors.ts';

/** What a device that is not added is called; the texts are part of the REST API. */
const names: Readonly<Record<DeviceKind, string>> = {
  device: 'device',
  'user-device': 'user device',
  disk: 'disk',
  fs: 'fs',
  'generic-vhost-user': 'generic vhost-user device',
  pmem: 'pmem device',
  net: 'network device',
  vdpa: 'vDPA device',
  vsock: 'vsock device',
};

export function addFailureText(kind: DeviceKind): string {
  return `The ${names[kind]} could not be added to the VM`;
}

/**
 * The configuration with that device, which is valid.
 * @throws VmmError
 */
export function configWithDevice(config: VmConfig, kind: DeviceKind, device: object): VmConfig {
  if (kind === 'vsock' && config.vsock) {
    throw new VmmError('Too many virtio-vsock devices', { code: 'ERR_TSVMM_DUPLICATE_ID' });
  }
  if (kind === 'user-device') refuseSameSocket(config, (device as UserDeviceConfig).socket);
  const wanted = withDevice(config, kind, device);
  try {
    validateVmConfig(wanted);
  } catch (error) {
    throw new VmmError('Failed to validate config', { cause: error });
  }
  return wanted;
}

function refuseSameSocket({ user_devices: devices = [] }: VmConfig, socket: string): void {
  if (!devices.some((other) => other.socket === socket)) return;
  throw new VmmError(`The socket ${socket} is used by another user device`, {
    code: 'ERR_TSVMM_DUPLICATE_ID',
  });
}

/**
 * The configuration without the device of that identifier, and the device.
 * @throws VmmError `missing` if there is none
 */
export function configWithoutDevice(
  config: VmConfig,
  id: string,
): { readonly config: VmConfig; readonly device: ListedDevice } {
  const found = withoutDevice(config, id);
  if (found) return found;
  throw new VmmError(`No device with id "${id}" to remove`, { kind: 'missing' });
}

/** Removing this device from a machine is refused: which it is decides why. @throws VmmError */
export function refuseRemoval(config: VmConfig, id: string, machineIds: readonly string[]): never {
  const plain = id.replace(/^_virtio-pci-/, '');
  if (withoutDevice(config, plain)) {
    throw notSupportedYet('Removing a device from a running VM');
  }
  if (machineIds.includes(plain)) {
    throw new VmmError(`The device ${plain} cannot be removed`, { code: 'ERR_TSVMM_STATE' });
  }
  throw new VmmError(`No device with id "${id}" to remove`, { kind: 'missing' });
}
