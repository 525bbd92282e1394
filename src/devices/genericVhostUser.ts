/** Any device that another process serves by vhost-user. */
import { U16, U32 } from '../config/limits.ts';
import { isShared } from '../config/memory.ts';
import { invalid } from '../config/rules.ts';
import { type Infer, once } from '../config/schema.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord } from './record.ts';
import { validateVhostUser } from './vhostUser.ts';

/** Devices that only the VMM itself can be (virtio 1.2 §5): IOMMU and watchdog. */
export const REFUSED_DEVICE_TYPES: readonly number[] = [23, 35];

/** Device types by name (virtio 1.2 §5). */
export const DEVICE_TYPES = {
  net: 1,
  block: 2,
  console: 3,
  rng: 4,
  scsi: 8,
  gpu: 16,
  input: 18,
  vsock: 19,
  fs: 26,
  sound: 25,
  i2c: 34,
  gpio: 41,
} as const;

const genericVhostUserFields = once(
  () =>
    ({
      ...pciCommon,
      socket: { type: 'string', required: true, help: 'UNIX socket of the back end' },
      queue_sizes: {
        type: 'array',
        items: { type: 'integer', max: U16 },
        required: true,
        help: 'Descriptors in each queue',
      },
      device_type: {
        type: 'integer',
        max: U32,
        required: true,
        alias: 'virtio_id',
        names: DEVICE_TYPES,
        help: 'Virtio device type, as a number or a name such as "scsi"',
      },
    }) as const,
);

const genericVhostUserConfig = {
  type: 'object',
  name: 'GenericVhostUserConfig',
  get fields() {
    return genericVhostUserFields();
  },
} as const;

type GenericVhostUserConfig = Infer<typeof genericVhostUserConfig>;

const genericVhostUserList = {
  type: 'array',
  items: genericVhostUserConfig,
  unsupported: true,
  help: 'Devices that other processes serve (vhost-user)',
} as const;

export const genericVhostUser: DeviceRecord<
  'generic-vhost-user',
  'generic_vhost_user',
  typeof genericVhostUserList
> = {
  name: 'generic-vhost-user',
  field: 'generic_vhost_user',
  schema: genericVhostUserList,
  option: { kind: 'list' },
  ids: { prefix: '_generic-vhost-user' },
  listing: { called: 'vhost-user', backedBy: ({ socket }, { text }) => text(socket) },
  addition: { called: 'generic vhost-user device', help: 'a device that a vhost-user back end serves' },
  check: validateGenericVhostUser,
};

function validateGenericVhostUser(device: GenericVhostUserConfig, { memory }: VmConfig): void {
  const name = `The vhost-user device ${device.id ?? device.socket}`;
  if (device.queue_sizes.length === 0) throw invalid(`${name} needs queue_sizes`);
  if (REFUSED_DEVICE_TYPES.includes(device.device_type)) {
    throw invalid(`${name} has device_type ${device.device_type}, which no vhost-user back end can be`);
  }
  validateVhostUser(name, device, isShared(memory));
}
