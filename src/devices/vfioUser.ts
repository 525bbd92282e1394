/** Devices that other processes implement (vfio-user). */
import { isShared } from '../config/memory.ts';
import { invalid } from '../config/rules.ts';
import { type Infer, once } from '../config/schema.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { VmmError } from '../vmm/errors.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord } from './record.ts';

const userDeviceFields = once(
  () =>
    ({
      ...pciCommon,
      socket: { type: 'string', required: true, help: 'UNIX socket of the vfio-user server' },
    }) as const,
);

const userDeviceConfig = {
  type: 'object',
  name: 'UserDeviceConfig',
  mainKey: 'socket',
  get fields() {
    return userDeviceFields();
  },
} as const;

type UserDeviceConfig = Infer<typeof userDeviceConfig>;

const userDeviceList = {
  type: 'array',
  items: userDeviceConfig,
  unsupported: true,
  help: 'Devices that other processes are (vfio-user)',
} as const;

export const vfioUser: DeviceRecord<'user-device', 'user_devices', typeof userDeviceList> = {
  name: 'user-device',
  field: 'user_devices',
  schema: userDeviceList,
  option: { kind: 'list' },
  ids: { prefix: '_vfio-user' },
  listing: { called: 'vfio-user', backedBy: ({ socket }, { text }) => text(socket) },
  addition: { called: 'user device', help: 'a device that another process serves (vfio-user)' },
  check({ socket, iommu }: UserDeviceConfig, { memory }: VmConfig) {
    if (iommu) throw invalid('A vfio-user device cannot be behind an IOMMU');
    if (!isShared(memory)) {
      throw invalid(`The vfio-user device ${socket} needs --memory shared=on or hugepages=on`);
    }
  },
  checkAddition({ socket }: UserDeviceConfig, { user_devices: others = [] }) {
    if (!others.some((other) => other.socket === socket)) return;
    throw new VmmError(`The socket ${socket} is used by another user device`, {
      code: 'ERR_TSVMM_DUPLICATE_ID',
    });
  },
};
