/** Devices of the host that are given to the guest (VFIO). */
import { ConfigError } from '../config/configError.ts';
import { MAX_FD, U8 } from '../config/limits.ts';
import { invalid } from '../config/rules.ts';
import { type Infer, once } from '../config/schema.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord } from './record.ts';

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

const deviceConfig = {
  type: 'object',
  name: 'DeviceConfig',
  mainKey: 'path',
  get fields() {
    return deviceFields();
  },
} as const;

type DeviceConfig = Infer<typeof deviceConfig>;

const deviceList = {
  type: 'array',
  items: deviceConfig,
  unsupported: true,
  help: 'Devices of the host (VFIO)',
} as const;

export const vfio: DeviceRecord<'device', 'devices', typeof deviceList> = {
  name: 'device',
  field: 'devices',
  schema: deviceList,
  option: { kind: 'list' },
  ids: { prefix: '_vfio' },
  listing: { called: 'host device', backedBy: ({ path }, { text }) => text(path) },
  addition: {
    called: 'device',
    help: 'a device of the host (VFIO)',
    descriptors: { field: 'fd', many: false },
  },
  checkAll: validateDevices,
};

function validateDevices(devices: readonly DeviceConfig[], { platform }: VmConfig): void {
  const peerToPeer = platform?.vfio_p2p_dma ?? true;
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
