/** The lists of a configuration that devices are added to, and removed from. */
import { deviceConfig, userDeviceConfig } from './devices/assigned.ts';
import { diskConfig } from './devices/disk.ts';
import { netConfig } from './devices/net.ts';
import { pmemConfig } from './devices/pmem.ts';
import { fsConfig, genericVhostUserConfig, vdpaConfig } from './devices/vhostUser.ts';
import { vsockConfig } from './devices/vsock.ts';
import type { ObjectShape } from './schema.ts';
import type { VmConfig } from './vmConfig.ts';

/** Each kind of device by its name in the API: where it is in the configuration, and what it is made of. */
export const deviceLists = {
  device: { field: 'devices', shape: deviceConfig },
  'user-device': { field: 'user_devices', shape: userDeviceConfig },
  disk: { field: 'disks', shape: diskConfig },
  fs: { field: 'fs', shape: fsConfig },
  'generic-vhost-user': { field: 'generic_vhost_user', shape: genericVhostUserConfig },
  pmem: { field: 'pmem', shape: pmemConfig },
  net: { field: 'net', shape: netConfig },
  vdpa: { field: 'vdpa', shape: vdpaConfig },
  vsock: { field: 'vsock', shape: vsockConfig },
} as const satisfies Readonly<Record<string, { field: keyof VmConfig; shape: ObjectShape }>>;

export type DeviceKind = keyof typeof deviceLists;

/** A device of one of the lists. */
export interface ListedDevice {
  readonly id?: string;
  /** Of a network device. */
  readonly fds?: readonly number[];
  /** Of a device of the host. */
  readonly fd?: number;
}

type Lists = Record<string, ListedDevice[] | ListedDevice | undefined>;

function listsOf(config: VmConfig): Lists {
  return config as unknown as Lists;
}

/** The configuration with one device more, of which it is the only part that is new. */
export function withDevice(config: VmConfig, kind: DeviceKind, device: object): VmConfig {
  const { field } = deviceLists[kind];
  if (kind === 'vsock') return { ...config, vsock: device as NonNullable<VmConfig['vsock']> };
  const list = listsOf(config)[field] as ListedDevice[] | undefined;
  return { ...config, [field]: [...(list ?? []), device] };
}

/** The configuration without that device, and the device; undefined if there is none with that identifier. */
export function withoutDevice(
  config: VmConfig,
  id: string,
): { readonly config: VmConfig; readonly device: ListedDevice } | undefined {
  for (const { field } of Object.values(deviceLists)) {
    const list = listsOf(config)[field];
    if (!Array.isArray(list)) {
      if (list?.id !== id) continue;
      const { [field]: device, ...rest } = listsOf(config);
      return { config: rest as unknown as VmConfig, device: device as ListedDevice };
    }
    const device = list.find((one) => one.id === id);
    if (device === undefined) continue;
    return { config: { ...config, [field]: list.filter((one) => one !== device) }, device };
  }
  return undefined;
}
