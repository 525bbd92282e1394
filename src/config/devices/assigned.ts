/** Devices of the host that are given to the guest: by VFIO, and by vfio-user. */
import { ConfigError } from '../configError.ts';
import { MAX_FD, U8 } from '../limits.ts';
import { invalid } from '../rules.ts';
import { type Infer, once } from '../schema.ts';
import { pciCommon } from './pci.ts';

/** Of a PCI function (PCI Local Bus 3.0 §6.2.5.1). */
const LAST_BAR = 5;

const deviceFields = once(
  () =>
    ({
      ...pciCommon,
      path: { type: 'string', help: 'Folder of the device in sysfs' },
      fd: {
        type: 'integer',
        max: MAX_FD,
        help: 'Inherited descriptor of the VFIO device, instead of a path',
      },
      x_nv_gpudirect_clique: { type: 'integer', max: U8, help: 'NVIDIA GPUDirect clique' },
      x_exclude_mmap_bars: {
        type: 'array',
        items: { type: 'integer', max: U8 },
        help: 'BARs that are not mapped into the guest, 0 to 5',
      },
    }) as const,
);

export const deviceConfig = {
  type: 'object',
  name: 'DeviceConfig',
  mainKey: 'path',
  get fields() {
    return deviceFields();
  },
} as const;

const userDeviceFields = once(
  () =>
    ({
      ...pciCommon,
      socket: { type: 'string', required: true, help: 'UNIX socket of the vfio-user server' },
    }) as const,
);

export const userDeviceConfig = {
  type: 'object',
  name: 'UserDeviceConfig',
  mainKey: 'socket',
  get fields() {
    return userDeviceFields();
  },
} as const;

export type DeviceConfig = Infer<typeof deviceConfig>;
export type UserDeviceConfig = Infer<typeof userDeviceConfig>;

/** @throws ConfigError */
export function validateDevices(devices: readonly DeviceConfig[], peerToPeer: boolean): void {
  const paths = new Set<string>();
  for (const { path, fd, x_nv_gpudirect_clique: clique, x_exclude_mmap_bars: bars = [] } of devices) {
    const name = `The device ${path ?? fd}`;
    if ((path === undefined) === (fd === undefined)) throw invalid('A device needs either a path or an fd');
    if (clique !== undefined && !peerToPeer) {
      throw invalid(`${name} has x_nv_gpudirect_clique, which needs --platform vfio_p2p_dma=on`);
    }
    const bad = bars.find((bar) => bar > LAST_BAR);
    if (bad !== undefined) throw invalid(`${name} has no BAR ${bad}: they are 0 to ${LAST_BAR}`);
    if (path === undefined) continue;
    if (paths.has(path)) throw new ConfigError('duplicate', `The device ${path} is given twice`);
    paths.add(path);
  }
}

/** @throws ConfigError */
export function validateUserDevice(device: UserDeviceConfig): void {
  if (device.iommu) throw invalid('A vfio-user device cannot be behind an IOMMU');
}
