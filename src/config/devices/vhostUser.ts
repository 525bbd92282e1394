/** Devices that another process serves: virtio-fs and any other by vhost-user, and vDPA. */
import { U16, U32 } from '../limits.ts';
import { invalid, isPowerOfTwo, MAX_QUEUE_SIZE } from '../rules.ts';
import { type Infer, once } from '../schema.ts';
import { pciCommon } from './pci.ts';

/** What the tag has room for (virtio 1.2 §5.11.4). */
const MAX_TAG_BYTES = 36;
/** Devices that only the VMM itself can be (virtio 1.2 §5): IOMMU and watchdog. */
const REFUSED_DEVICE_TYPES: readonly number[] = [23, 35];

/** Device types by name (virtio 1.2 §5). */
const DEVICE_TYPES = {
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

const fsFields = once(
  () =>
    ({
      ...pciCommon,
      tag: { type: 'string', required: true, help: 'What the guest mounts, at most 36 bytes' },
      socket: { type: 'string', required: true, help: 'UNIX socket of virtiofsd' },
      num_queues: { type: 'integer', max: U16, default: 1, help: 'Number of queues, at most one per vCPU' },
      queue_size: {
        type: 'integer',
        max: U16,
        default: 1024,
        help: 'Descriptors in a queue, a power of two',
      },
    }) as const,
);

export const fsConfig = {
  type: 'object',
  name: 'FsConfig',
  get fields() {
    return fsFields();
  },
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

export const genericVhostUserConfig = {
  type: 'object',
  name: 'GenericVhostUserConfig',
  get fields() {
    return genericVhostUserFields();
  },
} as const;

const vdpaFields = once(
  () =>
    ({
      ...pciCommon,
      path: { type: 'string', required: true, help: 'The vhost-vdpa device of the host' },
      num_queues: { type: 'integer', max: U16, default: 1, help: 'Number of queues' },
    }) as const,
);

export const vdpaConfig = {
  type: 'object',
  name: 'VdpaConfig',
  get fields() {
    return vdpaFields();
  },
} as const;

export type FsConfig = Infer<typeof fsConfig>;
export type GenericVhostUserConfig = Infer<typeof genericVhostUserConfig>;
export type VdpaConfig = Infer<typeof vdpaConfig>;

/** @throws ConfigError */
export function validateFs(fs: FsConfig, bootVcpus: number, sharedMemory: boolean): void {
  const name = `The file system ${fs.tag}`;
  if (fs.tag === '' || new TextEncoder().encode(fs.tag).length > MAX_TAG_BYTES) {
    throw invalid(`The file system's tag "${fs.tag}" is not of 1 to ${MAX_TAG_BYTES} bytes`);
  }
  if (fs.num_queues < 1) throw invalid(`${name} needs at least one queue`);
  if (fs.num_queues > bootVcpus) {
    throw invalid(`${name} has more queues (${fs.num_queues}) than there are vCPUs (${bootVcpus})`);
  }
  if (!isPowerOfTwo(fs.queue_size) || fs.queue_size > MAX_QUEUE_SIZE) {
    throw invalid(
      `${name} has queue_size ${fs.queue_size}, which is not a power of two up to ${MAX_QUEUE_SIZE}`,
    );
  }
  validateVhostUser(name, fs, sharedMemory);
}

/** @throws ConfigError */
export function validateGenericVhostUser(device: GenericVhostUserConfig, sharedMemory: boolean): void {
  const name = `The vhost-user device ${device.id ?? device.socket}`;
  if (device.queue_sizes.length === 0) throw invalid(`${name} needs queue_sizes`);
  if (REFUSED_DEVICE_TYPES.includes(device.device_type)) {
    throw invalid(`${name} has device_type ${device.device_type}, which no vhost-user back end can be`);
  }
  validateVhostUser(name, device, sharedMemory);
}

/**
 * What every vhost-user back end needs.
 * @throws ConfigError
 */
export function validateVhostUser(
  name: string,
  device: { readonly iommu?: boolean },
  sharedMemory: boolean,
): void {
  if (!sharedMemory)
    throw invalid(`${name} is served by vhost-user, which needs --memory shared=on or hugepages=on`);
  if (device.iommu) throw invalid(`${name} is served by vhost-user and cannot be behind an IOMMU`);
}
